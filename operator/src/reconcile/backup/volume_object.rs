//! The `PodVolumeBackup` of one volume: what it asks for, whether one that exists is ours, and what
//! its end means for the volume's row. Pure.

use std::collections::BTreeMap;

use ark_api::backup::Backup;
use ark_api::condition::reason;
use ark_api::naming::{self, tag};
use ark_api::pod_volume_backup::{PodVolumeBackupSpec, VolumePhase};
use ark_api::volume::{VolumeClass, VolumeMethod, VolumeReason, VolumeRow};
use ark_api::{PodVolumeBackup, annotation, label};
use kube::{Resource, ResourceExt};

use crate::volumes::plan::Task;

/// Where a volume goes.
pub(super) struct Target<'a> {
    /// Location.
    pub(super) location: &'a str,
    /// Name of the `ResticRepository`.
    pub(super) repository: &'a str,
    /// The repository as `restic -r` wants it.
    pub(super) identifier: &'a str,
}

/// The name of a task's object.
pub(super) fn name(backup: &Backup, task: &Task) -> String {
    let uid = backup.uid().unwrap_or_default();
    naming::pod_volume_backup(&backup.name_any(), &uid, &task.pod.uid, &task.volume)
}

/// What the agent is asked for.
pub(super) fn build(backup: &Backup, task: &Task, target: &Target<'_>) -> PodVolumeBackup {
    let (backup_name, backup_uid) = (backup.name_any(), backup.uid().unwrap_or_default());
    let namespace = &task.pod.namespace;
    let claim = task.claim.as_ref();
    let mut tags = BTreeMap::from([
        (tag::BACKUP, backup_name.clone()),
        (tag::BACKUP_UID, backup_uid.clone()),
        (tag::NAMESPACE, namespace.clone()),
        (tag::POD, task.pod.name.clone()),
        (tag::POD_UID, task.pod.uid.clone()),
        (tag::VOLUME, task.volume.clone()),
        (tag::OWNER, task.owner.clone()),
    ]);
    if let Some(claim) = claim {
        tags.insert(tag::PVC, claim.name.clone());
        tags.insert(tag::PVC_UID, claim.uid.clone());
    }
    let mut object = PodVolumeBackup::new(
        &name(backup, task),
        PodVolumeBackupSpec {
            node: task.node.clone(),
            pod: task.pod.clone(),
            volume: task.volume.clone(),
            backup_storage_location: target.location.to_owned(),
            repository: target.repository.to_owned(),
            repo_identifier: Some(target.identifier.to_owned()),
            uploader_type: Some("restic".to_owned()),
            tags: tags
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            snapshot_path: naming::snapshot_path(
                namespace,
                claim.map(|claim| claim.name.as_str()),
                &task.owner,
                &task.volume,
            ),
            claim: task.claim.clone(),
            ..PodVolumeBackupSpec::default()
        },
    );
    let labels = object.labels_mut();
    labels.insert(label::BACKUP_NAME.to_owned(), label::value(&backup_name));
    labels.insert(label::BACKUP_UID.to_owned(), backup_uid);
    labels.insert(label::POD_UID.to_owned(), task.pod.uid.clone());
    labels.insert(
        label::STORAGE_LOCATION.to_owned(),
        label::value(target.location),
    );
    labels.insert(label::NODE.to_owned(), label::value(&task.node));
    if let Some(claim) = claim {
        object
            .labels_mut()
            .insert(label::PVC_UID.to_owned(), claim.uid.clone());
        object
            .annotations_mut()
            .insert(annotation::PVC_NAME.to_owned(), claim.name.clone());
    }
    object.metadata.owner_references = backup.controller_owner_ref(&()).map(|owner| vec![owner]);
    object
}

/// Whether an object of the right name is really this task's: names can be guessed, uids are
/// checked.
pub(super) fn is_ours(object: &PodVolumeBackup, wanted: &PodVolumeBackup) -> bool {
    let label = |object: &PodVolumeBackup| object.labels().get(label::BACKUP_UID).cloned();
    label(object) == label(wanted)
        && object.spec.origin.is_none()
        && object.spec.pod.uid == wanted.spec.pod.uid
        && object.spec.volume == wanted.spec.volume
        && object.spec.repository == wanted.spec.repository
        && object.spec.tags == wanted.spec.tags
}

/// Writes the end of a volume into its row. `late`: it was cancelled because a deadline passed, in
/// words.
pub(super) fn settle(row: &mut VolumeRow, object: &PodVolumeBackup, late: Option<&str>) {
    let status = object.status.clone().unwrap_or_default();
    row.method = Some(VolumeMethod::Files);
    row.pod_volume_backup = Some(object.name_any());
    row.message.clone_from(&status.message);
    let snapshot = status.snapshot_id.filter(|id| is_snapshot_id(id));
    let (class, reason) = match status.phase {
        Some(VolumePhase::Completed) if snapshot.is_some() => {
            (VolumeClass::Taken, VolumeReason::Completed)
        }
        Some(VolumePhase::PartiallyFailed) if snapshot.is_some() => {
            (VolumeClass::Partial, VolumeReason::UnreadableFiles)
        }
        Some(VolumePhase::Completed | VolumePhase::PartiallyFailed) => {
            row.message = Some("the agent reported success without a snapshot".to_owned());
            (VolumeClass::Failed, VolumeReason::AgentError)
        }
        _ if late.is_some() => {
            row.message = late.map(str::to_owned);
            (VolumeClass::Failed, VolumeReason::Timeout)
        }
        Some(VolumePhase::Canceled) => (VolumeClass::Failed, VolumeReason::Cancelled),
        _ => (VolumeClass::Failed, failure(status.reason.as_deref())),
    };
    row.class = class;
    row.reason = reason;
    if matches!(class, VolumeClass::Taken | VolumeClass::Partial) {
        row.snapshot_id = snapshot;
        row.bytes = status
            .progress
            .as_ref()
            .map(|progress| progress.total_bytes.max(progress.bytes_done));
        row.new_bytes = status.incremental_bytes;
        row.files = status.files;
    }
}

/// The agent's word for a failure, in the words of rows.
fn failure(agent: Option<&str>) -> VolumeReason {
    match agent.unwrap_or_default() {
        reason::WRONG_PASSWORD
        | reason::KEY_MISSING
        | reason::REPOSITORY_MISSING
        | reason::LOCKED
        | reason::DAMAGED => VolumeReason::RepositoryNotReady,
        reason::NODE_GONE | reason::NO_AGENT => VolumeReason::NoAgentOnNode,
        reason::CLAIM_NOT_BOUND => VolumeReason::ClaimNotBound,
        reason::BLOCK_VOLUME => VolumeReason::BlockVolume,
        reason::POD_GONE | reason::POD_NOT_RUNNING => VolumeReason::PodNotRunning,
        reason::NO_SUCH_VOLUME => VolumeReason::NoSuchVolume,
        _ => VolumeReason::AgentError,
    }
}

fn is_snapshot_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use ark_api::backup::BackupSpec;
    use ark_api::pod_volume_backup::{
        ClaimReference, PodReference, PodVolumeBackupStatus, VolumeProgress,
    };

    use super::*;

    fn task() -> Task {
        Task {
            row: 0,
            pod: PodReference {
                kind: None,
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                uid: "pod-uid".to_owned(),
            },
            volume: "data".to_owned(),
            claim: Some(ClaimReference {
                name: "claim".to_owned(),
                uid: "claim-uid".to_owned(),
                volume_name: Some("pv".to_owned()),
            }),
            node: "n1".to_owned(),
            owner: "deployment/web".to_owned(),
        }
    }

    fn object() -> PodVolumeBackup {
        let mut backup = Backup::new("b", BackupSpec::default());
        backup.metadata.uid = Some("backup-uid".to_owned());
        let target = Target {
            location: "default",
            repository: "repo",
            identifier: "/store/restic/shop",
        };
        build(&backup, &task(), &target)
    }

    fn row() -> VolumeRow {
        serde_json::from_value(serde_json::json!({
            "namespace": "shop", "class": "failed", "reason": "AgentError",
        }))
        .unwrap()
    }

    fn settled(status: PodVolumeBackupStatus, late: bool) -> VolumeRow {
        let mut object = object();
        object.status = Some(status);
        let mut row = row();
        settle(&mut row, &object, late.then_some("late"));
        row
    }

    #[test]
    fn an_object_says_everything_the_agent_needs() {
        let object = object();
        assert_eq!(object.spec.snapshot_path, "/shop/claim");
        assert_eq!(object.spec.tags[tag::PVC], "claim");
        assert_eq!(object.labels()[label::BACKUP_UID], "backup-uid");
        assert_eq!(object.annotations()[annotation::PVC_NAME], "claim");
        let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str()),
            ("Backup", "backup-uid")
        );
        assert!(is_ours(&object, &object.clone()));
        let mut forged = object.clone();
        forged
            .labels_mut()
            .insert(label::BACKUP_UID.to_owned(), "other".to_owned());
        assert!(!is_ours(&forged, &object));
    }

    #[test]
    fn ends_become_rows() {
        let id = "a".repeat(64);
        let completed = PodVolumeBackupStatus {
            phase: Some(VolumePhase::Completed),
            snapshot_id: Some(id.clone()),
            progress: Some(VolumeProgress {
                total_bytes: 10,
                bytes_done: 10,
                files_done: 1,
            }),
            incremental_bytes: Some(3),
            ..PodVolumeBackupStatus::default()
        };
        let row = settled(completed.clone(), true);
        assert_eq!(
            (row.class, row.bytes, row.new_bytes),
            (VolumeClass::Taken, Some(10), Some(3))
        );
        assert_eq!(row.snapshot_id, Some(id));

        let mut liar = completed;
        liar.snapshot_id = Some("short".to_owned());
        assert_eq!(settled(liar, false).class, VolumeClass::Failed);

        let failed = |reason: &str| PodVolumeBackupStatus {
            phase: Some(VolumePhase::Failed),
            reason: Some(reason.to_owned()),
            message: Some("why".to_owned()),
            ..PodVolumeBackupStatus::default()
        };
        let row = settled(failed(reason::WRONG_PASSWORD), false);
        assert_eq!(row.reason, VolumeReason::RepositoryNotReady);
        assert_eq!(row.message.as_deref(), Some("why"));
        assert_eq!(
            settled(failed("else"), false).reason,
            VolumeReason::AgentError
        );

        let cancelled = PodVolumeBackupStatus {
            phase: Some(VolumePhase::Canceled),
            ..PodVolumeBackupStatus::default()
        };
        assert_eq!(
            settled(cancelled.clone(), false).reason,
            VolumeReason::Cancelled
        );
        assert_eq!(settled(cancelled, true).reason, VolumeReason::Timeout);
    }
}
