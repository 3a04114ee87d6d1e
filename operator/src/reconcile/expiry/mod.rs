//! Controller that has expired backups deleted: facts → plan → requests.
//!
//! Deletes nothing by itself: it makes a `DeleteBackupRequest` for each backup that expired, and
//! the deletion controller does the rest, with all its checks. Is careful before: more requests at
//! once than the limit, and backups that another cluster made, wait until somebody acknowledges
//! them; backups that were found in a bucket a short while ago wait; the last good backup of a
//! schedule does not expire by time alone.
//!
//! Looks at a location every few minutes and when the next backup expires, and only while it is
//! available and may be written to.

mod plan;
pub(crate) mod retention;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ark_api::backup::BackupPhase;
use ark_api::condition::{self, kind, reason};
use ark_api::cron::Cron;
use ark_api::location::AccessMode;
use ark_api::requests::DeleteBackupRequestSpec;
use ark_api::{
    Backup, BackupStorageLocation, DeleteBackupRequest, Schedule, annotation, label, naming,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use tokio::time::Instant;

use self::plan::{Fate, Item, Plan, Rules};
use super::deletion::{available, location_of};
use super::{ControllerOf, Reconciler, on_change_of};
use crate::context::Context;
use crate::error::{Error, Result, is_conflict};
use crate::metrics::LocationLabels;
use crate::status::FIELD_MANAGER;

/// Time between two looks at a location.
const PERIOD: Duration = Duration::from_mins(5);
/// How long the record of a backup that was refused, and so has no time of its own, is kept.
const REFUSED_KEPT: SignedDuration = SignedDuration::from_hours(720);

/// The controller.
#[derive(Default)]
pub(crate) struct ExpiryReconciler {
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// What is known of a location that was looked at.
struct Known {
    /// When it is looked at again.
    next: Instant,
    /// Its acknowledgement when it was looked at.
    acknowledged: Option<String>,
}

impl Reconciler for ExpiryReconciler {
    type Kind = BackupStorageLocation;

    async fn reconcile(
        &self,
        object: &BackupStorageLocation,
        context: &Arc<Context>,
    ) -> Result<Action> {
        let name = object.name_any();
        if context.settings.restore_only
            || !available(object)
            || object.spec.access_mode == Some(AccessMode::ReadOnly)
        {
            return Ok(Action::await_change());
        }
        let acknowledged = object
            .annotations()
            .get(annotation::EXPIRY_ACKNOWLEDGED)
            .cloned();
        if let Some(left) = self.not_due(&name, acknowledged.as_ref()) {
            return Ok(Action::requeue(left));
        }
        // What changes during the look counts after it.
        let planned = Known {
            next: Instant::now() + PERIOD,
            acknowledged,
        };
        lock(&self.known).insert(name.clone(), planned);
        match look(context, object).await {
            Ok(pause) => Ok(Action::requeue(self.soon(&name, pause))),
            Err(error) => {
                lock(&self.known).remove(&name);
                Err(error)
            }
        }
    }

    fn triggers(
        &self,
        controller: ControllerOf<BackupStorageLocation>,
        context: &Context,
    ) -> ControllerOf<BackupStorageLocation> {
        let known = self.known.clone();
        let clock = context.clock.clone();
        on_change_of::<_, Backup>(controller, context, move |location, backup| {
            let name = location.name_any();
            let Some(expires) = ends(backup).filter(|_| location_of(backup) == name) else {
                return false;
            };
            let at = Instant::now() + until(expires, clock.now());
            let mut known = lock(&known);
            let sooner = known.get_mut(&name).filter(|known| at < known.next);
            sooner.is_some_and(|known| {
                known.next = at;
                true
            })
        })
    }
}

impl ExpiryReconciler {
    /// Until the next look, if nothing was acknowledged since the last one.
    fn not_due(&self, location: &str, acknowledged: Option<&String>) -> Option<Duration> {
        let known = lock(&self.known);
        let known = known.get(location)?;
        let left = known.next.saturating_duration_since(Instant::now());
        (known.acknowledged.as_ref() == acknowledged && !left.is_zero()).then_some(left)
    }

    /// Has the location looked at after `pause` at the latest, and says when that is.
    fn soon(&self, location: &str, pause: Duration) -> Duration {
        let now = Instant::now();
        let mut known = lock(&self.known);
        known.get_mut(location).map_or(pause, |known| {
            known.next = known.next.min(now + pause);
            known.next.saturating_duration_since(now)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When the time of a backup that has ended is over.
fn ends(backup: &Backup) -> Option<Timestamp> {
    let status = backup.status.as_ref()?;
    let ended = status.phase.unwrap_or_default().is_terminal();
    Some(status.expiration.as_ref().filter(|_| ended)?.0)
}

/// How long it is until `time`, [`PERIOD`] at the most; a second more, because times are whole
/// seconds.
fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now))
        .unwrap_or_default()
        .saturating_add(Duration::from_secs(1))
        .min(PERIOD)
}

/// Requests the deletion of what expired, says in the status what waits, and returns how long it is
/// until something else expires.
async fn look(context: &Context, location: &BackupStorageLocation) -> Result<Duration> {
    let name = location.name_any();
    let now = context.clock.now();
    let requests: Vec<DeleteBackupRequest> = context.list(&ListParams::default()).await?;
    let requested: HashSet<String> = requests
        .iter()
        .map(|request| request.spec.backup_name.clone())
        .collect();
    let schedules: Vec<Schedule> = context.list(&ListParams::default()).await?;
    let all: Vec<Backup> = context.list(&ListParams::default()).await?;
    let kept = kept_by_rules(&schedules, &all);
    let mut items: Vec<Item> = all
        .iter()
        .filter(|backup| location_of(backup) == name)
        .filter_map(|backup| item(backup, &context.cluster))
        .collect();
    for item in &mut items {
        item.requested = requested.contains(&item.name);
        item.kept = kept.get(&item.name).cloned();
    }
    let rules = Rules {
        now,
        acknowledged: acknowledged(location, now),
        limit: context.settings.expiry_limit,
    };
    let plan = plan::plan(&items, &rules);
    for (item, fate) in items.iter().zip(&plan.fates) {
        match fate {
            Fate::Delete(why) => request(context, item, why).await?,
            Fate::Keep(why) | Fate::Held(why) => {
                tracing::trace!(backup = item.name, why, "does not expire now");
            }
        }
    }
    let next = items
        .iter()
        .filter_map(|item| item.expires.filter(|expires| *expires > now));
    let pause = next.min().map_or(PERIOD, |next| until(next, now));
    tell(context, location, &plan).await?;
    Ok(pause)
}

/// What the rules of schedules keep: for each backup of a schedule that has rules, the reasons, or
/// none.
fn kept_by_rules(schedules: &[Schedule], backups: &[Backup]) -> HashMap<String, Vec<String>> {
    let mut kept = HashMap::new();
    for schedule in schedules {
        if schedule.spec.origin.is_some() {
            continue;
        }
        let wanted = label::value(&schedule.name_any());
        let own: Vec<Backup> = backups
            .iter()
            .filter(|backup| backup.labels().get(label::SCHEDULE_NAME) == Some(&wanted))
            .cloned()
            .collect();
        // Without a zone that makes sense, days are those of UTC: a day more or less must not
        // delete anything, and the rules keep as many either way.
        let zone = Cron::parse(&schedule.spec.schedule, schedule.spec.timezone.as_deref())
            .map_or(TimeZone::UTC, |cron| cron.zone().clone());
        for retained in retention::decide(schedule, &zone, &own)
            .into_iter()
            .flatten()
        {
            kept.insert(retained.backup, retained.reasons);
        }
    }
    kept
}

/// What the plan needs to know of a backup; `None` if it cannot expire.
fn item(backup: &Backup, cluster: &str) -> Option<Item> {
    let status = backup.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    if backup.metadata.deletion_timestamp.is_some()
        || !phase.is_terminal()
        || phase == BackupPhase::Deleting
    {
        return None;
    }
    let created = backup.creation_timestamp()?.0;
    let expires = match (status.expiration, phase) {
        (Some(expiration), _) => Some(expiration.0),
        (None, BackupPhase::FailedValidation) => created.checked_add(REFUSED_KEPT).ok(),
        (None, _) => None,
    };
    let origin = backup.spec.origin.as_ref();
    let maker = origin.map_or(cluster, |origin| origin.cluster.as_str());
    Some(Item {
        name: backup.name_any(),
        uid: backup.uid()?,
        expires,
        has_ttl: backup.spec.ttl.is_some_and(|ttl| !ttl.0.is_zero()),
        schedule: backup.labels().get(label::SCHEDULE_NAME).cloned(),
        cluster: maker.to_owned(),
        foreign: maker != cluster,
        found: origin.map(|_| created),
        taken: status.start_timestamp.map_or(created, |start| start.0),
        phase,
        expire_last: annotation::get(backup.annotations(), annotation::EXPIRE_LAST_GOOD)
            == Some("true"),
        requested: false,
        kept: None,
    })
}

/// Up to when expired backups may be deleted without a limit. A time in the future acknowledges
/// nothing: nobody can know today what expires tomorrow.
fn acknowledged(location: &BackupStorageLocation, now: Timestamp) -> Option<Timestamp> {
    let text = location
        .annotations()
        .get(annotation::EXPIRY_ACKNOWLEDGED)?;
    let time: Timestamp = text.parse().ok()?;
    (time <= now.checked_add(SignedDuration::from_mins(5)).ok()?).then_some(time)
}

/// Makes the request to delete a backup; it may exist already.
async fn request(context: &Context, item: &Item, why: &str) -> Result<()> {
    let mut request = DeleteBackupRequest::new(
        &naming::delete_request(&item.name, &item.uid),
        DeleteBackupRequestSpec {
            backup_name: item.name.clone(),
            force: None,
        },
    );
    request.labels_mut().extend([
        (label::CAUSE.to_owned(), label::CAUSE_EXPIRY.to_owned()),
        (label::BACKUP_UID.to_owned(), item.uid.clone()),
    ]);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match context
        .api::<DeleteBackupRequest>()
        .create(&params, &request)
        .await
    {
        Ok(_) => {
            tracing::info!(
                backup = item.name,
                why,
                "expired; its deletion is requested"
            );
            Ok(())
        }
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(Error::kube(format!(
            "create the DeleteBackupRequest of {}",
            item.name
        ))(error)),
    }
}

/// Writes into the location's status what waits for an acknowledgement, and how it is given.
async fn tell(context: &Context, location: &BackupStorageLocation, plan: &Plan) -> Result<()> {
    let name = location.name_any();
    let labels = LocationLabels {
        location: name.clone(),
    };
    context
        .metrics
        .upkeep
        .expiry_held
        .get_or_create(&labels)
        .set(i64::try_from(plan.unacknowledged).unwrap_or(i64::MAX));
    let now = context.clock.time();
    let held = plan.unacknowledged > 0;
    let (why, message) = if held {
        (
            reason::ACKNOWLEDGEMENT_NEEDED,
            format!(
                "{} expired backups are not deleted: {}. If they may be deleted: kubectl -n {} annotate --overwrite bsl {name} {}=$(date -u +%Y-%m-%dT%H:%M:%SZ)",
                plan.unacknowledged,
                plan.why,
                context.namespace,
                annotation::EXPIRY_ACKNOWLEDGED
            ),
        )
    } else {
        (
            reason::OK,
            "backups are deleted when they have expired".to_owned(),
        )
    };
    let before = location.status.as_ref().and_then(|status| {
        condition::get(&status.conditions, kind::EXPIRY).map(|condition| condition.status.clone())
    });
    let uid = location.uid().unwrap_or_default();
    let generation = location.metadata.generation;
    let api = context.api::<BackupStorageLocation>();
    crate::status::update(&api, &name, &uid, |location| {
        let status = location.status.get_or_insert_default();
        condition::set(
            &mut status.conditions,
            kind::EXPIRY,
            !held,
            why,
            &message,
            generation,
            &now,
        );
    })
    .await?;
    if held && before.as_deref() != Some("False") {
        context
            .event(location, EventType::Warning, why, &message)
            .await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_the_future_acknowledges_nothing() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let mut location = BackupStorageLocation::new(
            "l",
            ark_api::location::BackupStorageLocationSpec::default(),
        );
        assert_eq!(acknowledged(&location, now), None);
        for (text, counts) in [
            ("2026-01-09T00:00:00Z", true),
            ("2026-01-10T00:00:30Z", true),
            ("2027-01-01T00:00:00Z", false),
            ("yes", false),
        ] {
            location
                .annotations_mut()
                .insert(annotation::EXPIRY_ACKNOWLEDGED.to_owned(), text.to_owned());
            assert_eq!(acknowledged(&location, now).is_some(), counts, "{text}");
        }
    }
}
