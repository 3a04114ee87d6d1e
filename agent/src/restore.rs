//! The restore of one volume: what a `PodVolumeRestore` orders.
//!
//! Order: wait until the pod's gate has started, because only then has the kubelet mounted the pod's
//! volumes, and as long as it stands no application uses them; find the directory; restore; tell
//! every gate that waits for this volume; then the status. So a status that says the end is never
//! there before the gates know it, and a restart in between only tells them again.
//!
//! A gate that holds `<volume>.done` means that the files are there, whatever the status says:
//! nothing is restored over an application that may be running. Half restored files are restored
//! over.

use std::path::PathBuf;
use std::sync::Arc;

use ark_api::PodVolumeRestore;
use ark_api::condition::reason;
use ark_api::naming;
use ark_api::pod_volume_backup::PodReference;
use ark_engine::{RestoreRequest, restore};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::gate::{self, Answer};
use crate::location::{self, Use};
use crate::report::Finish;
use crate::task::Task;
use crate::{thread, volume};

/// Waits for the gate. `Some` if the volume was restored before.
pub(crate) async fn prepare(task: &mut Task<PodVolumeRestore>) -> Result<Option<Finish>> {
    let ctx = Arc::clone(&task.ctx);
    let mut changes = ctx.pods.changes();
    loop {
        if done_before(&ctx, &task.object).await? {
            return Ok(Some(Finish::completed()));
        }
        let waited = match gate_of(&ctx, &task.object.spec.pod).await? {
            Gate::Stands => return Ok(None),
            Gate::NotYet(why) => why,
        };
        task.reporter
            .waiting(reason::GATE_NOT_STARTED, &waited)
            .await?;
        tokio::select! {
            () = task.stop.cancelled() => return Err(Error::Cancelled),
            told = changes.changed() => if told.is_err() {
                return Err(Error::Bug("the watch of this node's pods ended".to_owned()));
            },
        }
    }
}

/// The pod and every other whose gate waits for this volume, each once.
fn gates(object: &PodVolumeRestore) -> Vec<PodReference> {
    let mut gates = vec![object.spec.pod.clone()];
    for other in &object.spec.gates {
        if !gates.iter().any(|g| g.uid == other.uid) {
            gates.push(other.clone());
        }
    }
    gates
}

/// Whether any gate knows the volume as restored.
async fn done_before(ctx: &Context, object: &PodVolumeRestore) -> Result<bool> {
    let (pods_dir, volume) = (ctx.settings.pods_dir.clone(), object.spec.volume.clone());
    let gates = gates(object);
    thread::run("gate", move || {
        for pod in gates {
            if gate::is_done(&pods_dir, &pod.uid, &volume)? {
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await
}

#[derive(Debug, PartialEq, Eq)]
enum Gate {
    Stands,
    NotYet(String),
}

async fn gate_of(ctx: &Context, wanted: &PodReference) -> Result<Gate> {
    let seen = ctx.pods.get(&wanted.namespace, &wanted.name);
    if let Some(pod) = seen.filter(|p| p.metadata.uid.as_deref() == Some(&wanted.uid)) {
        return gate_state(&pod);
    }
    // What the watch has not shown yet may still be there.
    let pods = Api::<Pod>::namespaced(ctx.client.clone(), &wanted.namespace);
    let found = pods
        .get_metadata_opt(&wanted.name)
        .await
        .map_err(|source| {
            Error::api(
                format!("get pod {}/{}", wanted.namespace, wanted.name),
                source,
            )
        })?;
    if found.is_some_and(|p| p.metadata.uid.as_deref() == Some(&wanted.uid)) {
        return Ok(Gate::NotYet(format!(
            "pod {}/{} is not on this node yet",
            wanted.namespace, wanted.name
        )));
    }
    Err(Error::PodGone {
        namespace: wanted.namespace.clone(),
        name: wanted.name.clone(),
        uid: wanted.uid.clone(),
    })
}

/// Where the gate of a pod stands.
///
/// It has started when its container runs, or ran and failed: the kubelet keeps the volumes mounted
/// and starts it again. When it ended well, or was never there, the application may be running.
fn gate_state(pod: &Pod) -> Result<Gate> {
    let name = volume::display_name(pod);
    let open = |message: &str| Error::GateOpen {
        pod: name.clone(),
        message: message.to_owned(),
    };
    let containers = pod.spec.as_ref().and_then(|s| s.init_containers.as_deref());
    let has_gate = containers
        .unwrap_or_default()
        .iter()
        .any(|c| c.name == naming::GATE_CONTAINER);
    if !has_gate {
        return Err(open("it has no gate, so its volumes may be in use"));
    }
    let status = pod.status.as_ref();
    match status.and_then(|s| s.phase.as_deref()) {
        Some(phase @ ("Failed" | "Succeeded")) => {
            return Err(open(&format!(
                "it ended ({phase}) before its volume was restored"
            )));
        }
        Some("Running") => return Err(open("it is past its gate, so its volumes may be in use")),
        _ => {}
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(open("it is being deleted"));
    }
    let gate = status
        .and_then(|s| s.init_container_statuses.as_deref())
        .unwrap_or_default()
        .iter()
        .find(|c| c.name == naming::GATE_CONTAINER);
    let Some(gate) = gate else {
        return Ok(Gate::NotYet(format!(
            "the gate of pod {name} has not started"
        )));
    };
    if exit_codes(gate).any(|code| code == 0) {
        return Err(open("it is past its gate, so its volumes may be in use"));
    }
    let state = gate.state.as_ref();
    let runs = state.is_some_and(|s| s.running.is_some());
    if runs || exit_codes(gate).next().is_some() {
        return Ok(Gate::Stands);
    }
    let waiting = state.and_then(|s| s.waiting.as_ref());
    let why = waiting.map(|w| {
        let reason = w.reason.as_deref().unwrap_or("waiting");
        match w.message.as_deref().filter(|m| !m.is_empty()) {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        }
    });
    Ok(Gate::NotYet(format!(
        "the gate of pod {name} has not started ({})",
        why.as_deref().unwrap_or("no reason given")
    )))
}

/// Exit codes of the container's present and last run, if they ended.
fn exit_codes(container: &ContainerStatus) -> impl Iterator<Item = i32> {
    [&container.state, &container.last_state]
        .into_iter()
        .filter_map(|state| Some(state.as_ref()?.terminated.as_ref()?.exit_code))
}

/// The transfer.
pub(crate) async fn transfer(task: &mut Task<PodVolumeRestore>) -> Result<Finish> {
    let ctx = Arc::clone(&task.ctx);
    let spec = task.object.spec.clone();
    if spec.snapshot_id.is_empty() {
        return Err(Error::InvalidSpec("spec.snapshotID is empty".to_owned()));
    }
    ctx.check_kubelet()?;
    let target = find(&ctx, &task.object).await?;
    let access = location::repository(
        &ctx,
        &spec.backup_storage_location,
        &spec.repository,
        Use::Restore,
        &task.stop,
    )
    .await?;
    let request = RestoreRequest {
        snapshot: spec.snapshot_id,
        target,
        sparse: true,
        restore_owner: true,
    };
    let report = task
        .on_thread("restore", move |progress, cancel| {
            let repository = access.open()?;
            Ok(restore(&repository, &request, progress, cancel)?)
        })
        .await?;
    Ok(Finish::with_file_errors(
        &report.errors,
        report.errors_dropped,
        "restored",
    ))
}

/// The volume's directory. The gate may have opened while a slot was waited for, so it is looked at
/// once more.
async fn find(ctx: &Context, object: &PodVolumeRestore) -> Result<PathBuf> {
    let wanted = &object.spec.pod;
    if let Gate::NotYet(why) = gate_of(ctx, wanted).await? {
        return Err(Error::GateNotStarted(why));
    }
    let pod = ctx.pods.get(&wanted.namespace, &wanted.name);
    let pod = pod.ok_or_else(|| Error::PodGone {
        namespace: wanted.namespace.clone(),
        name: wanted.name.clone(),
        uid: wanted.uid.clone(),
    })?;
    let pods_dir = ctx.settings.pods_dir.clone();
    let (name, claim) = (object.spec.volume.clone(), object.spec.claim.clone());
    thread::run("find", move || {
        volume::locate(&pods_dir, &pod, &name, claim.as_ref())
    })
    .await
}

/// Tells every gate what became of the volume.
///
/// A restored volume is worth waiting for: a gate that has not started yet is told when it has. A
/// failure is told to those that stand, and the others run into their own deadline.
pub(crate) async fn conclude(task: &mut Task<PodVolumeRestore>, finish: &mut Finish) -> Result<()> {
    let answer = if finish.usable {
        Answer::Done
    } else {
        Answer::Failed(
            finish
                .message
                .clone()
                .unwrap_or_else(|| finish.reason.to_owned()),
        )
    };
    let mut untold = Vec::new();
    for pod in gates(&task.object) {
        if let Err(error) = tell(task, &pod, &answer).await {
            if task.ctx.shutdown.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if answer == Answer::Done && matches!(error, Error::Gate { .. }) {
                return Err(error);
            }
            untold.push(format!("{}/{}: {error}", pod.namespace, pod.name));
        }
    }
    if !untold.is_empty() {
        let note = format!("gates not told: {}", untold.join("; "));
        finish.message = Some(match finish.message.take() {
            Some(message) => format!("{message} ({note})"),
            None => note,
        });
    }
    Ok(())
}

async fn tell(task: &Task<PodVolumeRestore>, pod: &PodReference, answer: &Answer) -> Result<()> {
    let mut changes = task.ctx.pods.changes();
    loop {
        let pods_dir = task.ctx.settings.pods_dir.clone();
        let (name, uid) = (format!("{}/{}", pod.namespace, pod.name), pod.uid.clone());
        let (volume, text) = (task.object.spec.volume.clone(), answer.clone());
        let written = thread::run("gate", move || {
            gate::write(&pods_dir, &name, &uid, &volume, &text)
        })
        .await;
        match written {
            // The directory comes with the pod's start.
            Err(error @ Error::VolumeNotFound { .. }) if *answer == Answer::Done => {
                match gate_of(&task.ctx, pod).await {
                    Ok(_) => {}
                    Err(Error::Api { .. }) => return Err(error),
                    Err(gone) => return Err(gone),
                }
            }
            other => return other,
        }
        tokio::select! {
            () = task.stop.cancelled() => return Err(Error::Cancelled),
            told = changes.changed() => if told.is_err() {
                return Err(Error::Bug("the watch of this node's pods ended".to_owned()));
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(phase: &str, gate: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"containers": [], "initContainers": [{"name": "ark-restore-wait"}]},
            "status": {"phase": phase, "initContainerStatuses": gate},
        }))
        .unwrap()
    }

    fn status(state: &Value, last: &Value) -> Value {
        json!([{
            "name": "ark-restore-wait", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": state, "lastState": last,
        }])
    }

    fn ended(code: i32) -> Value {
        json!({"terminated": {"exitCode": code}})
    }

    #[test]
    fn a_started_gate_stands() {
        let none = json!({});
        let running = status(&json!({"running": {}}), &none);
        assert_eq!(gate_state(&pod("Pending", &running)).unwrap(), Gate::Stands);
        let failed = status(&ended(1), &none);
        assert_eq!(gate_state(&pod("Pending", &failed)).unwrap(), Gate::Stands);
        let back_off = status(
            &json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            &ended(1),
        );
        assert_eq!(
            gate_state(&pod("Pending", &back_off)).unwrap(),
            Gate::Stands
        );
    }

    #[test]
    fn what_is_waited_for_is_told() {
        let waiting =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        let state = gate_state(&pod("Pending", &status(&waiting, &json!({})))).unwrap();
        let Gate::NotYet(why) = state else {
            panic!("{state:?}");
        };
        assert!(why.contains("ImagePullBackOff: no such image"), "{why}");
        let state = gate_state(&pod("Pending", &json!([]))).unwrap();
        assert!(matches!(state, Gate::NotYet(_)));
    }

    #[test]
    fn nothing_is_restored_under_an_application() {
        let none = json!({});
        for (phase, gate) in [
            ("Pending", status(&ended(0), &none)),
            ("Running", status(&ended(0), &none)),
            ("Running", json!([])),
            ("Failed", status(&ended(1), &none)),
        ] {
            let error = gate_state(&pod(phase, &gate)).unwrap_err();
            assert_eq!(error.reason(), "GateOpen", "{phase} {gate}");
        }
        let mut gateless = pod("Pending", &json!([]));
        if let Some(spec) = &mut gateless.spec {
            spec.init_containers = None;
        }
        assert_eq!(gate_state(&gateless).unwrap_err().reason(), "GateOpen");
    }

    #[test]
    fn each_gate_is_told_once() {
        let reference = |name: &str, uid: &str| PodReference {
            namespace: "n".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            ..PodReference::default()
        };
        let mut object = PodVolumeRestore::new(
            "x",
            ark_api::pod_volume_restore::PodVolumeRestoreSpec::default(),
        );
        object.spec.pod = reference("a", "1");
        object.spec.gates = vec![reference("a", "1"), reference("b", "2")];
        let names: Vec<_> = gates(&object).into_iter().map(|g| g.name).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
