//! Sentences that several commands say.

use ark_api::BackupStorageLocation;
use ark_api::condition::{self, kind};
use kube::ResourceExt;

/// The warning about a location whose repository key exists only in the cluster; nothing if it
/// does not apply.
pub(crate) fn key_not_exported(location: &BackupStorageLocation) -> Option<String> {
    let conditions = &location.status.as_ref()?.conditions;
    let condition = condition::get(conditions, kind::KEY_EXPORTED)?;
    (condition.status == "False").then(|| {
        let name = location.name_any();
        format!(
            "the repository key of location {name} exists only in this cluster; if the cluster is \
             lost, so are the volumes in its backups. Keep a copy elsewhere:\n  \
             ark restic repo key export --location {name} --output {name}.key"
        )
    })
}
