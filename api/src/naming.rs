//! Names that must come out the same whenever they are made: deterministic, with a hash of what
//! makes them unique, so that a restart finds its own objects again.

use sha2::{Digest, Sha256};

/// Longest name Kubernetes gives an object.
const MAX_NAME: usize = 253;
/// Name of the gate's volume and of the file that says so in a restored pod.
pub const GATE_VOLUME: &str = "ark-restore-gate";
/// Name of the gate's init container.
pub const GATE_CONTAINER: &str = "ark-restore-wait";
/// Names of the gates other versions and products used; stripped from stored pods.
pub const FOREIGN_GATE_CONTAINERS: &[&str] = &["restore-wait", "restic-wait"];
/// Where the gate's volume is mounted in its init container.
pub const GATE_MOUNT: &str = "/ark-restore-gate";
/// Name of the volume through which a gate reads that somebody gave up.
pub const GATE_TOLD_VOLUME: &str = "ark-restore-told";
/// Where that volume is mounted in the gate's init container.
pub const GATE_TOLD_MOUNT: &str = "/ark-restore-told";
/// File in that volume which holds the reason, empty as long as there is none.
pub const GATE_TOLD_FILE: &str = "gave-up";
/// Key of the repository password in a location's key Secret (Velero's key name).
pub const REPOSITORY_PASSWORD_KEY: &str = "repository-password";

/// First ten hexadecimal digits of the SHA-256 of `parts`, each preceded by its length.
fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut digest = hex::encode(hasher.finalize());
    digest.truncate(10);
    digest
}

fn with_hash(stem: &str, parts: &[&str]) -> String {
    let digest = hash(parts);
    let room = MAX_NAME - digest.len() - 1;
    let stem = stem
        .get(..room)
        .unwrap_or(stem)
        .trim_end_matches(['.', '-']);
    format!("{stem}-{digest}")
}

/// Name of the `PodVolumeBackup` of one volume of one pod in one backup.
pub fn pod_volume_backup(backup: &str, backup_uid: &str, pod_uid: &str, volume: &str) -> String {
    with_hash(backup, &[backup_uid, pod_uid, volume])
}

/// Name of the `PodVolumeRestore` of one volume in one restore. `pod_uid` is the restored pod's.
pub fn pod_volume_restore(restore: &str, restore_uid: &str, pod_uid: &str, volume: &str) -> String {
    with_hash(restore, &[restore_uid, pod_uid, volume])
}

/// Name of the `DeleteBackupRequest` of a backup: whoever asks for it twice asks once.
pub fn delete_request(backup: &str, backup_uid: &str) -> String {
    with_hash(backup, &[backup_uid, "delete"])
}

/// Name of the `ResticRepository` of a namespace at a location.
pub fn repository(namespace: &str, location: &str) -> String {
    with_hash(&format!("{namespace}-{location}"), &[namespace, location])
}

/// Name of the Secret with a location's repository key.
pub fn key_secret(location: &str) -> String {
    format!("ark-repository-key-{location}")
}

/// Path shown in the snapshots of a volume: stable over pods and clusters, so that restic's own
/// parent search works as well. `/<namespace>/<claim>` for a claim, else
/// `/<namespace>/<owner>/<volume>`, where `owner` is the workload (or the pod itself).
pub fn snapshot_path(namespace: &str, claim: Option<&str>, owner: &str, volume: &str) -> String {
    match claim {
        Some(claim) => format!("/{namespace}/{claim}"),
        None => format!("/{namespace}/{owner}/{volume}"),
    }
}

/// Host shown in every snapshot. Velero's value is `velero`; ours is as constant, because restic's
/// parent search compares it.
pub const SNAPSHOT_HOST: &str = "ark";

/// Keys of the tags of a snapshot (`key=value`): Velero's, plus our own below.
pub mod tag {
    /// Backup name.
    pub const BACKUP: &str = "backup";
    /// Backup uid.
    pub const BACKUP_UID: &str = "backup-uid";
    /// Namespace.
    pub const NAMESPACE: &str = "ns";
    /// Pod name.
    pub const POD: &str = "pod";
    /// Pod uid.
    pub const POD_UID: &str = "pod-uid";
    /// Volume name in the pod.
    pub const VOLUME: &str = "volume";
    /// Claim uid.
    pub const PVC_UID: &str = "pvc-uid";
    /// Claim name (ours).
    pub const PVC: &str = "pvc";
    /// Workload that owns the pod, `deployment/nginx`, or `pod/<name>` (ours).
    pub const OWNER: &str = "owner";
    /// Uid of the `PodVolumeBackup` that took it (ours): how a retry recognises finished work.
    pub const VOLUME_BACKUP_UID: &str = "pvb-uid";
}

/// Name of a volume's result file in the gate: `<volume>.done`.
pub fn gate_done(volume: &str) -> String {
    format!("{volume}.done")
}

/// Name of a volume's failure file in the gate: `<volume>.failed`; it holds the reason.
pub fn gate_failed(volume: &str) -> String {
    format!("{volume}.failed")
}

/// `<stem>-YYYYMMDDhhmmss` in UTC, the name Velero gives scheduled backups and unnamed restores.
pub fn timestamped(stem: &str, now: jiff::Timestamp) -> String {
    format!("{stem}-{}", now.strftime("%Y%m%d%H%M%S"))
}

/// A number that belongs to `uid` and stays the same: what is to be spread over time takes its remainder.
pub fn spread(uid: &str) -> u64 {
    let digest = Sha256::digest(uid.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Name of the maintenance Job that starts with repository `first` at `now`. Short enough to be a label value, which the
/// name of a Job has to be.
pub fn maintenance_job(first: &str, now: jiff::Timestamp) -> String {
    timestamped(&format!("ark-maintain-{}", hash(&[first])), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_input_same_name_and_no_ambiguity() {
        assert_eq!(
            pod_volume_backup("b", "u", "p", "v"),
            pod_volume_backup("b", "u", "p", "v")
        );
        assert_ne!(repository("a-b", "c"), repository("a", "b-c"));
        assert_ne!(
            pod_volume_backup("b", "u", "pv", ""),
            pod_volume_backup("b", "u", "p", "v")
        );
    }

    #[test]
    fn names_fit() {
        let name = pod_volume_backup(&"x".repeat(253), "u", "p", "v");
        assert!(name.len() <= MAX_NAME);
    }

    #[test]
    fn timestamp_is_utc() {
        let at: jiff::Timestamp = "2026-01-02T03:04:05+01:00".parse().unwrap();
        assert_eq!(timestamped("daily", at), "daily-20260102020405");
    }
}
