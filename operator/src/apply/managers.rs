//! Who owns the fields of a restored object, as server-side apply sees it. Pure.
//!
//! Whoever applied an object to the cluster it comes from goes on to own its fields: else their
//! next apply meets conflicts, and a field that they take out stays. An object of one plain manager
//! is created in that name; one of several, or of an applier, gets its managers back in a second
//! request, because a creation makes its sender the owner of everything.
//!
//! Managers of subresources stay out: what they own is not restored.

use serde_json::{Value, json};

use super::transform::{list, text};
use super::wire::Manager;
use crate::status::FIELD_MANAGER;

/// Longest name of a manager that the API server takes.
const MAX_NAME: usize = 128;

/// Managers of a stored object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Managers {
    /// It does not say.
    #[default]
    Unknown,
    /// One, who made it in the plain way.
    One(String),
    /// These entries of `metadata.managedFields`.
    Listed(Vec<Value>),
}

impl Managers {
    /// Managers of `object` as it is stored.
    pub(crate) fn of(object: &Value) -> Self {
        let entries: Vec<&Value> = list(object, "/metadata/managedFields")
            .iter()
            .filter(|entry| text(entry, "/subresource").unwrap_or_default().is_empty())
            .filter(|entry| text(entry, "/fieldsType") == Some("FieldsV1"))
            .filter(|entry| text(entry, "/manager").is_some_and(is_name))
            .collect();
        match entries[..] {
            [] => Self::Unknown,
            [entry]
                if text(entry, "/operation") == Some("Update")
                    && text(entry, "/apiVersion") == text(object, "/apiVersion") =>
            {
                Self::One(text(entry, "/manager").unwrap_or_default().to_owned())
            }
            _ => Self::Listed(entries.into_iter().cloned().collect()),
        }
    }

    /// In whose name the object is created.
    pub(crate) fn creator(&self) -> Manager<'_> {
        match self {
            Self::One(name) => Manager(name),
            Self::Unknown | Self::Listed(_) => Manager(FIELD_MANAGER),
        }
    }

    /// The merge patch that gives `live`, which was created in the operator's name, its managers
    /// back.
    pub(crate) fn patch(&self, live: &Value) -> Option<Value> {
        let Self::Listed(wanted) = self else {
            return None;
        };
        let theirs = list(live, "/metadata/managedFields");
        let is_ours = |entry: &Value| {
            text(entry, "/manager") == Some(FIELD_MANAGER)
                && text(entry, "/operation") == Some("Update")
        };
        if !theirs.iter().any(is_ours) {
            return None;
        }
        let same = |a: &Value, b: &Value| {
            ["/manager", "/operation", "/apiVersion", "/subresource"]
                .iter()
                .all(|key| text(a, key) == text(b, key))
        };
        // Controllers may have been at work since.
        let others = theirs
            .iter()
            .filter(|entry| !is_ours(entry) && !wanted.iter().any(|own| same(own, entry)));
        let all: Vec<&Value> = wanted.iter().chain(others).collect();
        Some(json!({ "metadata": {
            "managedFields": all,
            "resourceVersion": text(live, "/metadata/resourceVersion").unwrap_or_default(),
        } }))
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, subresource: &str) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1",
               "subresource": subresource, "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}})
    }

    fn object(entries: &[Value]) -> Value {
        json!({"apiVersion": "v1", "metadata": {"managedFields": entries, "resourceVersion": "7"}})
    }

    #[test]
    fn managers_of_an_object() {
        let status = entry("kubelet", "Update", "status");
        let plain = entry("kubectl-create", "Update", "");
        let apply = entry("flux", "Apply", "");
        let mut old = plain.clone();
        old["apiVersion"] = json!("v1beta1");
        for (entries, wanted) in [
            (vec![], Managers::Unknown),
            (vec![status.clone()], Managers::Unknown),
            (
                vec![plain.clone(), status],
                Managers::One("kubectl-create".into()),
            ),
            (vec![apply.clone()], Managers::Listed(vec![apply.clone()])),
            (
                vec![plain.clone(), apply.clone()],
                Managers::Listed(vec![plain, apply]),
            ),
            (vec![old.clone()], Managers::Listed(vec![old])),
            (
                vec![entry(&"x".repeat(129), "Apply", "")],
                Managers::Unknown,
            ),
        ] {
            assert_eq!(Managers::of(&object(&entries)), wanted);
        }
        assert_eq!(
            Managers::of(&json!({"metadata": {"managedFields": "odd"}})),
            Managers::Unknown
        );
    }

    #[test]
    fn managers_are_given_back_once() {
        let flux = entry("flux", "Apply", "");
        let managers = Managers::of(&object(std::slice::from_ref(&flux)));
        let controller = entry("kube-controller-manager", "Update", "");
        let fresh = object(&[entry(FIELD_MANAGER, "Update", ""), controller.clone()]);
        let patch = managers.patch(&fresh).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(
            patch["metadata"]["managedFields"],
            json!([flux, controller])
        );
        assert_eq!(managers.patch(&object(&[flux, controller])), None);
        assert_eq!(Managers::Unknown.patch(&fresh), None);
    }
}
