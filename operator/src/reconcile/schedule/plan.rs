//! Whether a schedule makes a Backup now. Pure: from facts to a decision.
//!
//! Times here are those of the expression; the schedule's shift within its spread is taken off the
//! clock instead, so that a changed spread makes no run come twice.

use ark_api::cron::Cron;
use ark_api::{Backup, Schedule, annotation};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::validate::Valid;

/// How far the clock may jump back without a run that was made counting as one of the future.
const MAX_JUMP: SignedDuration = SignedDuration::from_hours(2);
/// Missed runs are counted up to this number.
const MAX_MISSED: u32 = 1000;

/// All that a decision depends on.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Now, less the shift.
    pub(super) now: Timestamp,
    /// When the schedule was created, less the shift.
    pub(super) created: Timestamp,
    /// The runs made or skipped, as far as status and Backups tell.
    pub(super) done: Vec<Timestamp>,
    /// A Backup of the schedule that has not ended.
    pub(super) running: Option<String>,
    /// It makes none.
    pub(super) paused: bool,
    /// It was just created or is no longer paused, and a run that is due for that reason is to be
    /// skipped.
    pub(super) skip_due: bool,
}

/// Runs that were due and not made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    /// How many; [`MAX_MISSED`] may stand for more.
    pub(super) count: u32,
    /// The time from which on nothing was made.
    pub(super) since: Option<Timestamp>,
}

impl Missed {
    /// In words.
    pub(super) fn say(&self) -> String {
        let since = self
            .since
            .map_or_else(String::new, |since| format!(" since {since}"));
        let at_least = if self.count >= MAX_MISSED {
            "at least "
        } else {
            ""
        };
        format!(
            "{at_least}{} runs that were due{since} were not made, because the operator did not run, the schedule was \
             paused or the backup before took too long; only the newest is made now",
            self.count
        )
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing until it is changed.
    Paused,
    /// Nothing until then.
    Idle { next: Timestamp },
    /// The Backup of the run that was due at `due`.
    Run { due: Timestamp, missed: Missed },
    /// Nothing until the Backup `running` has ended, although a run is due.
    Wait { running: String, due: Timestamp },
    /// Let what is due go by, up to `at`.
    Skip { at: Timestamp, next: Timestamp },
    /// Nothing is ever due again.
    Never,
}

/// Decides.
pub(super) fn decide(cron: &Cron, facts: &Facts) -> Decision {
    if facts.paused {
        return Decision::Paused;
    }
    let now = facts.now;
    let idle = |from: Timestamp| match cron.next_after(from) {
        Some(next) => Decision::Idle { next },
        None => Decision::Never,
    };
    // A time that lies far in the future was written by a clock that was wrong.
    let latest_credible = now.checked_add(MAX_JUMP).unwrap_or(now);
    let credible = facts
        .done
        .iter()
        .copied()
        .filter(|done| *done <= latest_credible);
    let created = Some(facts.created).filter(|created| *created <= latest_credible);
    let Some(cursor) = credible.chain(created).max() else {
        return match cron.next_after(now) {
            Some(next) => Decision::Skip { at: now, next },
            None => Decision::Never,
        };
    };
    let Some((due, earlier)) = cron.last_between(cursor, now, MAX_MISSED) else {
        return idle(cursor);
    };
    if facts.skip_due {
        return match cron.next_after(now) {
            Some(next) => Decision::Skip { at: now, next },
            None => Decision::Never,
        };
    }
    match &facts.running {
        Some(running) => Decision::Wait {
            running: running.clone(),
            due,
        },
        None => Decision::Run {
            due,
            missed: Missed {
                count: earlier,
                since: (earlier > 0).then_some(cursor),
            },
        },
    }
}

impl Facts {
    /// From the objects.
    pub(super) fn gather(
        schedule: &Schedule,
        valid: &Valid,
        backups: &[Backup],
        now: Timestamp,
    ) -> Self {
        let unshifted = |at: Timestamp| at.checked_sub(valid.shift).unwrap_or(at);
        let uid = schedule.uid().unwrap_or_default();
        let status = schedule.status.clone().unwrap_or_default();
        let made = backups.iter().filter_map(|backup| made_for(backup, &uid));
        let told = [
            status.last_backup.map(|time| time.0),
            status.last_skipped.map(|time| unshifted(time.0)),
        ];
        let just_begun = status.phase.is_none() || status.paused_since.is_some();
        Self {
            now: unshifted(now),
            created: unshifted(schedule.creation_timestamp().map_or(now, |time| time.0)),
            done: made.chain(told.into_iter().flatten()).collect(),
            running: backups
                .iter()
                .find(|backup| is_running(backup))
                .map(ResourceExt::name_any),
            paused: schedule.spec.paused,
            skip_due: just_begun && schedule.spec.skip_immediately == Some(true),
        }
    }
}

/// The due time of the run of the schedule `uid` for which a Backup was made here.
pub(super) fn made_for(backup: &Backup, uid: &str) -> Option<Timestamp> {
    let annotations = backup.annotations();
    if backup.spec.origin.is_some()
        || annotations
            .get(annotation::SCHEDULE_UID)
            .map(String::as_str)
            != Some(uid)
    {
        return None;
    }
    annotations.get(annotation::SCHEDULED_AT)?.parse().ok()
}

/// Whether a Backup of this cluster has not ended.
fn is_running(backup: &Backup) -> bool {
    let phase = backup
        .status
        .as_ref()
        .and_then(|status| status.phase)
        .unwrap_or_default();
    backup.spec.origin.is_none()
        && backup.metadata.deletion_timestamp.is_none()
        && !phase.is_terminal()
        && phase != ark_api::backup::BackupPhase::Deleting
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn facts(now: &str, done: &[&str]) -> Facts {
        Facts {
            now: at(now),
            created: at("2026-01-01T10:30:00Z"),
            done: done.iter().map(|text| at(text)).collect(),
            running: None,
            paused: false,
            skip_due: false,
        }
    }

    fn daily(facts: &Facts) -> String {
        let cron = Cron::parse("0 1 * * *", None).unwrap();
        show(&decide(&cron, facts))
    }

    fn hourly(facts: &Facts) -> String {
        let cron = Cron::parse("@hourly", None).unwrap();
        show(&decide(&cron, facts))
    }

    fn show(decision: &Decision) -> String {
        match decision {
            Decision::Paused => "paused".to_owned(),
            Decision::Never => "never".to_owned(),
            Decision::Idle { next } => format!("idle {next}"),
            Decision::Run { due, missed } => format!("run {due} missed {}", missed.count),
            Decision::Wait { running, due } => format!("wait {running} {due}"),
            Decision::Skip { at, next } => format!("skip {at} next {next}"),
        }
    }

    #[test]
    fn nothing_is_made_before_the_first_due_time_after_creation() {
        assert_eq!(
            daily(&facts("2026-01-01T10:31:00Z", &[])),
            "idle 2026-01-02T01:00:00Z"
        );
        assert_eq!(
            daily(&facts("2026-01-02T01:00:00Z", &[])),
            "run 2026-01-02T01:00:00Z missed 0"
        );
        let done = ["2026-01-02T01:00:00Z"];
        assert_eq!(
            daily(&facts("2026-01-02T01:00:00Z", &done)),
            "idle 2026-01-03T01:00:00Z"
        );
    }

    #[test]
    fn missed_runs_are_counted_and_one_is_made() {
        let done = ["2026-01-02T01:00:00Z"];
        assert_eq!(
            daily(&facts("2026-01-06T12:00:00Z", &done)),
            "run 2026-01-06T01:00:00Z missed 3"
        );
        assert_eq!(
            hourly(&facts("2027-01-02T12:00:00Z", &done)),
            "run 2027-01-02T12:00:00Z missed 1000"
        );
    }

    #[test]
    fn one_at_a_time() {
        let mut facts = facts("2026-01-03T01:00:01Z", &["2026-01-02T01:00:00Z"]);
        facts.running = Some("s-1".to_owned());
        assert_eq!(daily(&facts), "wait s-1 2026-01-03T01:00:00Z");
        facts.now = at("2026-01-03T00:59:59Z");
        assert_eq!(daily(&facts), "idle 2026-01-03T01:00:00Z");
    }

    #[test]
    fn paused_schedules_make_nothing_and_may_skip_what_became_due() {
        let mut facts = facts("2026-01-05T12:00:00Z", &[]);
        facts.paused = true;
        assert_eq!(daily(&facts), "paused");
        facts.paused = false;
        facts.skip_due = true;
        assert_eq!(
            daily(&facts),
            "skip 2026-01-05T12:00:00Z next 2026-01-06T01:00:00Z"
        );
        facts.now = at("2026-01-01T12:00:00Z");
        assert_eq!(daily(&facts), "idle 2026-01-02T01:00:00Z");
    }

    #[test]
    fn an_hour_back_or_forth_makes_no_run_twice_and_none_hang() {
        // The run of 12:00 was made; then the clock is set back by an hour.
        let done = ["2026-01-01T12:00:00Z"];
        assert_eq!(
            hourly(&facts("2026-01-01T11:00:05Z", &done)),
            "idle 2026-01-01T13:00:00Z"
        );
        assert_eq!(
            hourly(&facts("2026-01-01T12:00:05Z", &done)),
            "idle 2026-01-01T13:00:00Z"
        );
        assert_eq!(
            hourly(&facts("2026-01-01T13:00:05Z", &done)),
            "run 2026-01-01T13:00:00Z missed 0"
        );
        // It is set forth by an hour: the run in between is missed, and the one of now is made.
        assert_eq!(
            hourly(&facts("2026-01-01T14:30:00Z", &done)),
            "run 2026-01-01T14:00:00Z missed 1"
        );
    }

    #[test]
    fn a_time_that_only_a_wrong_clock_can_have_written_stops_nothing() {
        let done = ["2026-01-01T12:00:00Z", "2038-01-19T03:00:00Z"];
        assert_eq!(
            hourly(&facts("2026-01-01T13:00:05Z", &done)),
            "run 2026-01-01T13:00:00Z missed 0"
        );
        let mut nothing_credible = facts("2026-01-01T13:00:05Z", &["2038-01-19T03:00:00Z"]);
        nothing_credible.created = at("2038-01-19T02:00:00Z");
        assert_eq!(
            hourly(&nothing_credible),
            "skip 2026-01-01T13:00:05Z next 2026-01-01T14:00:00Z"
        );
    }

    #[test]
    fn only_own_backups_tell_of_runs() {
        let mut backup = Backup::new("s-1", ark_api::backup::BackupSpec::default());
        backup.annotations_mut().extend([
            (annotation::SCHEDULE_UID.to_owned(), "u".to_owned()),
            (
                annotation::SCHEDULED_AT.to_owned(),
                "2026-01-01T12:00:00Z".to_owned(),
            ),
        ]);
        assert_eq!(made_for(&backup, "u"), Some(at("2026-01-01T12:00:00Z")));
        assert_eq!(made_for(&backup, "other"), None);
        assert!(is_running(&backup));
        backup.spec.origin = Some(ark_api::origin::Origin::default());
        assert_eq!(made_for(&backup, "u"), None);
        assert!(!is_running(&backup));
    }
}
