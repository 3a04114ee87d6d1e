//! What a Schedule's status says. Pure, but for the metrics.

use ark_api::backup::BackupPhase;
use ark_api::condition::{self, kind, reason};
use ark_api::schedule::{Retained, SchedulePhase, ScheduleStatus};
use ark_api::{Backup, Schedule};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::act::Made;
use super::plan::{Decision, Missed, made_for};
use super::validate::Valid;
use crate::context::Context;
use crate::metrics::ScheduleLabels;
use crate::reconcile::expiry::retention;

/// Backups of which the status tells what the retention makes of them.
const SHOWN: usize = 200;

/// What is said after a decision that made no Backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Generation of the spec that was judged.
    generation: Option<i64>,
    /// When the next run starts.
    pub(super) next: Option<Timestamp>,
    paused: bool,
    /// Up to when runs that were due are let go by.
    skipped: Option<Timestamp>,
    /// The Backup that is waited for, and since when a run is due.
    waiting: Option<(String, Timestamp)>,
    /// The newest Backup it made and when the run was due.
    made: Option<(String, Timestamp)>,
    /// The newest Completed Backup and its end.
    good: Option<(String, Timestamp)>,
    /// What the retention makes of the Backups.
    retained: Vec<Retained>,
}

impl Summary {
    /// From a decision and the schedule's Backups.
    pub(super) fn of(
        schedule: &Schedule,
        valid: &Valid,
        decision: &Decision,
        backups: &[Backup],
    ) -> Self {
        let uid = schedule.uid().unwrap_or_default();
        let next = match decision {
            Decision::Idle { next } | Decision::Skip { next, .. } => {
                next.checked_add(valid.shift).ok()
            }
            _ => None,
        };
        let waiting = match decision {
            Decision::Wait { running, due } => Some((running.clone(), *due)),
            _ => None,
        };
        Self {
            generation: schedule.metadata.generation,
            next,
            paused: *decision == Decision::Paused,
            skipped: match decision {
                Decision::Skip { at, .. } => at.checked_add(valid.shift).ok(),
                _ => None,
            },
            waiting,
            made: backups
                .iter()
                .filter_map(|backup| Some((backup.name_any(), made_for(backup, &uid)?)))
                .max_by_key(|(_, due)| *due),
            good: last_good(backups),
            retained: retention::decide(schedule, valid.cron.zone(), backups)
                .into_iter()
                .flatten()
                .take(SHOWN)
                .collect(),
        }
    }
}

/// The newest Backup that is Completed. Backups that came from elsewhere may be another cluster's
/// and do not count.
fn last_good(backups: &[Backup]) -> Option<(String, Timestamp)> {
    backups
        .iter()
        .filter(|backup| backup.spec.origin.is_none())
        .filter_map(|backup| {
            let status = backup.status.as_ref()?;
            let end = status.completion_timestamp.as_ref()?;
            (status.phase == Some(BackupPhase::Completed)).then(|| (backup.name_any(), end.0))
        })
        .max_by(|(a_name, a), (b_name, b)| a.cmp(b).then_with(|| a_name.cmp(b_name)))
}

/// The spec of the generation `judged` makes no sense. Says nothing of a spec that changed since.
pub(super) fn refuse(schedule: &mut Schedule, problems: &[String], judged: Option<i64>) {
    let generation = schedule.metadata.generation;
    if generation != judged {
        return;
    }
    let status = schedule.status.get_or_insert_default();
    status.phase = Some(SchedulePhase::FailedValidation);
    status.validation_errors = problems.to_vec();
    status.observed_generation = generation;
    status.next_run = None;
}

/// The run that was due at `due` has its Backup, or never will.
pub(super) fn ran(schedule: &mut Schedule, due: Timestamp, made: &Made, missed: &Missed) {
    let status = schedule.status.get_or_insert_default();
    status.phase = Some(SchedulePhase::Enabled);
    status.last_backup = Some(Time(due));
    if let Made::Backup(name) = made {
        status.last_backup_name = Some(name.clone());
    }
    let mut lost = i64::from(missed.count);
    let mut last_missed = missed.since.map(Time);
    if let Made::Taken(_) = made {
        lost += 1;
        last_missed = Some(Time(due));
    }
    if lost > 0 {
        status.missed_runs = Some(status.missed_runs.unwrap_or_default() + lost);
        status.last_missed = last_missed.or(status.last_missed.take());
    }
    status.paused_since = None;
}

/// A time as the API writes it: whole seconds.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// No Backup was made. Says nothing of a spec that changed since it was judged: its change has it
/// judged again.
pub(super) fn apply(schedule: &mut Schedule, summary: &Summary, now: Timestamp) {
    let generation = schedule.metadata.generation;
    if generation != summary.generation {
        return;
    }
    let now = Time(whole(now));
    let status: &mut ScheduleStatus = schedule.status.get_or_insert_default();
    status.phase = Some(SchedulePhase::Enabled);
    status.validation_errors.clear();
    status.observed_generation = generation;
    status.next_run = summary.next.map(Time);
    if let Some(skipped) = summary.skipped {
        status.last_skipped = Some(Time(whole(skipped)));
    }
    status.paused_since = if summary.paused {
        status.paused_since.take().or_else(|| Some(now.clone()))
    } else {
        None
    };
    // After a crash, the Backup is there and the status does not say so yet.
    if let Some((name, due)) = &summary.made
        && status.last_backup.as_ref().is_none_or(|last| last.0 < *due)
    {
        status.last_backup = Some(Time(*due));
        status.last_backup_name = Some(name.clone());
    }
    if let Some((name, end)) = &summary.good {
        status.last_successful_backup = Some(name.clone());
        status.last_successful_time = Some(Time(*end));
    }
    status.retained.clone_from(&summary.retained);
    match &summary.waiting {
        Some((running, due)) => {
            let message =
                format!("the run that was due at {due} waits until Backup {running} has ended");
            condition::set(
                &mut status.conditions,
                kind::WAITING,
                true,
                reason::PREVIOUS_RUNNING,
                &message,
                generation,
                &now,
            );
        }
        None if condition::is_true(&status.conditions, kind::WAITING) => {
            condition::set(
                &mut status.conditions,
                kind::WAITING,
                false,
                reason::OK,
                "",
                generation,
                &now,
            );
        }
        None => {}
    }
}

/// Shows the status in the metrics.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of this era are exact in a float"
)]
pub(super) fn count(context: &Context, schedule: &Schedule) {
    let status = schedule.status.clone().unwrap_or_default();
    let labels = ScheduleLabels::of(schedule);
    let seconds = |time: Option<&Time>| time.map_or(0.0, |time| time.0.as_second() as f64);
    let metrics = &context.metrics;
    metrics
        .upkeep
        .schedule_last_success
        .get_or_create(&labels)
        .set(seconds(status.last_successful_time.as_ref()));
    metrics
        .upkeep
        .schedule_next_run
        .get_or_create(&labels)
        .set(seconds(status.next_run.as_ref()));
    // So that the series exists before the first miss.
    drop(metrics.upkeep.schedule_missed.get_or_create(&labels));
}

#[cfg(test)]
mod tests {
    use ark_api::backup::BackupStatus;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn backup(name: &str, phase: BackupPhase, end: &str) -> Backup {
        let mut backup = Backup::new(name, ark_api::backup::BackupSpec::default());
        backup.status = Some(BackupStatus {
            phase: Some(phase),
            completion_timestamp: Some(Time(at(end))),
            ..BackupStatus::default()
        });
        backup
    }

    #[test]
    fn the_last_good_backup_is_the_newest_completed_one_of_this_cluster() {
        let mut foreign = backup("d", BackupPhase::Completed, "2026-01-09T00:00:00Z");
        foreign.spec.origin = Some(ark_api::origin::Origin::default());
        let backups = [
            backup("a", BackupPhase::Completed, "2026-01-01T00:00:00Z"),
            backup("b", BackupPhase::Completed, "2026-01-02T00:00:00Z"),
            backup("c", BackupPhase::PartiallyFailed, "2026-01-03T00:00:00Z"),
            foreign,
        ];
        assert_eq!(last_good(&backups).unwrap().0, "b");
    }

    #[test]
    fn a_spec_that_changed_since_it_was_judged_is_not_said_to_have_been() {
        let summary = Summary {
            generation: Some(1),
            next: None,
            paused: true,
            skipped: None,
            waiting: None,
            made: None,
            good: None,
            retained: Vec::new(),
        };
        let mut schedule = Schedule::new("s", ark_api::schedule::ScheduleSpec::default());
        schedule.metadata.generation = Some(2);
        apply(&mut schedule, &summary, at("2026-01-01T00:00:00Z"));
        refuse(&mut schedule, &["no".to_owned()], Some(1));
        assert!(schedule.status.is_none());
        schedule.metadata.generation = Some(1);
        apply(&mut schedule, &summary, at("2026-01-01T00:00:00Z"));
        assert_eq!(schedule.status.unwrap().observed_generation, Some(1));
    }

    #[test]
    fn missed_runs_add_up() {
        let mut schedule = Schedule::new("s", ark_api::schedule::ScheduleSpec::default());
        let missed = Missed {
            count: 2,
            since: Some(at("2026-01-01T00:00:00Z")),
        };
        let made = Made::Backup("s-1".to_owned());
        ran(&mut schedule, at("2026-01-03T00:00:00Z"), &made, &missed);
        let taken = Made::Taken("s-2".to_owned());
        ran(
            &mut schedule,
            at("2026-01-04T00:00:00Z"),
            &taken,
            &Missed::default(),
        );
        let status = schedule.status.unwrap();
        assert_eq!(status.missed_runs, Some(3));
        assert_eq!(status.last_backup_name.as_deref(), Some("s-1"));
        assert_eq!(status.last_missed, Some(Time(at("2026-01-04T00:00:00Z"))));
    }
}
