//! Tells gates of restored pods that they wait in vain.
//!
//! The reason goes into an annotation of the pod, which the gate reads through a volume: no agent
//! is needed, and a gate that starts only later finds it there. A pod that cannot be told is
//! logged; its gate ends at its own deadline. Idempotent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ark_api::pod_volume_backup::PodReference;
use ark_api::{Restore, annotation, label, naming};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::context::Context;
use crate::error::{Result, describe, is_conflict, is_not_found};
use crate::list;

/// Longest reason: what a gate passes on.
const MAX_REASON: usize = 3 * 1024;
/// Pause before a look that failed is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Tells one gate.
pub(crate) async fn tell(client: &Client, pod: &PodReference, why: &str) {
    let why: String = why.chars().take(MAX_REASON).collect();
    let patch = json!({ "metadata": {
        "uid": pod.uid,
        "annotations": { annotation::GAVE_UP: why },
    }});
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    match api
        .patch(&pod.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => {}
        // It is gone, or another pod has its name.
        Err(error) if is_not_found(&error) || is_conflict(&error) => {}
        Err(error) => {
            tracing::warn!(namespace = pod.namespace, pod = pod.name, error = %describe(&error),
                "cannot tell the gate of a pod that its volumes are given up");
        }
    }
}

/// Tells every gate that still waits for the restore with this uid.
pub(crate) async fn tell_all(client: &Client, restore_uid: &str, why: &str) -> Result<()> {
    let selector = format!("{}={restore_uid}", label::RESTORE_UID);
    for pod in waiting(client, &selector).await? {
        tell(client, &pod.reference, why).await;
    }
    Ok(())
}

/// Tells the gates whose restores were deleted while no operator ran; once, at the start. Ends when
/// the process stops.
pub(crate) async fn sweep(context: Arc<Context>) {
    loop {
        match tell_orphans(&context).await {
            Ok(()) => return context.shutdown.cancelled().await,
            Err(error) => {
                tracing::warn!(%error, "cannot look for gates whose restores are gone");
            }
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn tell_orphans(context: &Context) -> Result<()> {
    let pods = waiting(&context.client, label::RESTORE_UID).await?;
    if pods.is_empty() {
        return Ok(());
    }
    // Listed after the pods, so that no restore is missed that made one of them.
    let restores: Vec<Restore> = context.list(&ListParams::default()).await?;
    let known: HashSet<String> = restores.iter().filter_map(ResourceExt::uid).collect();
    for pod in pods.iter().filter(|pod| !known.contains(&pod.restore_uid)) {
        let why = "its restore was deleted before the volumes were back";
        tell(&context.client, &pod.reference, why).await;
    }
    Ok(())
}

/// A pod whose gate stands.
struct Waiting {
    reference: PodReference,
    restore_uid: String,
}

/// Pods with these labels whose gates stand.
async fn waiting(client: &Client, selector: &str) -> Result<Vec<Waiting>> {
    let api: Api<Pod> = Api::all(client.clone());
    let params = ListParams::default()
        .labels(selector)
        .fields("status.phase=Pending");
    let pods = list::all(&api, &params, "restored pods that are pending").await?;
    let standing = pods.into_iter().filter(waits);
    Ok(standing
        .map(|pod| Waiting {
            reference: PodReference {
                namespace: pod.namespace().unwrap_or_default(),
                name: pod.name_any(),
                uid: pod.uid().unwrap_or_default(),
                ..PodReference::default()
            },
            restore_uid: pod
                .labels()
                .get(label::RESTORE_UID)
                .cloned()
                .unwrap_or_default(),
        })
        .collect())
}

/// Whether a pod's gate has not let its application start.
pub(crate) fn waits(pod: &Pod) -> bool {
    let has_gate = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .any(|container| container.name == naming::GATE_CONTAINER);
    let pending = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .is_none_or(|phase| phase == "Pending");
    has_gate && pending && !has_opened(pod)
}

/// Whether a pod's gate has ended well.
pub(crate) fn has_opened(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.init_container_statuses.iter().flatten())
        .filter(|container| container.name == naming::GATE_CONTAINER)
        .any(|container| {
            [&container.state, &container.last_state]
                .into_iter()
                .flatten()
                .filter_map(|state| state.terminated.as_ref())
                .any(|ended| ended.exit_code == 0)
        })
}

/// What a gate's container is at, for a person.
pub(crate) fn state(pod: &Pod) -> Option<String> {
    let container = pod
        .status
        .iter()
        .flat_map(|status| status.init_container_statuses.iter().flatten())
        .find(|container| container.name == naming::GATE_CONTAINER)?;
    let said = |reason: Option<&String>, message: Option<&String>| {
        let words: Vec<&str> = [reason, message]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        (!words.is_empty()).then(|| words.join(": "))
    };
    let ended = [&container.state, &container.last_state]
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())
        .and_then(|ended| said(ended.reason.as_ref(), ended.message.as_ref()));
    ended.or_else(|| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        said(waiting.reason.as_ref(), waiting.message.as_ref())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_gates_that_stand_are_told() {
        let pod = |container: &str, status: Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "spec": {"containers": [], "initContainers": [{"name": container}]},
                "status": status,
            }))
            .unwrap()
        };
        let gate = |code: i32| {
            json!([{"name": "ark-restore-wait", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": code}}}])
        };
        for (container, status, wanted) in [
            ("ark-restore-wait", json!({}), true),
            ("ark-restore-wait", json!({"phase": "Pending"}), true),
            (
                "ark-restore-wait",
                json!({"phase": "Pending", "initContainerStatuses": gate(1)}),
                true,
            ),
            (
                "ark-restore-wait",
                json!({"phase": "Pending", "initContainerStatuses": gate(0)}),
                false,
            ),
            ("ark-restore-wait", json!({"phase": "Running"}), false),
            ("init", json!({"phase": "Pending"}), false),
        ] {
            assert_eq!(waits(&pod(container, status.clone())), wanted, "{status}");
        }
    }
}
