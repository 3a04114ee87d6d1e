//! Resolves a restore to one backup, and fetches what the bucket holds of it.
//!
//! A backup is trusted only if the cluster's object, the bucket's marker and the artefacts agree.
//! Everything is read and checked before anything is restored.

use std::path::Path;

use ark_api::backup::{BackupPhase, newest_restorable};
use ark_api::{Backup, PodVolumeBackup, label, layout};
use ark_engine::Store;
use futures::TryStreamExt;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::io::AsyncWriteExt;

use super::validate::{self, Source};
use crate::apply::volumes::stock::Stock;
use crate::bucket::artefact;
use crate::bundle::read::{self, Limits, Spool};
use crate::context::Context;
use crate::error::{Error, Result, is_not_found};
use crate::list;

/// Largest marker that is read.
const MAX_MARKER: u64 = 4 << 20;
/// Largest bundle that is fetched.
const MAX_BUNDLE: u64 = 8 << 30;

/// Finds the backup. The inner error is for the user: there is none that can be restored.
pub(crate) async fn resolve(context: &Context, source: &Source) -> Result<Result<Backup, String>> {
    let api = context.api::<Backup>();
    match source {
        Source::Backup(name) => match api.get(name).await {
            Ok(backup) => Ok(validate::usable(&backup).map(|()| backup)),
            Err(error) if is_not_found(&error) => {
                Ok(Err(format!("there is no Backup named {name:?}")))
            }
            Err(error) => Err(Error::kube(format!("get Backup {name}"))(error)),
        },
        Source::Schedule {
            name: schedule,
            partially_failed,
        } => {
            let selector = format!("{}={}", label::SCHEDULE_NAME, label::value(schedule));
            let params = ListParams::default().labels(&selector);
            let what = format!("the Backups of Schedule {schedule}");
            let backups = list::all(&api, &params, &what).await?;
            Ok(newest_restorable(&backups, *partially_failed)
                .cloned()
                .ok_or_else(|| nothing_to_restore(schedule, &backups)))
        }
    }
}

/// What to say when a schedule has no backup that may be restored.
fn nothing_to_restore(schedule: &str, backups: &[Backup]) -> String {
    let count = backups.len();
    match newest_restorable(backups, true) {
        Some(newest) => format!(
            "schedule {schedule:?} has no Completed backup (of {count}); {} is PartiallyFailed: name it in \
             spec.backupName, or set spec.allowPartiallyFailed to take such backups",
            newest.name_any()
        ),
        None => format!("schedule {schedule:?} has no backup that can be restored (of {count})"),
    }
}

/// Checks that the bucket holds this very backup. The inner error is for the user.
pub(crate) async fn check_marker(store: &Store, backup: &Backup) -> Result<Result<(), String>> {
    let name = backup.name_any();
    let at = store.location();
    if let Some(bytes) = store.read(&layout::marker(&name), MAX_MARKER).await? {
        let marker: Backup = match serde_json::from_slice(&bytes) {
            Ok(marker) => marker,
            Err(error) => {
                return Ok(Err(format!(
                    "the marker of backup {name:?} at {at} cannot be read: {error}"
                )));
            }
        };
        let uids = [
            backup.uid(),
            backup.spec.origin.as_ref().map(|origin| origin.uid.clone()),
        ];
        let phase = marker.status.as_ref().and_then(|status| status.phase);
        // Another cluster deletes it; here it may still look as it did when it was found.
        if phase == Some(BackupPhase::Deleting) {
            return Ok(Err(format!("backup {name:?} at {at} is being deleted")));
        }
        let same = marker.uid().is_none() || uids.contains(&marker.uid());
        return Ok(if same {
            Ok(())
        } else {
            Err(format!(
                "{at} holds another backup of the name {name:?}, with uid {}",
                marker.uid().unwrap_or_default()
            ))
        });
    }
    let velero = format!("{}/{}", layout::backup_dir(&name), layout::VELERO_MARKER);
    Ok(if store.stat(&velero).await?.is_some() {
        Ok(())
    } else {
        Err(format!("{at} does not hold backup {name:?}"))
    })
}

/// Fetches the bundle and spools it below `directory`.
pub(crate) async fn bundle(store: &Store, backup: &str, directory: &Path) -> Result<Spool> {
    let path = layout::bundle(backup);
    let file = directory.join("bundle.tar.gz");
    let io = || Error::io(format!("write {}", file.display()));
    let mut out = tokio::fs::File::create(&file).await.map_err(io())?;
    let mut pieces = store.stream(&path).await?;
    let mut total = 0_u64;
    while let Some(piece) = pieces.try_next().await? {
        total += piece.len() as u64;
        if total > MAX_BUNDLE {
            return Err(Error::Permanent {
                message: format!("{path} is larger than {} GiB", MAX_BUNDLE >> 30),
                hint: "it was not written by Ark or Velero, or somebody changed it",
            });
        }
        out.write_all(&piece).await.map_err(io())?;
    }
    out.flush().await.map_err(io())?;
    drop(out);
    let directory = directory.to_owned();
    tokio::task::spawn_blocking(move || {
        let archive =
            std::fs::File::open(&file).map_err(Error::io(format!("read {}", file.display())))?;
        let spool = read::spool(
            std::io::BufReader::new(archive),
            &directory,
            Limits::default(),
        )?;
        // Its content is in the spool now.
        std::fs::remove_file(&file).map_err(Error::io(format!("remove {}", file.display())))?;
        Ok(spool)
    })
    .await
    .map_err(|error| Error::Bug(format!("reading the bundle ended badly: {error}")))?
}

/// What the backup holds of volumes.
pub(crate) async fn stock(store: &Store, backup: &str) -> Result<Stock> {
    let rows = artefact::read_json_gz(store, &layout::volume_rows(backup)).await?;
    let backups: Option<Vec<PodVolumeBackup>> =
        artefact::read_json_gz(store, &layout::pod_volume_backups(backup)).await?;
    let rows: Option<Vec<ark_api::volume::VolumeRow>> = rows;
    Ok(Stock::read(rows.as_deref(), &backups.unwrap_or_default()))
}
