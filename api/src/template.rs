//! The Backup that a Schedule's template makes: one home for the operator, which makes it when it is due, and the
//! command, which makes it when asked to.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::{Backup, Schedule, label};

/// Beginnings of keys that are not handed on from a Schedule to its Backups: those of Ark, and those that tools put
/// on the objects they manage. A Backup that carried them would count as theirs: Argo CD would delete it, because
/// it is in no repository.
const NOT_HANDED_ON: &[&str] = &[
    "kubectl.kubernetes.io/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/instance",
    "ark.heptio.com/",
];

/// A Backup of `schedule` with the name `name`. Labels and annotations are the template's, or, where it has none,
/// the Schedule's own without those of tools.
pub fn backup(schedule: &Schedule, name: &str) -> Backup {
    let mut spec = schedule.spec.template.clone();
    let template = spec.metadata.take().unwrap_or_default();
    let mut backup = Backup::new(name, spec);
    backup.metadata.labels = Some(chosen(template.labels, schedule.labels()));
    backup.metadata.annotations =
        Some(chosen(template.annotations, schedule.annotations())).filter(|all| !all.is_empty());
    backup.labels_mut().insert(
        label::SCHEDULE_NAME.to_owned(),
        label::value(&schedule.name_any()),
    );
    backup
}

fn chosen(
    template: BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    if !template.is_empty() {
        return template;
    }
    own.iter()
        .filter(|(key, _)| !NOT_HANDED_ON.iter().any(|tool| key.starts_with(tool)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(metadata: &serde_json::Value, template: &serde_json::Value) -> Backup {
        let schedule = serde_json::from_value(serde_json::json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Schedule",
            "metadata": metadata, "spec": {"template": template},
        }));
        backup(&schedule.unwrap(), "daily-1")
    }

    #[test]
    fn a_backup_carries_what_its_schedule_carries_but_not_what_tools_put_there() {
        let backup = made(
            &serde_json::json!({
                "name": "daily",
                "labels": {"tier": "0", "app.kubernetes.io/managed-by": "Helm", "argocd.argoproj.io/instance": "x"},
                "annotations": {"note": "n", "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    "ark.heptio.com/run-uid": "u"},
            }),
            &serde_json::json!({"includedNamespaces": ["shop"]}),
        );
        let labels: Vec<&String> = backup.labels().keys().collect();
        assert_eq!(labels, [label::SCHEDULE_NAME, "tier"]);
        let annotations: Vec<&String> = backup.annotations().keys().collect();
        assert_eq!(annotations, ["note"]);
        assert_eq!(backup.spec.included_namespaces, ["shop"]);
    }

    #[test]
    fn the_template_s_labels_replace_those_of_the_schedule() {
        let backup = made(
            &serde_json::json!({"name": "daily", "labels": {"tier": "0"}}),
            &serde_json::json!({"metadata": {"labels": {"from": "template"}}}),
        );
        assert!(!backup.labels().contains_key("tier"));
        assert_eq!(backup.labels()["from"], "template");
        assert!(backup.spec.metadata.is_none());
    }
}
