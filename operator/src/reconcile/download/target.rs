//! From what a request names to the artefact in a store.
//!
//! A Backup's artefacts are read only when the claim in the bucket is that Backup's, so that a
//! backup whose name belonged to somebody else never hands out somebody else's data.

use ark_api::backup::{Backup, BackupPhase};
use ark_api::layout;
use ark_api::requests::{DownloadKind, DownloadTarget};
use ark_api::restore::{Restore, RestorePhase};
use ark_engine::Store;
use kube::ResourceExt;

use crate::bucket::claim;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::store;

/// An artefact that exists.
#[derive(Debug)]
pub(crate) struct Artefact {
    /// Store it lies in.
    pub(crate) store: Store,
    /// Its path there.
    pub(crate) path: String,
    /// Its size as stored.
    pub(crate) size: u64,
}

/// Finds the artefact. What is missing is a `Permanent` error in words.
pub(crate) async fn find(context: &Context, target: &DownloadTarget) -> Result<Artefact> {
    let name = &target.name;
    let path = path(target.kind, name);
    let store = if is_backup(target.kind) {
        of_backup(context, name).await?
    } else {
        of_restore(context, name).await?
    };
    match store.stat(&path).await? {
        Some(meta) => Ok(Artefact {
            store,
            path,
            size: meta.size,
        }),
        None => Err(missing(format!(
            "{path} does not exist at {}",
            store.location()
        ))),
    }
}

/// Path of an artefact.
pub(super) fn path(kind: DownloadKind, name: &str) -> String {
    match kind {
        DownloadKind::BackupLog => layout::backup_logs(name),
        DownloadKind::BackupContents => layout::bundle(name),
        DownloadKind::BackupResourceList => layout::resource_list(name),
        DownloadKind::BackupResults => layout::backup_results(name),
        DownloadKind::BackupVolumeInfos => layout::volume_rows(name),
        DownloadKind::BackupPodVolumeBackups => layout::pod_volume_backups(name),
        DownloadKind::RestoreLog => layout::restore_logs(name),
        DownloadKind::RestoreResults => layout::restore_results(name),
        DownloadKind::RestoreResourceList => layout::restore_resource_list(name),
    }
}

fn is_backup(kind: DownloadKind) -> bool {
    !matches!(
        kind,
        DownloadKind::RestoreLog | DownloadKind::RestoreResults | DownloadKind::RestoreResourceList
    )
}

async fn of_backup(context: &Context, name: &str) -> Result<Store> {
    let backup = context
        .api::<Backup>()
        .get_opt(name)
        .await
        .map_err(Error::kube(format!("get Backup {name}")))?
        .ok_or_else(|| missing(format!("there is no Backup {name}")))?;
    let ended = backup
        .status
        .as_ref()
        .and_then(|s| s.phase)
        .is_some_and(BackupPhase::is_terminal);
    if !ended {
        return Err(missing(format!(
            "Backup {name} has not ended yet, so it has no artefacts"
        )));
    }
    // Written into the spec when the backup began.
    let location = backup
        .spec
        .storage_location
        .clone()
        .filter(|location| !location.is_empty())
        .ok_or_else(|| missing(format!("Backup {name} never got as far as a location")))?;
    let store = store::connect(context, &location).await?.store;
    let uid = match &backup.spec.origin {
        Some(origin) => origin.uid.clone(),
        None => backup.uid().unwrap_or_default(),
    };
    match claim::read(&store, name).await? {
        Some(claim) if claim.backup_uid == uid => Ok(store),
        // What Velero or an older Ark wrote has no claim.
        None if backup.spec.origin.is_some() => Ok(store),
        _ => Err(missing(format!(
            "Backup {name} stored nothing: its name at {} is not its own",
            store.location()
        ))),
    }
}

async fn of_restore(context: &Context, name: &str) -> Result<Store> {
    let restore = context
        .api::<Restore>()
        .get_opt(name)
        .await
        .map_err(Error::kube(format!("get Restore {name}")))?
        .ok_or_else(|| missing(format!("there is no Restore {name}")))?;
    let status = restore.status.unwrap_or_default();
    if !status.phase.is_some_and(RestorePhase::is_terminal) {
        return Err(missing(format!(
            "Restore {name} has not ended yet, so it has no artefacts"
        )));
    }
    let location = status.backup_location.ok_or_else(|| {
        missing(format!(
            "Restore {name} never got as far as its backup's location"
        ))
    })?;
    Ok(store::connect(context, &location).await?.store)
}

fn missing(message: String) -> Error {
    Error::Permanent {
        message,
        hint: "see the status of the backup or restore",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_layout() {
        assert_eq!(path(DownloadKind::BackupLog, "b"), "backups/b/b-logs.gz");
        assert_eq!(
            path(DownloadKind::RestoreResults, "r"),
            "restores/r/restore-r-results.gz"
        );
        assert!(is_backup(DownloadKind::BackupPodVolumeBackups));
        assert!(!is_backup(DownloadKind::RestoreLog));
    }
}
