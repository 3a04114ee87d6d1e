//! Which claims the pods of a controller mount, read from its pod template. Pure.
//!
//! Needed for controllers whose pods are not in the backup: they too must not make pods with a
//! claim that is empty or being filled.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::apply::transform::{self, list, text};

/// Where controllers keep the spec of their pods.
const POD_SPECS: &[&str] = &[
    "/spec/template/spec",
    "/spec/jobTemplate/spec/template/spec",
];

/// A claim, or the claims that a StatefulSet makes for its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimName {
    /// This one.
    Exact(String),
    /// This and a number.
    Numbered(String),
}

/// Claims that the pods of `controller` mount.
pub(crate) fn claims_of(controller: &Value) -> Vec<ClaimName> {
    let mut claims: Vec<ClaimName> = POD_SPECS
        .iter()
        .flat_map(|spec| list(controller, &format!("{spec}/volumes")))
        .filter_map(|volume| text(volume, "/persistentVolumeClaim/claimName"))
        .map(|name| ClaimName::Exact(name.to_owned()))
        .collect();
    let name = transform::name(controller);
    for template in list(controller, "/spec/volumeClaimTemplates") {
        if let Some(template) = text(template, "/metadata/name") {
            claims.push(ClaimName::Numbered(format!("{template}-{name}-")));
        }
    }
    claims
}

/// Which of the claims `known` (namespace and name) are meant, in `namespace`.
pub(crate) fn named<'a>(
    names: &[ClaimName],
    namespace: &str,
    known: impl Iterator<Item = &'a (String, String)>,
) -> BTreeSet<String> {
    let is_meant = |claim: &str| {
        names.iter().any(|name| match name {
            ClaimName::Exact(name) => name == claim,
            ClaimName::Numbered(stem) => claim.strip_prefix(stem.as_str()).is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
            }),
        })
    };
    known
        .filter(|(of, claim)| of == namespace && is_meant(claim))
        .map(|(_, claim)| claim.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_of_each_kind_of_controller() {
        let volumes = json!([
            {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "e", "emptyDir": {}}]);
        let deployment = json!({"metadata": {"name": "web"},
            "spec": {"template": {"spec": {"volumes": volumes}}}});
        let cron = json!({"metadata": {"name": "c"},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": {"volumes": volumes}}}}}});
        let set = json!({"metadata": {"name": "db"},
            "spec": {"volumeClaimTemplates": [{"metadata": {"name": "files"}}], "template": {"spec": {}}}});
        let known: Vec<(String, String)> = [
            ("n", "data"),
            ("n", "files-db-0"),
            ("n", "files-db-11"),
            ("n", "files-db-x"),
            ("n", "files-db-"),
            ("other", "data"),
        ]
        .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
        .to_vec();
        for (controller, wanted) in [
            (deployment, vec!["data"]),
            (cron, vec!["data"]),
            (set, vec!["files-db-0", "files-db-11"]),
            (json!({"metadata": {"name": "cm"}}), vec![]),
        ] {
            let found = named(&claims_of(&controller), "n", known.iter());
            assert_eq!(
                found.into_iter().collect::<Vec<_>>(),
                wanted,
                "{controller}"
            );
        }
    }
}
