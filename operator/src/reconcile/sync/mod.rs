//! Controller that makes the backups found at a location appear in the cluster, and those that are
//! gone disappear.
//!
//! What appears is a record: it carries `spec.origin`, and no controller runs it. A backup appears
//! when its marker says that it has ended well, its name is the directory's, and what a restore
//! needs lies beside it; an unfinished one is left alone, and one that is hand-made or half copied
//! is refused and named in the location's condition `Synced`. Of a Backup whose marker is gone only
//! the object goes, on the second look; when all backups of a location are gone at once, none does,
//! because then the bucket is more likely another one.
//!
//! Order: Backup objects are listed before the bucket, so that one that ends meanwhile is not taken
//! for gone. The Backup is created first, its volume objects next, its status last: a Backup with
//! an origin and without a phase is an import that was interrupted, and is done again.
//!
//! Does not read what it knows already: a look costs one listing, and one request for each
//! directory without a usable marker. Writes nothing to the bucket. Fails with what store and API
//! server say; what cannot be listed is never taken for empty.

mod import;
mod judge;
mod vanish;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ark_api::backup::BackupPhase;
use ark_api::condition::{self, kind, reason};
use ark_api::{Backup, BackupStorageLocation, layout};
use ark_engine::{ObjectMeta, Store};
use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use self::judge::Found;
use super::Reconciler;
use super::deletion::{available, location_of};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::metrics::LocationLabels;
use crate::store;

/// How often a location is read when its spec does not say.
const DEFAULT_PERIOD: Duration = Duration::from_mins(1);
/// Largest marker that is read.
const MAX_MARKER: u64 = 16 << 20;
/// Names that a condition lists.
const NAMED: usize = 10;

/// What is remembered of a location between two looks.
#[derive(Default)]
struct Memory {
    generation: Option<i64>,
    last: Option<Instant>,
    /// Why a directory was refused, and the marker's state at that time.
    refused: HashMap<String, (Option<ObjectMeta>, String)>,
    /// Uids of Backups whose marker was not there at the last look.
    missing: HashSet<String>,
}

/// What a look at a location found.
#[derive(Debug, Default)]
struct Outcome {
    imported: usize,
    refused: BTreeMap<String, String>,
    vanished: usize,
    /// So many Backups are all that are known, and not one is there.
    held: Option<usize>,
}

/// The controller.
#[derive(Default)]
pub(crate) struct SyncReconciler {
    memory: Mutex<HashMap<String, Memory>>,
}

impl Reconciler for SyncReconciler {
    type Kind = BackupStorageLocation;

    async fn reconcile(
        &self,
        object: &BackupStorageLocation,
        context: &Arc<Context>,
    ) -> Result<Action> {
        let name = object.name_any();
        let period = object
            .spec
            .backup_sync_period
            .map_or(DEFAULT_PERIOD, |period| period.0);
        // A change of its status wakes it when it becomes available.
        if period.is_zero() || !available(object) {
            return Ok(Action::await_change());
        }
        let mut memory = self.take(&name);
        if memory.generation != object.metadata.generation {
            memory = Memory {
                generation: object.metadata.generation,
                ..Memory::default()
            };
        }
        let left = memory
            .last
            .map(|last| (last + period).saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            self.put(&name, memory);
            return Ok(Action::requeue(left));
        }
        let result = look(context, object, &mut memory).await;
        if result.is_ok() {
            memory.last = Some(Instant::now());
        }
        self.put(&name, memory);
        tell(context, object, &result?).await?;
        Ok(Action::requeue(period))
    }
}

impl SyncReconciler {
    fn take(&self, location: &str) -> Memory {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(location)
            .unwrap_or_default()
    }

    fn put(&self, location: &str, memory: Memory) {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(location.to_owned(), memory);
    }
}

/// Whether an import was interrupted.
fn is_half_imported(backup: &Backup) -> bool {
    let phase = backup.status.as_ref().and_then(|status| status.phase);
    backup.spec.origin.is_some() && matches!(phase, None | Some(BackupPhase::New))
}

async fn look(
    context: &Context,
    location: &BackupStorageLocation,
    memory: &mut Memory,
) -> Result<Outcome> {
    let name = location.name_any();
    let store = store::open(context, location).await?;
    let all: Vec<Backup> = context.list(&ListParams::default()).await?;
    let entries = store.list("backups").await?;
    let there: HashSet<String> = entries
        .into_iter()
        .filter(|entry| entry.is_dir)
        .map(|entry| entry.name.trim_end_matches('/').to_owned())
        .collect();
    // A Backup of another location keeps its name from appearing here.
    let known: HashMap<String, &Backup> = all
        .iter()
        .filter(|backup| !is_half_imported(backup))
        .map(|backup| (backup.name_any(), backup))
        .collect();
    let mut outcome = Outcome::default();
    let mut refused = HashMap::new();
    let mut names: Vec<&String> = there.iter().collect();
    names.sort();
    for directory in names {
        if context.shutdown.is_cancelled() {
            return Err(Error::Stopping);
        }
        if let Some(backup) = known.get(directory) {
            if location_of(backup) != name && backup.status.is_some() {
                tracing::debug!(
                    backup = directory,
                    location = name,
                    "a Backup of another location has the name of one found here"
                );
            }
            continue;
        }
        let meta = store.stat(&layout::marker(directory)).await?;
        let before = memory.refused.remove(directory);
        let why = match before {
            // Nothing changed since it was refused.
            Some((seen, why)) if seen == meta => Some(why),
            _ => match judge_one(context, location, &store, directory, meta.is_some()).await? {
                Found::Unfinished => None,
                Found::Refused(why) => Some(why),
                Found::Backup(found) => {
                    match import::import(context, location, &store, *found).await? {
                        Ok(()) => {
                            outcome.imported += 1;
                            None
                        }
                        Err(why) => Some(why),
                    }
                }
            },
        };
        if let Some(why) = why {
            outcome.refused.insert(directory.clone(), why.clone());
            refused.insert(directory.clone(), (meta, why));
        }
    }
    memory.refused = refused;
    let of_here: Vec<&Backup> = all
        .iter()
        .filter(|backup| location_of(backup) == name)
        .collect();
    let gone = vanish::candidates(&of_here, &there);
    let gone = vanish::confirm(&store, gone).await?;
    let is_bare = !gone.is_empty() && store.list("").await?.is_empty();
    let decision = vanish::decide(&of_here, &gone, &memory.missing, is_bare);
    memory.missing = gone.iter().filter_map(|backup| backup.uid()).collect();
    outcome.held = decision.held;
    for backup in decision.remove {
        vanish::remove(context, backup).await?;
        outcome.vanished += 1;
    }
    Ok(outcome)
}

/// Reads a marker and what lies beside it, and judges.
async fn judge_one(
    context: &Context,
    location: &BackupStorageLocation,
    store: &Store,
    directory: &str,
    has_marker: bool,
) -> Result<Found> {
    if !has_marker {
        return Ok(Found::Unfinished);
    }
    let path = layout::marker(directory);
    let bytes = match store.read(&path, MAX_MARKER).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Found::Unfinished),
        Err(error) if error.class() == ark_engine::Class::Permanent => {
            return Ok(Found::Refused(format!(
                "its marker cannot be read: {error}"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let found = judge::judge(directory, &bytes, &location.name_any());
    if let Found::Backup(backup) = &found {
        let phase = backup.status.as_ref().and_then(|status| status.phase);
        // Of one that is being deleted, anything may be gone already.
        if phase != Some(BackupPhase::Deleting)
            && store.stat(&layout::bundle(directory)).await?.is_none()
        {
            return Ok(Found::Refused(
                "its marker is there and its bundle is not: it was copied in part".to_owned(),
            ));
        }
    }
    tracing::debug!(
        backup = directory,
        cluster = context.cluster,
        ?found,
        "marker judged"
    );
    Ok(found)
}

/// Writes what was found into the location's status and the metrics.
async fn tell(
    context: &Context,
    location: &BackupStorageLocation,
    outcome: &Outcome,
) -> Result<()> {
    let name = location.name_any();
    let labels = LocationLabels {
        location: name.clone(),
    };
    let metrics = &context.metrics;
    metrics
        .upkeep
        .synced
        .get_or_create(&labels)
        .inc_by(outcome.imported as u64);
    metrics
        .upkeep
        .sync_refused
        .get_or_create(&labels)
        .set(i64::try_from(outcome.refused.len()).unwrap_or(i64::MAX));
    if outcome.imported + outcome.vanished > 0 {
        tracing::info!(
            location = name,
            imported = outcome.imported,
            vanished = outcome.vanished,
            "synced"
        );
    }
    let now = context.clock.time();
    let uid = location.uid().unwrap_or_default();
    let says = says(outcome);
    let generation = location.metadata.generation;
    crate::status::update(
        &context.api::<BackupStorageLocation>(),
        &name,
        &uid,
        |location| {
            let status = location.status.get_or_insert_default();
            status.last_synced_time = Some(now.clone());
            condition::set(
                &mut status.conditions,
                kind::SYNCED,
                says.0,
                says.1,
                &says.2,
                generation,
                &now,
            );
        },
    )
    .await?;
    Ok(())
}

/// Status, reason and message of the condition `Synced`.
fn says(outcome: &Outcome) -> (bool, &'static str, String) {
    if let Some(count) = outcome.held {
        return (
            false,
            reason::BACKUPS_VANISHED,
            format!(
                "not one of the {count} backups that the cluster knows of this location is there; their objects stay, \
                 because it looks as if the location now points elsewhere. If the backups are really gone, delete \
                 the Backup objects"
            ),
        );
    }
    if outcome.refused.is_empty() {
        return (
            true,
            reason::OK,
            "all finished backups found at the location are in the cluster".to_owned(),
        );
    }
    let mut text: Vec<String> = outcome
        .refused
        .iter()
        .take(NAMED)
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    let more = outcome.refused.len().saturating_sub(NAMED);
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    (
        false,
        reason::BACKUPS_REFUSED,
        format!("not taken for backups: {}", text.join("; ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_names_what_was_refused_and_no_more_than_it_can() {
        let mut outcome = Outcome::default();
        assert!(says(&outcome).0);
        for number in 0..12 {
            outcome
                .refused
                .insert(format!("b{number:02}"), "why".to_owned());
        }
        let (ok, reason, message) = says(&outcome);
        assert!(!ok && reason == reason::BACKUPS_REFUSED);
        assert!(message.contains("b09: why; and 2 more"), "{message}");
        outcome.held = Some(3);
        assert_eq!(says(&outcome).1, reason::BACKUPS_VANISHED);
    }
}
