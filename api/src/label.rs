//! Label names and the rule that fits any name into a label value.

use sha2::{Digest, Sha256};

/// `"true"` leaves an object, a claim or a whole namespace out of every backup.
pub const EXCLUDE_FROM_BACKUP: &str = "ark.heptio.com/exclude-from-backup";
/// Name of the Backup an object belongs to.
pub const BACKUP_NAME: &str = "ark.heptio.com/backup-name";
/// Uid of the Backup an object belongs to.
pub const BACKUP_UID: &str = "ark.heptio.com/backup-uid";
/// Name of the Restore an object belongs to; also set on every restored object.
pub const RESTORE_NAME: &str = "ark.heptio.com/restore-name";
/// Uid of the Restore an object belongs to.
pub const RESTORE_UID: &str = "ark.heptio.com/restore-uid";
/// Name of the Schedule that made a Backup.
pub const SCHEDULE_NAME: &str = "ark.heptio.com/schedule-name";
/// Location an object belongs to.
pub const STORAGE_LOCATION: &str = "ark.heptio.com/storage-location";
/// Namespace whose volumes a repository holds.
pub const VOLUME_NAMESPACE: &str = "ark.heptio.com/volume-namespace";
/// Uid of the pod of a volume backup or restore.
pub const POD_UID: &str = "ark.heptio.com/pod-uid";
/// Uid of the claim of a volume backup or restore.
pub const PVC_UID: &str = "ark.heptio.com/pvc-uid";
/// Node a volume backup or restore runs on.
pub const NODE: &str = "ark.heptio.com/node";
/// Why a `DeleteBackupRequest` was made, when nobody asked for it; see [`CAUSE_EXPIRY`].
pub const CAUSE: &str = "ark.heptio.com/cause";
/// Value of [`CAUSE`] of requests for backups that expired.
pub const CAUSE_EXPIRY: &str = "expiry";
/// Component of the agent's pods (`app.kubernetes.io/component`).
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Value of [`COMPONENT`] for the agent.
pub const COMPONENT_AGENT: &str = "agent";
/// Value of [`COMPONENT`] for maintenance Jobs and their pods.
pub const COMPONENT_MAINTENANCE: &str = "maintenance";
/// Value of [`COMPONENT`] for the operator.
pub const COMPONENT_OPERATOR: &str = "operator";

/// `ConfigMap` in Ark's namespace: it configures plugins of Velero, which further labels name (plugin to kind).
pub const VELERO_PLUGIN_CONFIG: &str = "velero.io/plugin-config";

const MAX_VALUE: usize = 63;

/// `name` as a label value: unchanged up to 63 characters, else its first 57 and the first 6 hex
/// digits of its SHA-256 (Velero's rule, so that selectors written for Velero keep working).
pub fn value(name: &str) -> String {
    if name.len() <= MAX_VALUE {
        return name.to_owned();
    }
    let digest = hex::encode(Sha256::digest(name.as_bytes()));
    // Kubernetes names are ASCII, so byte 57 is a character boundary; lossless for any other input.
    let head: String = name.chars().take(57).collect();
    format!("{head}{}", &digest[..6])
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_values_are_cut_and_hashed() {
        assert_eq!(super::value("short"), "short");
        let long = super::value(&"a".repeat(64));
        assert_eq!(long.len(), 63);
        assert_ne!(long, super::value(&"a".repeat(65)));
    }
}
