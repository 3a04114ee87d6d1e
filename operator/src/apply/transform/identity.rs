//! Service accounts, their tokens, and the subjects of role bindings.

use serde_json::{Value, json};

use super::{Rules, drop_if_empty, list, remove, text};

const TOKEN: &str = "kubernetes.io/service-account-token";

/// A token is made again by the cluster, for the new account.
pub(super) fn strip_secret(secret: &mut Value) {
    if text(secret, "/type") != Some(TOKEN) {
        return;
    }
    remove(
        secret,
        "/metadata/annotations",
        &["kubernetes.io/service-account.uid"],
    );
    drop_if_empty(secret, "annotations");
    remove(secret, "/data", &["token", "ca.crt", "namespace"]);
    if secret
        .get("data")
        .and_then(Value::as_object)
        .is_some_and(serde_json::Map::is_empty)
    {
        remove(secret, "", &["data"]);
    }
}

/// Accounts that role bindings name move with their namespace.
pub(super) fn map_subjects(resource: &str, object: &mut Value, rules: Rules<'_>) {
    if !matches!(
        resource,
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io"
    ) || list(object, "/subjects").is_empty()
    {
        return;
    }
    let Some(subjects) = object.get_mut("subjects").and_then(Value::as_array_mut) else {
        return;
    };
    for subject in subjects {
        if let Some(namespace) = text(subject, "/namespace") {
            let target = rules.target(namespace).to_owned();
            subject["namespace"] = json!(target);
            continue;
        }
        if let Some(name) = mapped_name(subject, rules) {
            subject["name"] = json!(name);
        }
    }
}

/// New name of a subject that stands for service accounts of a namespace: all of them, as the group
/// `system:serviceaccounts:<namespace>`, or one, as the user `system:serviceaccount:<namespace>:<name>`.
fn mapped_name(subject: &Value, rules: Rules<'_>) -> Option<String> {
    let name = text(subject, "/name")?;
    match text(subject, "/kind")? {
        "Group" => {
            let namespace = name.strip_prefix("system:serviceaccounts:")?;
            let target = rules.target(namespace);
            Some(format!("system:serviceaccounts:{target}"))
        }
        "User" => {
            let account = name.strip_prefix("system:serviceaccount:")?;
            let (namespace, account) = account.split_once(':')?;
            let target = rules.target(namespace);
            Some(format!("system:serviceaccount:{target}:{account}"))
        }
        _ => None,
    }
}
