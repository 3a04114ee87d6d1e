//! What to do when an object of the backup exists in the cluster. Pure.
//!
//! Both sides are compared without what the cluster gave them. Equal objects are kept without a
//! word. Different ones are kept with a warning, or changed when the restore's policy says so.
//! Service accounts are always merged, because every namespace has one before anybody restores it.
//! An object that this very restore created, before the operator restarted, is its own.
//!
//! A change never takes away what somebody lives on: subjects of bindings and finalizers are added
//! to; so is all of an object that belongs to no namespace, when namespaces are restored under
//! other names, because it also serves the original.

use ark_api::restore::ExistingResourcePolicy;
use serde_json::{Map, Value};

use super::order::{CRDS, NAMESPACES};
use super::transform::{self, Binding, Rules};

/// Objects that every namespace has before anybody restores it.
const ACCOUNTS: &str = "serviceaccounts";

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
    /// It is changed.
    Patch {
        /// The merge patch.
        patch: Value,
        /// It differs from the backup even then.
        differs: bool,
    },
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
    let to = beside_what_lives(resource, &from, without_versions(&from, to), rules);
    let shared_definition = resource == CRDS && rules.renames();
    let wanted = match policy {
        // Objects of the original depend on it as it is.
        ExistingResourcePolicy::Update if !shared_definition => to.clone(),
        _ if resource == ACCOUNTS => grown(&to, &from),
        _ => from.clone(),
    };
    let differs = merge_patch(&wanted, &to).is_some();
    let Some(mut patch) = merge_patch(&from, &wanted) else {
        return if transform::touched_by(existing) == Some(restore_uid) {
            Decision::OwnChange
        } else if differs {
            Decision::Differs
        } else {
            Decision::Equal
        };
    };
    let label = ark_api::label::RESTORE_UID;
    merge_into(
        &mut patch,
        &serde_json::json!({ "metadata": { "labels": { label: restore_uid } } }),
    );
    Decision::Patch { patch, differs }
}

/// `to` with all of `from` that a change must not take away.
fn beside_what_lives(resource: &str, from: &Value, mut to: Value, rules: Rules<'_>) -> Value {
    let belongs_nowhere =
        resource != NAMESPACES && transform::text(&to, "/metadata/namespace").is_none();
    if resource == ACCOUNTS || (belongs_nowhere && rules.renames() && resource != CRDS) {
        return grown(from, &to);
    }
    if let Some(subjects) = from.get("subjects").filter(|_| is_binding(resource)) {
        let all = grown(subjects, to.get("subjects").unwrap_or(&Value::Null));
        to["subjects"] = all;
    }
    if let Some(finalizers) = from.pointer("/metadata/finalizers") {
        let own = to.pointer("/metadata/finalizers");
        let all = grown(finalizers, own.unwrap_or(&Value::Null));
        to["metadata"]["finalizers"] = all;
    }
    to
}

fn is_binding(resource: &str) -> bool {
    matches!(
        resource,
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io"
    )
}

/// `base` with everything that `more` has: lists are joined (items of one name count as one), and where
/// both have a value, that of `more` is taken.
fn grown(base: &Value, more: &Value) -> Value {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            let mut all = base.clone();
            for (key, value) in more {
                let value = all
                    .get(key)
                    .map_or_else(|| value.clone(), |old| grown(old, value));
                all.insert(key.clone(), value);
            }
            Value::Object(all)
        }
        (Value::Array(base), Value::Array(more)) => {
            let mut all = base.clone();
            for item in more {
                let twin = item.get("name").filter(|_| item.get("kind").is_none());
                let twin =
                    twin.and_then(|name| all.iter().position(|old| old.get("name") == Some(name)));
                match twin {
                    Some(at) => all[at] = grown(&all[at], item),
                    None if all.contains(item) => {}
                    None => all.push(item.clone()),
                }
            }
            Value::Array(all)
        }
        (base, Value::Null) => base.clone(),
        (_, more) => more.clone(),
    }
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
#[path = "conflict_tests.rs"]
mod tests;
