//! What to do when an object of the backup exists in the cluster. Pure.
//!
//! Both sides are compared without what the cluster gave them. Equal objects are kept without a
//! word. Different ones are kept with a warning, or changed when the restore's policy says so.
//! Service accounts are always merged, because every namespace has one before anybody restores it.
//! An object that this very restore created, before the operator restarted, is its own.

use ark_api::restore::ExistingResourcePolicy;
use serde_json::{Map, Value};

use super::transform::{self, Binding, Rules};

/// What to do with an existing object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// This restore created it earlier.
    Own,
    /// This restore changed it earlier.
    OwnChange,
    /// It is as in the backup.
    Equal,
    /// It differs and is left alone.
    Differs,
    /// It is changed by this merge patch.
    Patch(Value),
}

/// Decides about `existing`, given `desired` as it would be created.
pub(crate) fn decide(
    resource: &str,
    existing: &Value,
    desired: &Value,
    policy: ExistingResourcePolicy,
    restore_uid: &str,
    rules: Rules<'_>,
    binding: Binding,
) -> Decision {
    if transform::stamped_by(existing) == Some(restore_uid) {
        return Decision::Own;
    }
    let from = transform::normalize(resource, existing.clone(), rules, binding);
    let to = transform::normalize(resource, desired.clone(), rules, binding);
    let patch = if resource == "serviceaccounts" {
        merge_account(&from, &to)
    } else {
        merge_patch(&from, &without_versions(&from, to))
    };
    let ours = transform::touched_by(existing) == Some(restore_uid);
    let Some(mut patch) = patch else {
        return if ours {
            Decision::OwnChange
        } else {
            Decision::Equal
        };
    };
    if resource != "serviceaccounts" && policy == ExistingResourcePolicy::None {
        return Decision::Differs;
    }
    // Says who changed it, but not that the restore created it.
    let label = ark_api::label::RESTORE_UID;
    merge_into(
        &mut patch,
        &serde_json::json!({ "metadata": { "labels": { label: restore_uid } } }),
    );
    Decision::Patch(patch)
}

/// The part of `patch` that can be applied to any object: labels and annotations.
pub(crate) fn labels_only(patch: &Value) -> Value {
    let metadata: Map<String, Value> = ["labels", "annotations"]
        .iter()
        .filter_map(|key| {
            let value = patch.get("metadata")?.get(*key)?;
            Some(((*key).to_owned(), value.clone()))
        })
        .collect();
    serde_json::json!({ "metadata": metadata })
}

/// A version the server does not serve is no difference.
fn without_versions(from: &Value, mut to: Value) -> Value {
    for key in ["apiVersion", "kind"] {
        if let (Some(from), Some(to)) = (from.get(key), to.get_mut(key)) {
            *to = from.clone();
        }
    }
    to
}

/// JSON merge patch (RFC 7386) that turns `from` into `to`; `None` when they are equal.
pub(crate) fn merge_patch(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return Some(to.clone());
    };
    let mut patch = Map::new();
    for (key, old) in from {
        match to.get(key) {
            None => {
                patch.insert(key.clone(), Value::Null);
            }
            Some(new) => {
                if let Some(change) = merge_patch(old, new) {
                    patch.insert(key.clone(), change);
                }
            }
        }
    }
    for (key, new) in to {
        if !from.contains_key(key) {
            patch.insert(key.clone(), new.clone());
        }
    }
    // Equal but for the order of keys.
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Adds what the backup's service account has and the cluster's does not.
fn merge_account(existing: &Value, desired: &Value) -> Option<Value> {
    let mut patch = Map::new();
    for key in ["secrets", "imagePullSecrets"] {
        let have = transform::list(existing, &format!("/{key}"));
        let mut all = have.to_vec();
        for secret in transform::list(desired, &format!("/{key}")) {
            if !all.contains(secret) {
                all.push(secret.clone());
            }
        }
        if all.len() > have.len() {
            patch.insert(key.into(), Value::Array(all));
        }
    }
    let mut metadata = Map::new();
    for key in ["labels", "annotations"] {
        let have = existing.pointer(&format!("/metadata/{key}"));
        let missing: Map<String, Value> = desired
            .pointer(&format!("/metadata/{key}"))
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(name, _)| have.and_then(|have| have.get(name.as_str())).is_none())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !missing.is_empty() {
            metadata.insert(key.into(), Value::Object(missing));
        }
    }
    if !metadata.is_empty() {
        patch.insert("metadata".into(), Value::Object(metadata));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Adds the leaves of `more` to `target`.
fn merge_into(target: &mut Value, more: &Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                match target.get_mut(key) {
                    Some(slot) => merge_into(slot, value),
                    None => {
                        target.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (target, more) => *target = more.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::apply::transform::Stamp;

    fn run(
        resource: &str,
        existing: &Value,
        desired: &Value,
        policy: ExistingResourcePolicy,
    ) -> Decision {
        let none = BTreeMap::new();
        let rules = Rules {
            namespaces: &none,
            preserve_node_ports: false,
        };
        decide(
            resource,
            existing,
            desired,
            policy,
            "uid-1",
            rules,
            Binding::Fresh,
        )
    }

    fn map(value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
               "metadata": {"name": "c", "namespace": "n", "labels": {"a": "b"}},
               "data": {"k": value, "only": "here"}})
    }

    #[test]
    fn equal_after_stripping_is_kept() {
        let mut existing = map("v");
        existing["metadata"]["uid"] = json!("u");
        existing["metadata"]["resourceVersion"] = json!("7");
        existing["metadata"]["managedFields"] = json!([{}]);
        let mut desired = map("v");
        transform::stamp(
            &mut desired,
            Stamp {
                restore: "r",
                uid: "uid-1",
                backup: "b",
            },
        );
        for policy in [ExistingResourcePolicy::None, ExistingResourcePolicy::Update] {
            assert_eq!(
                run("configmaps", &existing, &desired, policy),
                Decision::Equal
            );
        }
    }

    #[test]
    fn different_is_kept_or_patched() {
        let existing = map("new");
        let mut desired = map("old");
        desired["data"].as_object_mut().unwrap().remove("only");
        assert_eq!(
            run(
                "configmaps",
                &existing,
                &desired,
                ExistingResourcePolicy::None
            ),
            Decision::Differs
        );
        assert_eq!(
            run(
                "configmaps",
                &existing,
                &desired,
                ExistingResourcePolicy::Update
            ),
            Decision::Patch(json!({
                "data": {"k": "old", "only": null},
                "metadata": {"labels": {ark_api::label::RESTORE_UID: "uid-1"}},
            }))
        );
    }

    #[test]
    fn own_objects_are_recognised() {
        let mut existing = map("changed since");
        transform::stamp(
            &mut existing,
            Stamp {
                restore: "r",
                uid: "uid-1",
                backup: "b",
            },
        );
        assert_eq!(
            run(
                "configmaps",
                &existing,
                &map("v"),
                ExistingResourcePolicy::Update
            ),
            Decision::Own
        );
        // Another restore of the same name is another restore.
        transform::stamp(
            &mut existing,
            Stamp {
                restore: "r",
                uid: "uid-0",
                backup: "b",
            },
        );
        assert_eq!(
            run(
                "configmaps",
                &existing,
                &map("v"),
                ExistingResourcePolicy::None
            ),
            Decision::Differs
        );
        let mut patched = map("v");
        patched["metadata"]["labels"][ark_api::label::RESTORE_UID] = json!("uid-1");
        assert_eq!(
            run(
                "configmaps",
                &patched,
                &map("v"),
                ExistingResourcePolicy::Update
            ),
            Decision::OwnChange
        );
    }

    #[test]
    fn addresses_of_services_are_no_difference() {
        let existing = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.9",
            "clusterIPs": ["10.0.0.9"], "ports": [{"port": 80, "nodePort": 30001}]}});
        let desired = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
        assert_eq!(
            run(
                "services",
                &existing,
                &desired,
                ExistingResourcePolicy::Update
            ),
            Decision::Equal
        );
    }

    #[test]
    fn accounts_are_merged_whatever_the_policy() {
        let existing = json!({"metadata": {"name": "default", "labels": {"x": "cluster"}},
            "imagePullSecrets": [{"name": "a"}]});
        let desired = json!({"metadata": {"name": "default", "labels": {"x": "backup", "y": "1"}},
            "imagePullSecrets": [{"name": "b"}]});
        assert_eq!(
            run(
                "serviceaccounts",
                &existing,
                &desired,
                ExistingResourcePolicy::None
            ),
            Decision::Patch(json!({
                "imagePullSecrets": [{"name": "a"}, {"name": "b"}],
                "metadata": {"labels": {"y": "1", ark_api::label::RESTORE_UID: "uid-1"}},
            }))
        );
        assert_eq!(
            run(
                "serviceaccounts",
                &existing,
                &existing,
                ExistingResourcePolicy::None
            ),
            Decision::Equal
        );
    }

    #[test]
    fn merge_patches() {
        for (from, to, wanted) in [
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), None),
            (
                json!({"a": {"b": 1}}),
                json!({"a": {"b": 2}}),
                Some(json!({"a": {"b": 2}})),
            ),
            (
                json!({"a": {"b": 1}}),
                json!({"a": {}}),
                Some(json!({"a": {"b": null}})),
            ),
            (
                json!({"a": [1]}),
                json!({"a": [1, 2]}),
                Some(json!({"a": [1, 2]})),
            ),
            (
                json!({"a": 1}),
                json!({"a": {"b": 1}}),
                Some(json!({"a": {"b": 1}})),
            ),
            (json!({}), json!({"a": null}), Some(json!({"a": null}))),
        ] {
            assert_eq!(merge_patch(&from, &to), wanted, "{from} -> {to}");
        }
    }

    #[test]
    fn labels_can_be_taken_alone() {
        let patch = json!({"spec": {"x": 1}, "metadata": {"labels": {"a": "b"}, "finalizers": []}});
        assert_eq!(
            labels_only(&patch),
            json!({"metadata": {"labels": {"a": "b"}}})
        );
    }
}
