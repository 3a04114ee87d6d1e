//! The backup of one volume: what a `PodVolumeBackup` orders.
//!
//! Order: the pod is looked at and its directory found; the repository is opened; a retry looks for
//! the snapshot of an earlier attempt; the files are archived; pod and directory are looked at
//! again, because a pod that ends meanwhile takes its files with it and the snapshot then holds
//! less than it seems to; the status gets the snapshot's id together with the outcome.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ark_api::PodVolumeBackup;
use ark_api::condition::reason;
use ark_api::naming::{SNAPSHOT_HOST, tag};
use ark_api::pod_volume_backup::{PodReference, PodVolumeBackupSpec, VolumePhase};
use ark_engine::{
    ArchiveReport, ArchiveRequest, Cancel, Progress, Repository, Snapshot, Source, archive,
};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::location::{self, Use};
use crate::queue::{SMALL, Weight};
use crate::report::Finish;
use crate::repositories::Lease;
use crate::task::Task;
use crate::{thread, volume};

/// How much of a slot's means the volume takes: its content, as far as the agent sees the pod, and
/// the index.
pub(crate) async fn weigh(task: &mut Task<PodVolumeBackup>) -> Result<Weight> {
    let (ctx, spec) = (&task.ctx, &task.object.spec);
    let Some(pod) = ctx.pods.get(&spec.pod.namespace, &spec.pod.name) else {
        return Ok(Weight::Large);
    };
    let pods_dir = ctx.settings.pods_dir.clone();
    let (volume, claim) = (spec.volume.clone(), spec.claim.clone());
    let bytes = thread::run("weigh", move || {
        let path = volume::locate(&pods_dir, &pod, &volume, claim.as_ref())?;
        volume::small(&path, SMALL).map_err(|error| Error::UnsafePath {
            path: path.display().to_string(),
            message: error.to_string(),
        })
    })
    .await?;
    let Some(bytes) = bytes else {
        return Ok(Weight::Large);
    };
    let repository = open(task).await?;
    Ok(Weight::Small(
        bytes.saturating_add(repository.index_bytes()),
    ))
}

/// The repository that the volume goes to.
async fn open(task: &Task<PodVolumeBackup>) -> Result<Lease> {
    let spec = &task.object.spec;
    let (location, namespace) = (&spec.backup_storage_location, namespace(spec));
    location::repository(&task.ctx, location, namespace, Use::Backup, &task.stop).await
}

/// The namespace whose volumes the repository holds.
fn namespace(spec: &PodVolumeBackupSpec) -> &str {
    spec.tags.get(tag::NAMESPACE).unwrap_or(&spec.pod.namespace)
}

/// The transfer.
pub(crate) async fn transfer(task: &mut Task<PodVolumeBackup>) -> Result<Finish> {
    let ctx = std::sync::Arc::clone(&task.ctx);
    let spec = task.object.spec.clone();
    let uid = task.object.metadata.uid.clone().unwrap_or_default();
    ctx.check_kubelet()?;
    let before = look(&ctx, &spec).await?;
    task.reporter.status.path = Some(before.path.display().to_string());
    let request = ArchiveRequest {
        state: ctx.settings.state.clone(),
        ..request(&spec, &uid, before.path.clone())?
    };
    let lease = open(task).await?;
    let again = task.reporter.status.attempt.is_some_and(|n| n > 1);
    let taken = task
        .on_thread("backup", move |progress, cancel| {
            let earlier = again.then(|| own_tag(&uid));
            lease.work(cancel, |repository| {
                take(repository, &request, earlier, progress, cancel)
            })
        })
        .await?;
    match taken {
        Taken::Now(report) => {
            if let Some(state) = &report.state {
                ctx.metrics.fingerprints(state);
            }
            note(task, &report);
            let finish = Finish::with_file_errors(&report.errors, report.errors_dropped, "stored")
                .with_notes(&report.notes);
            Ok(doubted(finish, &before, look(&ctx, &spec).await))
        }
        Taken::Earlier(snapshot) => Ok(earlier(task, *snapshot)),
    }
}

/// A volume's directory and which one it is.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    identity: (u64, u64),
}

/// Looks at the pod, directly, and finds its volume.
async fn look(ctx: &Context, spec: &PodVolumeBackupSpec) -> Result<Seen> {
    let pod = running_pod(ctx, &spec.pod).await?;
    let pods_dir = ctx.settings.pods_dir.clone();
    let (volume, claim) = (spec.volume.clone(), spec.claim.clone());
    thread::run("find", move || {
        let path = volume::locate(&pods_dir, &pod, &volume, claim.as_ref())?;
        let identity = identity(&path)?;
        Ok(Seen { path, identity })
    })
    .await
}

fn identity(path: &Path) -> Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).map_err(|error| Error::UnsafePath {
        path: path.display().to_string(),
        message: error.to_string(),
    })?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The pod, which must be the one meant and running here.
async fn running_pod(ctx: &Context, wanted: &PodReference) -> Result<Pod> {
    let pods = Api::<Pod>::namespaced(ctx.client.clone(), &wanted.namespace);
    let doing = || format!("get pod {}/{}", wanted.namespace, wanted.name);
    let found = pods
        .get_opt(&wanted.name)
        .await
        .map_err(|source| Error::api(doing(), source))?;
    is_running_here(found, wanted, &ctx.settings.node)
}

fn is_running_here(found: Option<Pod>, wanted: &PodReference, node: &str) -> Result<Pod> {
    let found = found.filter(|pod| pod.metadata.uid.as_deref() == Some(&wanted.uid));
    let pod = found.ok_or_else(|| Error::PodGone {
        namespace: wanted.namespace.clone(),
        name: wanted.name.clone(),
        uid: wanted.uid.clone(),
    })?;
    let on = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let state = match (on, phase) {
        (Some(on), _) if on != node => format!("on node {on}, not on this one"),
        (Some(_), Some("Running")) => return Ok(pod),
        (_, phase) => format!("{}, not Running", phase.unwrap_or("Pending")),
    };
    Err(Error::PodNotRunning {
        pod: volume::display_name(&pod),
        state,
    })
}

/// The finish, unless pod or directory are no longer what they were: then the snapshot may lack
/// files that nothing could name.
fn doubted(finish: Finish, before: &Seen, after: Result<Seen>) -> Finish {
    let (reason, why) = match after {
        Ok(after) if after == *before => return finish,
        Ok(_) => (
            reason::VOLUME_NOT_FOUND,
            "its directory was replaced".to_owned(),
        ),
        // A question that could not be asked is no answer.
        Err(Error::Api { .. }) => return finish,
        Err(error) => (error.reason(), error.to_string()),
    };
    Finish {
        phase: VolumePhase::PartiallyFailed,
        reason,
        message: Some(format!(
            "the volume went away while its files were read, so the snapshot may lack some: {why}"
        )),
        ..finish
    }
}

fn own_tag(uid: &str) -> String {
    format!("{}={uid}", tag::VOLUME_BACKUP_UID)
}

/// What the engine is asked for.
fn request(spec: &PodVolumeBackupSpec, uid: &str, source: PathBuf) -> Result<ArchiveRequest> {
    if spec.snapshot_path.is_empty() {
        return Err(Error::InvalidSpec("spec.snapshotPath is empty".to_owned()));
    }
    let mut tags: Vec<_> = spec
        .tags
        .iter()
        .filter(|(key, _)| key.as_str() != tag::VOLUME_BACKUP_UID)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    tags.push(own_tag(uid));
    Ok(ArchiveRequest {
        source: Source::Directory(source),
        snapshot_path: spec.snapshot_path.clone(),
        host: SNAPSHOT_HOST.to_owned(),
        tags,
        parent_tags: parent_tags(spec),
        ..ArchiveRequest::default()
    })
}

/// By which tags an earlier snapshot of the same volume is known, best first: by namespace and
/// claim, or by workload and volume, so that neither a new pod nor a new cluster breaks the chain;
/// then by the claim's uid, which is all that Velero wrote.
fn parent_tags(spec: &PodVolumeBackupSpec) -> Vec<Vec<String>> {
    let sets: [&[&str]; 2] = if spec.tags.contains_key(tag::PVC) {
        [&[tag::NAMESPACE, tag::PVC], &[tag::PVC_UID]]
    } else {
        [&[tag::NAMESPACE, tag::OWNER, tag::VOLUME], &[]]
    };
    sets.iter()
        .filter(|keys| !keys.is_empty())
        .filter_map(|keys| {
            keys.iter()
                .map(|key| spec.tags.get(*key).map(|value| format!("{key}={value}")))
                .collect()
        })
        .collect()
}

enum Taken {
    Now(Box<ArchiveReport>),
    Earlier(Box<Snapshot>),
}

/// Archives, unless there is a snapshot with the tag `earlier` already.
fn take(
    repository: &Repository,
    request: &ArchiveRequest,
    earlier: Option<String>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Taken> {
    if let Some(tag) = earlier {
        let tags = [tag];
        if let Some(found) = repository
            .snapshots()?
            .into_iter()
            .rfind(|s| s.has_tags(&tags))
        {
            return Ok(Taken::Earlier(Box::new(found)));
        }
    }
    let report = archive(repository, request, progress, cancel)?;
    Ok(Taken::Now(Box::new(report)))
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn note(task: &mut Task<PodVolumeBackup>, report: &ArchiveReport) {
    let status = &mut task.reporter.status;
    status.snapshot_id = Some(report.snapshot_id.clone());
    status.parent_snapshot_id.clone_from(&report.parent);
    status.incremental_bytes = Some(number(report.bytes_new));
    status.files = Some(number(report.files));
    if let Some(progress) = &mut status.progress {
        progress.total_bytes = number(report.bytes_total);
        progress.bytes_done = number(report.bytes_total);
    }
}

/// A snapshot that an earlier attempt made in the moment before it was killed. Which files it could
/// not read was in that attempt's memory only, so it is not called complete.
fn earlier(task: &mut Task<PodVolumeBackup>, snapshot: Snapshot) -> Finish {
    let status = &mut task.reporter.status;
    status.snapshot_id = Some(snapshot.id);
    status.parent_snapshot_id = snapshot.parent;
    if let Some(summary) = snapshot.summary {
        status.files = Some(number(summary.total_files_processed));
        status.incremental_bytes = Some(number(summary.data_added_packed));
        if let Some(progress) = &mut status.progress {
            progress.total_bytes = number(summary.total_bytes_processed);
            progress.bytes_done = progress.total_bytes;
        }
    }
    Finish {
        phase: VolumePhase::PartiallyFailed,
        reason: reason::FILE_ERRORS,
        message: Some(
            "the agent ended right after it had made the snapshot, before it could say which files it could not \
             read, if any"
                .to_owned(),
        ),
        ..Finish::completed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(tags: &[(&str, &str)]) -> PodVolumeBackupSpec {
        PodVolumeBackupSpec {
            tags: tags
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            snapshot_path: "/shop/data".to_owned(),
            ..PodVolumeBackupSpec::default()
        }
    }

    #[test]
    fn parents_are_searched_by_what_outlives_a_pod() {
        let claim = spec(&[
            ("ns", "shop"),
            ("pvc", "data"),
            ("pvc-uid", "u"),
            ("pod", "p"),
        ]);
        assert_eq!(
            parent_tags(&claim),
            [
                vec!["ns=shop".to_owned(), "pvc=data".to_owned()],
                vec!["pvc-uid=u".to_owned()]
            ]
        );
        let empty_dir = spec(&[("ns", "shop"), ("owner", "deployment/web"), ("volume", "v")]);
        assert_eq!(
            parent_tags(&empty_dir),
            [["ns=shop", "owner=deployment/web", "volume=v"]
                .map(str::to_owned)
                .to_vec()]
        );
        assert!(parent_tags(&spec(&[("ns", "shop")])).is_empty());
    }

    #[test]
    fn a_repository_is_found_without_any_object_that_describes_it() {
        let mut tagged = spec(&[("ns", "shop")]);
        tagged.pod.namespace = "other".to_owned();
        assert_eq!(namespace(&tagged), "shop");
        tagged.tags.clear();
        assert_eq!(namespace(&tagged), "other");
    }

    #[test]
    fn every_snapshot_carries_the_uid_of_its_order() {
        let made = request(
            &spec(&[("ns", "shop"), ("pvb-uid", "forged")]),
            "u1",
            "/x".into(),
        );
        assert_eq!(made.unwrap().tags, ["ns=shop", "pvb-uid=u1"]);
        let mut nameless = spec(&[]);
        nameless.snapshot_path.clear();
        assert!(request(&nameless, "u1", "/x".into()).is_err());
    }

    #[test]
    fn only_the_very_pod_that_runs_here_will_do() {
        let wanted = PodReference {
            namespace: "n".to_owned(),
            name: "p".to_owned(),
            uid: "u".to_owned(),
            ..PodReference::default()
        };
        let pod = |uid: &str, node: &str, phase: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"namespace": "n", "name": "p", "uid": uid},
                "spec": {"containers": [], "nodeName": node},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        let judge = |pod| is_running_here(pod, &wanted, "here").map_err(|e| e.reason());
        assert!(judge(Some(pod("u", "here", "Running"))).is_ok());
        assert_eq!(judge(None).unwrap_err(), "PodGone");
        assert_eq!(
            judge(Some(pod("v", "here", "Running"))).unwrap_err(),
            "PodGone"
        );
        assert_eq!(
            judge(Some(pod("u", "there", "Running"))).unwrap_err(),
            "PodNotRunning"
        );
        assert_eq!(
            judge(Some(pod("u", "here", "Succeeded"))).unwrap_err(),
            "PodNotRunning"
        );
    }

    #[test]
    fn a_volume_that_went_away_is_not_called_complete() {
        let seen = |inode| Seen {
            path: "/v".into(),
            identity: (1, inode),
        };
        let judge = |after| doubted(Finish::completed(), &seen(1), after).phase;
        assert_eq!(judge(Ok(seen(1))), VolumePhase::Completed);
        assert_eq!(judge(Ok(seen(2))), VolumePhase::PartiallyFailed);
        let gone = Error::PodNotRunning {
            pod: "n/p".to_owned(),
            state: "Failed".to_owned(),
        };
        assert_eq!(judge(Err(gone)), VolumePhase::PartiallyFailed);
    }
}
