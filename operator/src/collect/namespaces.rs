//! Which namespaces a backup takes. Pure.
//!
//! Ark's own namespace is taken only when it is named without a wildcard: its Secrets hold the
//! keys. The same holds for a namespace that is being deleted: what is left of it is taken only for
//! who asks for it by name.

use std::collections::BTreeMap;

use ark_api::annotation::velero_alias;
use ark_api::label::EXCLUDE_FROM_BACKUP;
use serde_json::Value;

use crate::apply::filter::glob;

/// What namespaces were chosen.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// The objects of the chosen namespaces, by name.
    pub(crate) objects: BTreeMap<String, Value>,
    /// All namespaces but Ark's own were meant, and none was left out by name.
    pub(crate) all: bool,
    /// Named, but not there.
    pub(crate) missing: Vec<String>,
    /// Taken because they are named, although they are being deleted.
    pub(crate) going: Vec<String>,
    /// Left out, and why: each gets a row.
    pub(crate) left_out: Vec<(String, &'static str)>,
    /// Patterns that match nothing.
    pub(crate) idle: Vec<String>,
}

/// Chooses from `all` namespaces. `own` is Ark's.
pub(crate) fn choose(include: &[String], exclude: &[String], all: Vec<Value>, own: &str) -> Chosen {
    let everything = include.is_empty() || include.iter().any(|name| name == "*");
    let mut chosen = Chosen {
        all: everything && exclude.is_empty(),
        ..Chosen::default()
    };
    let mut hits = vec![false; include.len()];
    for object in all {
        let name = text(&object, "/metadata/name").to_owned();
        let mut meant = include.is_empty();
        for (pattern, hit) in include.iter().zip(&mut hits) {
            if glob(pattern, &name) {
                *hit = true;
                meant = true;
            }
        }
        if !meant || exclude.iter().any(|pattern| glob(pattern, &name)) {
            continue;
        }
        let named = include.contains(&name);
        let going = text(&object, "/status/phase") == "Terminating";
        if name == own && !named {
            chosen.left_out.push((
                name,
                "Ark's own namespace is left out unless it is named: its Secrets hold the repository keys",
            ));
        } else if has_exclude_label(&object) {
            chosen.left_out.push((
                name,
                "the namespace carries the label that excludes it from backups",
            ));
        } else if going && !named {
            chosen
                .left_out
                .push((name, "the namespace is being deleted"));
        } else {
            if going {
                chosen.going.push(name.clone());
            }
            chosen.objects.insert(name, object);
        }
    }
    for (pattern, hit) in include.iter().zip(hits) {
        match (hit, is_pattern(pattern)) {
            (true, _) => {}
            (false, true) if pattern == "*" => {}
            (false, true) => chosen.idle.push(pattern.clone()),
            (false, false) => chosen.missing.push(pattern.clone()),
        }
    }
    chosen
}

/// Whether a name is a pattern.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Whether an object carries the label that excludes it, in either spelling.
pub(crate) fn has_exclude_label(object: &Value) -> bool {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    labels.is_some_and(|labels| {
        [
            EXCLUDE_FROM_BACKUP.to_owned(),
            velero_alias(EXCLUDE_FROM_BACKUP),
        ]
        .iter()
        .any(|key| labels.get(key).and_then(Value::as_str) == Some("true"))
    })
}

/// The text at `pointer`, or none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster() -> Vec<Value> {
        vec![
            json!({"metadata": {"name": "heptio-ark"}}),
            json!({"metadata": {"name": "shop"}}),
            json!({"metadata": {"name": "shop-test"}}),
            json!({"metadata": {"name": "going"}, "status": {"phase": "Terminating"}}),
            json!({"metadata": {"name": "secret", "labels": {"velero.io/exclude-from-backup": "true"}}}),
        ]
    }

    fn pick(include: &[&str], exclude: &[&str]) -> Chosen {
        let strings = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        choose(
            &strings(include),
            &strings(exclude),
            cluster(),
            "heptio-ark",
        )
    }

    fn names(chosen: &Chosen) -> Vec<&str> {
        chosen.objects.keys().map(String::as_str).collect()
    }

    #[test]
    fn own_namespace_is_left_out_under_any_wildcard_with_a_row() {
        for include in [&[][..], &["*"], &["h*", "shop*"]] {
            let chosen = pick(include, &[]);
            assert_eq!(names(&chosen), ["shop", "shop-test"], "{include:?}");
            assert!(
                chosen
                    .left_out
                    .iter()
                    .any(|(name, why)| name == "heptio-ark" && why.contains("keys"))
            );
        }
        let chosen = pick(&["heptio-ark"], &[]);
        assert_eq!(names(&chosen), ["heptio-ark"]);
        assert!(chosen.left_out.is_empty());
    }

    #[test]
    fn what_is_left_of_a_namespace_is_taken_for_who_names_it() {
        let chosen = pick(&["going", "shop"], &[]);
        assert_eq!(names(&chosen), ["going", "shop"]);
        assert_eq!(chosen.going, ["going"]);
        let chosen = pick(&["go*"], &[]);
        assert!(names(&chosen).is_empty() && chosen.going.is_empty());
        assert_eq!(chosen.left_out[0].1, "the namespace is being deleted");
    }

    #[test]
    fn missing_names_and_idle_patterns_are_told_apart() {
        let chosen = pick(&["shop", "nowhere", "x*"], &[]);
        assert_eq!(names(&chosen), ["shop"]);
        assert_eq!(
            (chosen.missing, chosen.idle),
            (vec!["nowhere".to_owned()], vec!["x*".to_owned()])
        );
    }

    #[test]
    fn exclusions_and_states() {
        let chosen = pick(&["*"], &["shop-*"]);
        assert_eq!(names(&chosen), ["shop"]);
        assert!(!chosen.all);
        assert!(pick(&["*"], &[]).all);
        let mut reasons: Vec<&str> = chosen
            .left_out
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["going", "heptio-ark", "secret"]);
    }
}
