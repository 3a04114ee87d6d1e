//! Annotation names, their `velero.io` aliases, and how a pod's volume list is read.

use std::collections::BTreeMap;

/// Pod: comma-separated names of the volumes whose files are backed up (opt-in mode).
pub const BACKUP_VOLUMES: &str = "backup.ark.heptio.com/backup-volumes";
/// Pod: comma-separated names of volumes to leave out (opt-out mode).
pub const BACKUP_VOLUMES_EXCLUDES: &str = "backup.ark.heptio.com/backup-volumes-excludes";
/// Restored workload: the number of replicas it had, when it was applied with zero because a
/// volume of one of its pods failed.
pub const WANTED_REPLICAS: &str = "restore.ark.heptio.com/wanted-replicas";
/// Restored workload: uid of the restore that applied it so that it makes no pods. A later restore takes such a
/// workload out of the way, as long as nobody has changed it.
pub const HELD_BY: &str = "restore.ark.heptio.com/held-by";
/// Restored pod: why its gate need not wait any longer. Written by whoever gives a volume up; the gate reads it through
/// a downward API volume and ends with it.
pub const GAVE_UP: &str = "restore.ark.heptio.com/gave-up";
/// Restored claim: uid of the restore that made it to be filled. Removed once it is full, so a later restore
/// knows a claim that no application was meant to get.
pub const AWAITS_DATA: &str = "restore.ark.heptio.com/awaits-data";
/// Repository key Secret: time (RFC 3339, UTC) at which its key was exported by the user.
pub const KEY_EXPORTED_AT: &str = "ark.heptio.com/key-exported-at";
/// Repository key Secret: `"true"` when Ark made the key, absent when the user supplied it.
pub const KEY_GENERATED: &str = "ark.heptio.com/key-generated";
/// Claim created for a restored pod or by a restore: uid of the restore that created it.
pub const RESTORE_UID: &str = "restore.ark.heptio.com/restore-uid";
/// Backup made by a Schedule: when its run was due (RFC 3339, UTC).
pub const SCHEDULED_AT: &str = "ark.heptio.com/scheduled-at";
/// Backup made by a Schedule: uid of that Schedule.
pub const SCHEDULE_UID: &str = "ark.heptio.com/schedule-uid";
/// Location: backups there that expired up to this time (RFC 3339, UTC) may be deleted, however many they are and
/// whichever cluster made them.
pub const EXPIRY_ACKNOWLEDGED: &str = "ark.heptio.com/expiry-acknowledged";
/// Backup, or the Schedule that makes it: `"true"` lets it expire even when it is the last good one of its schedule.
pub const EXPIRE_LAST_GOOD: &str = "backup.ark.heptio.com/expire-last-good";
/// Restore: it is to be deleted with its log and results; see [`DELETE_FORCE`].
pub const DELETE: &str = "ark.heptio.com/delete";
/// Value of [`DELETE`] with which the object goes even when its log and results cannot be deleted.
pub const DELETE_FORCE: &str = "force";
/// `PodVolumeBackup`: name of the claim, for readers of Velero's annotation of the same name.
pub const PVC_NAME: &str = "ark.heptio.com/pvc-name";
/// `PodVolumeBackup`, `PodVolumeRestore`: seconds that pass at least between two writes that only
/// tell how far the agent is. The operator chooses them so that all volumes that run in the cluster
/// together write a bounded number a second.
pub const TELL_EVERY: &str = "ark.heptio.com/tell-every-seconds";

/// Backup, Restore: uid of the object that was executed, written before its run starts. One that carries
/// another object's uid is a copy and is not executed; see [`crate::run_stamp`].
pub const RUN_UID: &str = "ark.heptio.com/run-uid";
/// Any object: the manifest that `kubectl apply` was given, as JSON.
pub const KUBECTL_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// `ResticRepository`: asks for maintenance at once; see [`crate::maintenance::Wanted`]. Carried out once for each
/// value.
pub const MAINTENANCE_REQUEST: &str = "ark.heptio.com/maintenance-request";
/// Maintenance Job: comma-separated names of the `ResticRepository` objects it works on.
pub const MAINTENANCE_REPOSITORIES: &str = "ark.heptio.com/maintenance-repositories";

/// Prefixes of hook annotations; a pod that carries one cannot be backed up as asked until hooks
/// are supported, which is reported and not ignored.
pub const HOOK_PREFIXES: &[&str] = &[
    "pre.hook.backup.ark.heptio.com/",
    "post.hook.backup.ark.heptio.com/",
    "hook.backup.ark.heptio.com/",
    "pre.hook.backup.velero.io/",
    "post.hook.backup.velero.io/",
    "hook.backup.velero.io/",
];

/// Prefixes of restore hook annotations.
pub const RESTORE_HOOK_PREFIXES: &[&str] = &[
    "post.hook.restore.ark.heptio.com/",
    "init.hook.restore.ark.heptio.com/",
    "post.hook.restore.velero.io/",
    "init.hook.restore.velero.io/",
];

/// The `velero.io` spelling of an Ark annotation or label key.
pub fn velero_alias(key: &str) -> String {
    key.replacen("ark.heptio.com/", "velero.io/", 1)
}

/// Value of `key`, or of its `velero.io` alias, among annotations or labels; Ark's own spelling wins.
pub fn get<'a>(annotations: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    annotations
        .get(key)
        .or_else(|| annotations.get(&velero_alias(key)))
        .map(String::as_str)
}

/// Names in a comma-separated annotation value, trimmed, without empties and duplicates, in the
/// order they were written.
pub fn names(value: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for name in value.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        if !seen.iter().any(|s| s == name) {
            seen.push(name.to_owned());
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_spelling_wins_over_alias() {
        let mut map =
            BTreeMap::from([("backup.velero.io/backup-volumes".to_owned(), "a".to_owned())]);
        assert_eq!(get(&map, BACKUP_VOLUMES), Some("a"));
        map.insert(BACKUP_VOLUMES.to_owned(), "b".to_owned());
        assert_eq!(get(&map, BACKUP_VOLUMES), Some("b"));
    }

    #[test]
    fn names_are_trimmed_and_unique() {
        assert_eq!(names(" data, logs ,,data"), ["data", "logs"]);
        assert!(names(" , ").is_empty());
    }
}
