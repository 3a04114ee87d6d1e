//! Service accounts, their tokens, and the subjects of role bindings.

use serde_json::{Value, json};

use super::{Rules, drop_if_empty, list, name, remove, text};

const TOKEN: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "/metadata/annotations/kubernetes.io~1service-account.name";

/// Tokens that old clusters made for every service account are not restored.
pub(super) fn skip_secret(secret: &Value) -> Option<&'static str> {
    let account = text(secret, ACCOUNT)?;
    (text(secret, "/type") == Some(TOKEN) && is_generated(account, name(secret)))
        .then_some("the cluster makes tokens of service accounts itself")
}

/// `<account>-token-` and five more characters.
fn is_generated(account: &str, secret: &str) -> bool {
    secret
        .strip_prefix(account)
        .and_then(|rest| rest.strip_prefix("-token-"))
        .is_some_and(|tail| tail.len() == 5)
}

/// A token somebody asked for by hand is made again by the cluster for the new account.
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

pub(super) fn strip_service_account(account: &mut Value) {
    let own = name(account).to_owned();
    let generated = |secret: &Value| {
        text(secret, "/name").is_some_and(|secret| {
            secret.starts_with(&format!("{own}-token-"))
                || secret.starts_with(&format!("{own}-dockercfg-"))
        })
    };
    for key in ["secrets", "imagePullSecrets"] {
        if let Some(secrets) = account.get_mut(key).and_then(Value::as_array_mut) {
            secrets.retain(|secret| !generated(secret));
            if secrets.is_empty() {
                remove(account, "", &[key]);
            }
        }
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
        // `system:serviceaccounts:<namespace>`: all accounts of a namespace, as a group.
        if text(subject, "/kind") == Some("Group")
            && let Some(namespace) =
                text(subject, "/name").and_then(|n| n.strip_prefix("system:serviceaccounts:"))
        {
            let target = format!("system:serviceaccounts:{}", rules.target(namespace));
            subject["name"] = json!(target);
        }
    }
}
