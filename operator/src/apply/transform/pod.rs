//! Pods: what scheduling and admission added is dropped, and gates of earlier restores with it.

use ark_api::naming;
use serde_json::Value;

use super::{list, text};

const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Lifetime of the tokens that admission asks for.
const ADMITTED_SECONDS: i64 = 3607;

/// Finished and static pods are not restored.
pub(super) fn skip(pod: &Value) -> Option<&'static str> {
    if text(pod, "/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return Some("it is a static pod of a node");
    }
    match text(pod, "/status/phase") {
        Some("Succeeded" | "Failed") => Some("it had finished when it was backed up"),
        _ => None,
    }
}

pub(super) fn strip(pod: &mut Value) {
    super::remove(
        pod,
        "/spec",
        &[
            "nodeName",
            "priority",
            "ephemeralContainers",
            "resourceClaimStatuses",
        ],
    );
    strip_token_volumes(pod);
    strip_gates(pod);
}

/// Volumes that admission adds for the service account's token, with their mounts: a new pod gets
/// new ones. A volume that somebody made for that purpose stays.
fn strip_token_volumes(pod: &mut Value) {
    let mounted_as_token: Vec<String> = ["/spec/containers", "/spec/initContainers"]
        .iter()
        .flat_map(|pointer| list(pod, pointer))
        .flat_map(|container| list(container, "/volumeMounts"))
        .filter(|mount| text(mount, "/mountPath") == Some(TOKEN_MOUNT))
        .filter_map(|mount| text(mount, "/name").map(str::to_owned))
        .collect();
    let doomed: Vec<String> = list(pod, "/spec/volumes")
        .iter()
        .filter(|volume| {
            let name = text(volume, "/name").unwrap_or_default();
            name.starts_with("kube-api-access-")
                && list(volume, "/projected/sources")
                    .iter()
                    .any(is_admitted_token)
                && mounted_as_token.iter().any(|m| m == name)
        })
        .filter_map(|volume| text(volume, "/name").map(str::to_owned))
        .collect();
    remove_volumes(pod, &doomed);
}

/// The token as admission asks for it.
fn is_admitted_token(source: &Value) -> bool {
    let Some(token) = source.get("serviceAccountToken") else {
        return false;
    };
    token.get("audience").is_none()
        && token.get("expirationSeconds").and_then(Value::as_i64) == Some(ADMITTED_SECONDS)
}

/// The gate of an earlier restore, ours or another product's: it would wait for ever.
fn strip_gates(pod: &mut Value) {
    if let Some(containers) = pod
        .pointer_mut("/spec/initContainers")
        .and_then(Value::as_array_mut)
    {
        containers.retain(|container| !is_gate(container));
    }
    if list(pod, "/spec/initContainers").is_empty() {
        super::remove(pod, "/spec", &["initContainers"]);
    }
    let own = [naming::GATE_VOLUME, naming::GATE_TOLD_VOLUME];
    remove_volumes(pod, &own.map(str::to_owned));
}

fn is_gate(container: &Value) -> bool {
    let name = text(container, "/name").unwrap_or_default();
    if name == naming::GATE_CONTAINER {
        return true;
    }
    // An application may have an init container of that name too; the gates are known by what
    // they run.
    let helper = |s: &str| s.contains("restore-helper");
    naming::FOREIGN_GATE_CONTAINERS.contains(&name)
        && (text(container, "/image").is_some_and(helper)
            || list(container, "/command")
                .iter()
                .filter_map(Value::as_str)
                .any(helper))
}

fn remove_volumes(pod: &mut Value, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let is_doomed = |value: &Value| {
        text(value, "/name").is_some_and(|name| names.iter().any(|doomed| doomed == name))
    };
    if let Some(volumes) = pod
        .pointer_mut("/spec/volumes")
        .and_then(Value::as_array_mut)
    {
        volumes.retain(|volume| !is_doomed(volume));
    }
    if list(pod, "/spec/volumes").is_empty() {
        super::remove(pod, "/spec", &["volumes"]);
    }
    for pointer in ["/spec/containers", "/spec/initContainers"] {
        let Some(containers) = pod.pointer_mut(pointer).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            if let Some(mounts) = container
                .get_mut("volumeMounts")
                .and_then(Value::as_array_mut)
            {
                mounts.retain(|mount| !is_doomed(mount));
            }
            if list(container, "/volumeMounts").is_empty()
                && let Some(container) = container.as_object_mut()
            {
                container.shift_remove("volumeMounts");
            }
        }
    }
}
