//! Where things lie under a location's prefix. Layout and artefact names are those of Velero
//! (`pkg/persistence/object_store_layout.go`, release 1.16) with markers of our own.
//!
//! Under the prefix only the directories of [`TOP_LEVEL`] may exist; Velero calls a location with
//! any other one invalid, and so do we.

/// Directories that may exist directly under a location's prefix.
pub const TOP_LEVEL: &[&str] = &[
    "backups", "restores", "restic", "kopia", "metadata", "plugins",
];
/// Our marker: the Backup object as JSON, written last. No marker, no backup.
pub const MARKER: &str = "ark-backup.json";
/// Velero's marker, read as well. It is written before the tarball, so it proves nothing alone.
pub const VELERO_MARKER: &str = "velero-backup.json";
/// The claim object of a backup or restore: written first, if absent, so that one name has one writer.
pub const CLAIM: &str = "ark-claim.json";
/// What a `local` location's directory holds so that operator and agents can tell that they see
/// the same one.
pub const HANDSHAKE: &str = "metadata/ark-location.json";

/// `backups/<backup>`, without a slash at its end.
pub fn backup_dir(backup: &str) -> String {
    format!("backups/{backup}")
}

/// `restores/<restore>`, without a slash at its end.
pub fn restore_dir(restore: &str) -> String {
    format!("restores/{restore}")
}

/// Our marker of a backup.
pub fn marker(backup: &str) -> String {
    format!("backups/{backup}/{MARKER}")
}

/// The claim object of a backup.
pub fn claim(backup: &str) -> String {
    format!("backups/{backup}/{CLAIM}")
}

/// The tarball of items.
pub fn bundle(backup: &str) -> String {
    format!("backups/{backup}/{backup}.tar.gz")
}

/// The log of a backup.
pub fn backup_logs(backup: &str) -> String {
    format!("backups/{backup}/{backup}-logs.gz")
}

/// The `PodVolumeBackup` objects of a backup: a gzipped JSON array.
pub fn pod_volume_backups(backup: &str) -> String {
    format!("backups/{backup}/{backup}-podvolumebackups.json.gz")
}

/// Errors and warnings of a backup: [`crate::results::Results`], gzipped JSON.
pub fn backup_results(backup: &str) -> String {
    format!("backups/{backup}/{backup}-results.gz")
}

/// Names of all items of a backup: gzipped JSON, `{"v1/Pod": ["ns/name"]}`.
pub fn resource_list(backup: &str) -> String {
    format!("backups/{backup}/{backup}-resource-list.json.gz")
}

/// Volume rows of a backup: a gzipped JSON array of [`crate::volume::VolumeRow`].
pub fn volume_rows(backup: &str) -> String {
    format!("backups/{backup}/{backup}-ark-volumes.json.gz")
}

/// The claim object of a restore.
pub fn restore_claim(restore: &str) -> String {
    format!("restores/{restore}/{CLAIM}")
}

/// The log of a restore.
pub fn restore_logs(restore: &str) -> String {
    format!("restores/{restore}/restore-{restore}-logs.gz")
}

/// Errors, warnings and rows of a restore: [`crate::results::Results`], gzipped JSON.
pub fn restore_results(restore: &str) -> String {
    format!("restores/{restore}/restore-{restore}-results.gz")
}

/// Names of all items of a restore: gzipped JSON.
pub fn restore_resource_list(restore: &str) -> String {
    format!("restores/{restore}/restore-{restore}-resource-list.json.gz")
}

/// Prefix of the repository that holds the volumes of `namespace`.
pub fn repository(namespace: &str) -> String {
    format!("restic/{namespace}")
}

/// What the agent of `node` writes to answer the handshake of a `local` location.
pub fn agent_handshake(node: &str) -> String {
    format!("metadata/agents/{node}.json")
}
