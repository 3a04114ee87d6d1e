//! Controller of schedules: validate → facts → decide → act → status.
//!
//! A reconcile is short: it makes at most one Backup. The Backup's name comes from the time its run
//! was due, so a run that is decided again after a crash finds the Backup it made. The Backup is
//! made before the status says so; until then its annotation is what tells that the run has been
//! made.
//!
//! Does not wait for Backups, and does not delete any. The clock is looked at once a minute,
//! because a clock that is set does not wake a sleeper.

mod act;
mod plan;
mod status;
mod validate;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ark_api::condition::{self, reason};
use ark_api::location::BackupStorageLocation;
use ark_api::schedule::SchedulePhase;
use ark_api::{Backup, Schedule, label};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::Store;

use self::act::Made;
use self::plan::{Decision, Facts};
use self::validate::Valid;
use super::{ControllerOf, Reconciler, on_change_of};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::metrics::ScheduleLabels;
use crate::settings::RESTORE_ONLY;

/// Longest time between two looks at the clock.
const CLOCK_LOOK: Duration = Duration::from_mins(1);

/// The controller.
#[derive(Default)]
pub(crate) struct ScheduleReconciler {
    /// Schedules whose Backups changed since they were last looked at.
    changed: Arc<Mutex<HashSet<String>>>,
    /// All schedules, as the watch shows them.
    known: OnceLock<Store<DeserializeGuard<Schedule>>>,
    /// Schedules that have series in the metrics.
    counted: Mutex<HashSet<String>>,
}

impl Reconciler for ScheduleReconciler {
    type Kind = Schedule;

    async fn reconcile(&self, object: &Schedule, context: &Arc<Context>) -> Result<Action> {
        let name = object.name_any();
        let changed = lock(&self.changed).remove(&name);
        if !changed && let Some(pause) = quiet(object, context.clock.now()) {
            return Ok(Action::requeue(pause));
        }
        let found = context
            .api::<Schedule>()
            .get_opt(&name)
            .await
            .map_err(Error::kube(format!("get Schedule {name}")))?;
        self.forget_deleted(context);
        let Some(schedule) = found.filter(is_work) else {
            return Ok(Action::await_change());
        };
        if context.settings.restore_only {
            refuse(context, &schedule, &[RESTORE_ONLY.to_owned()]).await?;
            return Ok(Action::await_change());
        }
        let locations: Vec<BackupStorageLocation> = context.list(&ListParams::default()).await?;
        let default = context.settings.default_location.as_deref();
        let valid = match validate::validate(&schedule, &locations, default) {
            Ok(valid) => valid,
            Err(problems) => {
                refuse(context, &schedule, &problems).await?;
                return Ok(Action::requeue(CLOCK_LOOK));
            }
        };
        let backups = backups_of(context, &name).await?;
        let result = look(context, &schedule, &valid, &backups).await;
        if result.is_err() {
            lock(&self.changed).insert(name.clone());
        }
        lock(&self.counted).insert(name);
        result
    }

    fn triggers(
        &self,
        controller: ControllerOf<Schedule>,
        context: &Context,
    ) -> ControllerOf<Schedule> {
        // The first of one; a controller is started once.
        drop(self.known.set(controller.store()));
        let changed = self.changed.clone();
        let controller = on_change_of::<_, Backup>(controller, context, move |schedule, backup| {
            let name = schedule.name_any();
            let means = backup.labels().get(label::SCHEDULE_NAME) == Some(&label::value(&name));
            if means {
                lock(&changed).insert(name);
            }
            means
        });
        on_change_of::<_, BackupStorageLocation>(controller, context, |schedule, _| {
            phase(schedule) == SchedulePhase::FailedValidation
        })
    }
}

impl ScheduleReconciler {
    /// Ends the series of schedules that are gone.
    fn forget_deleted(&self, context: &Context) {
        let Some(known) = self.known.get() else {
            return;
        };
        let now: HashSet<String> = known
            .state()
            .iter()
            .map(|schedule| schedule.name_any())
            .collect();
        lock(&self.counted).retain(|schedule| {
            let kept = now.contains(schedule);
            if !kept {
                context.metrics.upkeep.forget_schedule(schedule);
            }
            kept
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn phase(schedule: &Schedule) -> SchedulePhase {
    schedule
        .status
        .as_ref()
        .and_then(|status| status.phase)
        .unwrap_or_default()
}

/// One with an origin is a record, and one that is being deleted makes nothing more.
fn is_work(schedule: &Schedule) -> bool {
    schedule.spec.origin.is_none() && schedule.metadata.deletion_timestamp.is_none()
}

/// How long nothing is to be done for a schedule whose status is about its spec as it is.
fn quiet(schedule: &Schedule, now: Timestamp) -> Option<Duration> {
    let status = schedule.status.as_ref()?;
    let current = status.observed_generation == schedule.metadata.generation
        && status.phase == Some(SchedulePhase::Enabled)
        && !condition::is_true(&status.conditions, condition::kind::WAITING);
    let next = status.next_run.as_ref().filter(|_| current)?;
    pause(next.0, now)
}

/// Until the next look at the clock; `None` when `next` has come.
fn pause(next: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(next.duration_since(now)).ok()?;
    (!left.is_zero()).then(|| left.min(CLOCK_LOOK))
}

/// The Backups that carry the label of a schedule. The label decides, not the beginning of the
/// name: one schedule's name may be the beginning of another's.
async fn backups_of(context: &Context, schedule: &str) -> Result<Vec<Backup>> {
    let selector = format!("{}={}", label::SCHEDULE_NAME, label::value(schedule));
    context.list(&ListParams::default().labels(&selector)).await
}

async fn refuse(context: &Context, schedule: &Schedule, problems: &[String]) -> Result<()> {
    let before = phase(schedule);
    let (name, uid) = (schedule.name_any(), schedule.uid().unwrap_or_default());
    let judged = schedule.metadata.generation;
    crate::status::update(&context.api::<Schedule>(), &name, &uid, |schedule| {
        status::refuse(schedule, problems, judged);
    })
    .await?;
    if before != SchedulePhase::FailedValidation {
        let text = problems.join("; ");
        tracing::warn!(schedule = name, problems = text, "schedule refused");
        context
            .event(schedule, EventType::Warning, "FailedValidation", &text)
            .await;
    }
    Ok(())
}

/// Decides, acts and writes the status.
async fn look(
    context: &Context,
    schedule: &Schedule,
    valid: &Valid,
    backups: &[Backup],
) -> Result<Action> {
    let now = context.clock.now();
    let facts = Facts::gather(schedule, valid, backups, now);
    let decision = plan::decide(&valid.cron, &facts);
    if let Decision::Run { due, missed } = &decision {
        if missed.count > 0 {
            context
                .event(schedule, EventType::Warning, "MissedRuns", &missed.say())
                .await;
            context
                .metrics
                .upkeep
                .schedule_missed
                .get_or_create(&ScheduleLabels::of(schedule))
                .inc_by(u64::from(missed.count));
        }
        let made = act::make(context, schedule, *due, valid.shift).await?;
        if let Made::Taken(name) = &made {
            let note =
                format!("the run that was due at {due} is skipped: another Backup is named {name}");
            context
                .event(schedule, EventType::Warning, reason::NAME_TAKEN, &note)
                .await;
        }
        let (name, uid) = (schedule.name_any(), schedule.uid().unwrap_or_default());
        crate::status::update(&context.api::<Schedule>(), &name, &uid, |schedule| {
            status::ran(schedule, *due, &made, missed);
        })
        .await?;
        // What comes next is decided with the new Backup before the eyes.
        return Ok(Action::requeue(Duration::from_millis(200)));
    }
    if let Decision::Wait { running, .. } = &decision {
        tracing::debug!(
            schedule = schedule.name_any(),
            running,
            "a run is due, and the one before still runs"
        );
    }
    let summary = status::Summary::of(schedule, valid, &decision, backups);
    let (name, uid) = (schedule.name_any(), schedule.uid().unwrap_or_default());
    let written = crate::status::update(&context.api::<Schedule>(), &name, &uid, |schedule| {
        status::apply(schedule, &summary, now);
    })
    .await?;
    status::count(context, &written);
    Ok(match summary.next {
        Some(next) => Action::requeue(pause(next, now).unwrap_or(CLOCK_LOOK)),
        // Paused: its next change wakes it. Waiting: the Backup's end does.
        None => Action::requeue(CLOCK_LOOK),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_schedule_that_waits_for_its_time_costs_no_request() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut schedule = Schedule::new("s", ark_api::schedule::ScheduleSpec::default());
        assert_eq!(quiet(&schedule, now), None);
        schedule.metadata.generation = Some(2);
        let next: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        schedule.status = Some(ark_api::schedule::ScheduleStatus {
            phase: Some(SchedulePhase::Enabled),
            observed_generation: Some(2),
            next_run: Some(Time(next)),
            ..ark_api::schedule::ScheduleStatus::default()
        });
        assert_eq!(quiet(&schedule, now), Some(CLOCK_LOOK));
        assert_eq!(quiet(&schedule, next), None);
        schedule.metadata.generation = Some(3);
        assert_eq!(quiet(&schedule, now), None);
    }
}
