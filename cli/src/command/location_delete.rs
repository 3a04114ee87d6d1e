//! `ark backup-location delete`.
//!
//! Order: the location first, so that nothing is read from it any more; then the objects of the
//! backups and repositories that lie there, which are records of what the store holds and come back
//! when the location is made again. A command that is interrupted between leaves records of backups
//! that cannot be restored until then; it never deletes data. The Secret with the key of the
//! repositories stays, because nothing can be restored without it.

use std::collections::BTreeMap;

use ark_api::naming::key_secret;
use ark_api::{Backup, BackupStorageLocation, ResticRepository, Restore, Schedule};
use clap::Args;
use kube::ResourceExt;

use super::Context;
use super::confirm::Doomed;
use crate::error::{Error, Reason, Result};
use crate::exit::Exit;
use crate::kube::{Cluster, Kind};
use crate::print::human::count;

/// How many names a sentence holds.
const SHOWN: usize = 10;

/// Delete backup storage locations.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The objects of the backups and repositories at the location go with it, because they cannot be restored without it. They come back
when a location of that name and place is created again. The Secret with the key of its repositories stays. Nothing is deleted
while a backup runs at the location, or a restore reads one of its backups.

Examples:
  ark backup-location delete archive            # asks, and says which backups it holds
  ark backup-location delete archive --confirm"
)]
pub(crate) struct LocationDelete {
    #[command(flatten)]
    doomed: Doomed,
}

/// What belongs to one location.
struct Held {
    backups: Vec<Backup>,
    repositories: Vec<ResticRepository>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: LocationDelete) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let locations: Vec<BackupStorageLocation> = args.doomed.found(context, &cluster).await?;
    if locations.is_empty() {
        return Ok(Exit::Done);
    }
    let names: Vec<String> = locations.iter().map(ResourceExt::name_any).collect();
    let mut held = held(&cluster, &names).await?;
    let restores: Vec<Restore> = cluster.list("").await?;
    let busy: Vec<String> = held
        .values()
        .flat_map(|held| busy(&held.backups, &restores))
        .collect();
    if !busy.is_empty() {
        return Err(Error::State {
            message: format!("nothing is deleted, because work goes on: {}", named(&busy)),
            hint: "wait until it has ended, or cancel it with `ark backup cancel` or `ark restore cancel`"
                .to_owned(),
        });
    }
    let schedules: Vec<Schedule> = cluster.list("").await?;
    let consequence = consequence(&held, &schedules);
    let meant = args.doomed.meant(context, locations, &consequence)?;
    for location in meant {
        let name = location.name_any();
        let Held {
            backups,
            repositories,
        } = held.remove(&name).ok_or_else(|| {
            Error::Bug(format!("location {name} was found and then not looked at"))
        })?;
        cluster.delete::<BackupStorageLocation>(&name).await?;
        for backup in &backups {
            forget::<Backup>(&cluster, &backup.name_any()).await?;
        }
        for repository in &repositories {
            forget::<ResticRepository>(&cluster, &repository.name_any()).await?;
        }
        context.printer.out(&format!(
            "Backup storage location {name:?} deleted, with the objects of {}. What is stored there stays, and so does \
             Secret {} with the key of its repositories.\n",
            self::backups(backups.len()),
            key_secret(&name),
        ))?;
        if location.spec.default == Some(true) {
            context.printer.warn(
                "it was the default location: `ark backup-location set NAME --default` makes another one the default",
            );
        }
    }
    Ok(Exit::Done)
}

/// What belongs to each location.
async fn held(cluster: &Cluster, names: &[String]) -> Result<BTreeMap<String, Held>> {
    let backups: Vec<Backup> = cluster.list("").await?;
    let repositories: Vec<ResticRepository> = cluster.list("").await?;
    let of = |name: &String| Held {
        backups: backups
            .iter()
            .filter(|backup| backup.spec.storage_location.as_ref() == Some(name))
            .cloned()
            .collect(),
        repositories: repositories
            .iter()
            .filter(|repository| repository.spec.backup_storage_location == *name)
            .cloned()
            .collect(),
    };
    Ok(names.iter().map(|name| (name.clone(), of(name))).collect())
}

/// Backups that have not ended, and restores that read one of `backups`, in words.
fn busy(backups: &[Backup], restores: &[Restore]) -> Vec<String> {
    let phase = |backup: &Backup| {
        let status = backup.status.as_ref();
        status.and_then(|status| status.phase).unwrap_or_default()
    };
    let mut busy: Vec<String> = backups
        .iter()
        .filter(|backup| backup.spec.origin.is_none() && !phase(backup).is_terminal())
        .map(|backup| format!("backup {} ({:?})", backup.name_any(), phase(backup)))
        .collect();
    for restore in restores {
        let status = restore.status.clone().unwrap_or_default();
        let of = status
            .backup_name
            .as_ref()
            .or(restore.spec.backup_name.as_ref());
        let reads = backups
            .iter()
            .any(|backup| backup.metadata.name.as_ref() == of);
        if reads && !status.phase.unwrap_or_default().is_terminal() {
            busy.push(format!("restore {} reads one of them", restore.name_any()));
        }
    }
    busy
}

/// What deleting does, for the question.
fn consequence(held: &BTreeMap<String, Held>, schedules: &[Schedule]) -> String {
    let mut sentences = Vec::new();
    for (location, held) in held {
        let names: Vec<String> = held.backups.iter().map(ResourceExt::name_any).collect();
        sentences.push(match names.as_slice() {
            [] => format!("{location} holds no backup that this cluster knows."),
            names => format!(
                "{location} holds {}: {}.",
                backups(names.len()),
                named(names)
            ),
        });
        let users: Vec<String> = schedules
            .iter()
            .filter(|schedule| schedule.spec.template.storage_location.as_ref() == Some(location))
            .map(ResourceExt::name_any)
            .collect();
        if !users.is_empty() {
            let users = named(&users);
            sentences.push(format!(
                "Schedules that use it make no more backups: {users}."
            ));
        }
    }
    sentences.push(
        "The objects of the backups go; what is stored stays, and can be restored once the location is created again."
            .to_owned(),
    );
    sentences.join(" ")
}

fn backups(number: usize) -> String {
    count(i64::try_from(number).unwrap_or(i64::MAX), "backup")
}

/// The first few names.
fn named(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Deletes a record; one that is gone already is no error.
async fn forget<K: Kind>(cluster: &Cluster, name: &str) -> Result<()> {
    match cluster.delete::<K>(name).await {
        Err(Error::Api {
            reason: Reason::NotFound,
            ..
        }) => Ok(()),
        other => other,
    }
}
