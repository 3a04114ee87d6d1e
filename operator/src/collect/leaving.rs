//! What a backup does with an object that is being deleted. Pure.
//!
//! Somebody wants such an object gone, so it is left out, and a row says so. But what still holds
//! data that is in use is taken, as it was before the deletion: a pod that has not ended, whose
//! volumes are mounted and readable, and a claim or volume that is bound. A claim that was deleted
//! by mistake lives exactly until its pod ends, and a backup made until then is the one that can
//! bring it back.

use serde_json::Value;

use super::namespaces::text;

/// How an object stands to its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It is not being deleted.
    No,
    /// It is, but holds data that is in use.
    Held,
    /// It is a pod that has ended.
    Ended,
    /// It is, and nothing is lost that is in use.
    Gone,
}

/// How `object` of a resource stands to its deletion.
pub(super) fn judge(resource: &str, object: &Value) -> Leaving {
    if object.pointer("/metadata/deletionTimestamp").is_none() {
        return Leaving::No;
    }
    match (resource, text(object, "/status/phase")) {
        ("pods", "Succeeded" | "Failed") => Leaving::Ended,
        // A namespace is here only if the user named it.
        ("pods" | "namespaces", _) | ("persistentvolumeclaims" | "persistentvolumes", "Bound") => {
            Leaving::Held
        }
        _ => Leaving::Gone,
    }
}

/// Takes away what says that the object is being deleted, and what holds the deletion up.
pub(super) fn keep(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "finalizers",
        ] {
            metadata.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_holds_data_in_use_is_taken_while_it_is_deleted() {
        use Leaving::{Ended, Gone, Held, No};
        for (resource, phase, deleted, expected) in [
            ("pods", "Running", false, No),
            ("pods", "Running", true, Held),
            ("pods", "Pending", true, Held),
            ("pods", "Failed", true, Ended),
            ("persistentvolumeclaims", "Bound", true, Held),
            ("persistentvolumeclaims", "Pending", true, Gone),
            ("persistentvolumes", "Bound", true, Held),
            ("persistentvolumes", "Released", true, Gone),
            ("namespaces", "Terminating", true, Held),
            ("deployments.apps", "", true, Gone),
            ("configmaps", "", true, Gone),
        ] {
            let mut object = json!({"metadata": {"name": "x"}, "status": {"phase": phase}});
            if deleted {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            assert_eq!(
                judge(resource, &object),
                expected,
                "{resource} {phase} {deleted}"
            );
        }
    }

    #[test]
    fn a_kept_object_does_not_know_of_its_deletion() {
        let mut claim = json!({"metadata": {
            "name": "data", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0,
            "finalizers": ["kubernetes.io/pvc-protection"], "labels": {"a": "b"},
        }});
        keep(&mut claim);
        assert_eq!(
            claim,
            json!({"metadata": {"name": "data", "labels": {"a": "b"}}})
        );
    }
}
