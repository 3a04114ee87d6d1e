//! The restore of one volume: what a `PodVolumeRestore` orders.
//!
//! Order: wait until the pod's gate has started, because only then has the kubelet mounted the
//! pod's volumes, and as long as it stands no application uses them; find the directory; restore;
//! tell every gate that waits for this volume; then the status. So a status that says the end is
//! never there before the gates know it, and a restart in between only tells them again.
//!
//! A gate that holds `<volume>.done` means that the files are there, whatever the status says:
//! nothing is restored over an application that may be running. Nor is anything written into a
//! volume that held files before, unless the object says so; half restored files of this object's
//! are restored over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ark_api::PodVolumeRestore;
use ark_api::condition::{self, kind, reason};
use ark_api::pod_volume_backup::PodReference;
use ark_api::pod_volume_restore::WhenNotEmpty;
use ark_engine::{RestoreRequest, restore};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::gate::{self, Answer};
use crate::gate_state::{Gate, gate_state};
use crate::location::{self, Use};
use crate::queue::{SMALL, Weight};
use crate::report::Finish;
use crate::repositories::Lease;
use crate::task::Task;
use crate::{thread, volume};

/// Time after which a pod that is waited for is looked at again, although no change of a pod of
/// this node was seen: it may have been deleted before it came here.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A snapshot of more files is not small, however short they are.
const SMALL_FILES: u64 = 1000;

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
            () = tokio::time::sleep(LOOK_AGAIN) => {}
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

/// How much of a slot's means the volume takes: what its snapshot says of its content, and the
/// index.
pub(crate) async fn weigh(task: &mut Task<PodVolumeRestore>) -> Result<Weight> {
    let lease = open(task).await?;
    let snapshot = task.object.spec.snapshot_id.clone();
    let index = lease.index_bytes();
    let snapshot = thread::run("weigh", move || {
        Ok(lease.repository()?.find_snapshot(&snapshot)?)
    })
    .await?;
    Ok(match snapshot.summary {
        Some(summary)
            if summary.total_bytes_processed <= SMALL
                && summary.total_files_processed <= SMALL_FILES =>
        {
            Weight::Small(summary.total_bytes_processed.saturating_add(index))
        }
        _ => Weight::Large,
    })
}

/// The repository that the volume comes from.
async fn open(task: &Task<PodVolumeRestore>) -> Result<Lease> {
    let spec = &task.object.spec;
    let (location, namespace) = (&spec.backup_storage_location, &spec.source_namespace);
    location::repository(&task.ctx, location, namespace, Use::Restore, &task.stop).await
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
    if let Some(finish) = check_empty(task, &target).await? {
        return Ok(finish);
    }
    let lease = open(task).await?;
    let request = RestoreRequest {
        snapshot: spec.snapshot_id,
        target,
        sparse: true,
        restore_owner: true,
        ..RestoreRequest::default()
    };
    let report = task
        .on_thread("restore", move |progress, cancel| {
            lease.work(cancel, |repository| {
                Ok(restore(repository, &request, progress, cancel)?)
            })
        })
        .await?;
    Ok(
        Finish::with_file_errors(&report.errors, report.errors_dropped, "restored")
            .with_notes(&report.notes),
    )
}

/// Looks whether the volume holds files that this restore has not written. `Some` if the volume is
/// left as it is and the application may have it.
///
/// An attempt that found the volume empty says so in the status before the first file is written; a
/// later one restores over what it finds.
async fn check_empty(
    task: &mut Task<PodVolumeRestore>,
    target: &std::path::Path,
) -> Result<Option<Finish>> {
    let conditions = &task.reporter.status.conditions;
    let policy = task.object.spec.when_not_empty;
    if policy == WhenNotEmpty::Fill || condition::is_true(conditions, kind::TARGET_EMPTY) {
        return Ok(None);
    }
    let path = target.to_owned();
    match thread::run("look", move || volume::first_entry(&path)).await? {
        None => {
            task.reporter.target_empty().await?;
            Ok(None)
        }
        Some(first) if policy == WhenNotEmpty::Keep => Ok(Some(Finish::kept(&first))),
        Some(first) => Err(Error::NotEmpty { first }),
    }
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
                    Ok(Gate::NotYet(_)) => {}
                    Ok(Gate::Stands) | Err(Error::Api { .. }) => return Err(error),
                    Err(gone) => return Err(gone),
                }
            }
            other => return other,
        }
        tokio::select! {
            () = task.stop.cancelled() => return Err(Error::Cancelled),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            told = changes.changed() => if told.is_err() {
                return Err(Error::Bug("the watch of this node's pods ended".to_owned()));
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
