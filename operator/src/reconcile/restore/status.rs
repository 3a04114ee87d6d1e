//! The status of a Restore: what it says at each step. Writes go through [`crate::status::update`].

use ark_api::Restore;
use ark_api::condition::{self, kind, reason};
use ark_api::restore::{RestorePhase, RestoreStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::report::{Live, Report};
use crate::context::Context;
use crate::copies;
use crate::error::{Error, Result};
use crate::run::attempts;

/// How a restore ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// Phase, one of the terminal ones.
    pub(crate) phase: RestorePhase,
    /// Why it failed.
    pub(crate) failure_reason: Option<String>,
    /// All that is wrong with the spec.
    pub(crate) validation_errors: Vec<String>,
    /// Counts.
    pub(crate) live: Live,
    /// Errors and warnings.
    pub(crate) counts: Option<(i32, i32)>,
}

impl Verdict {
    /// The spec makes no sense, or what it names cannot be restored.
    pub(crate) fn invalid(errors: Vec<String>) -> Self {
        Self {
            phase: RestorePhase::FailedValidation,
            failure_reason: None,
            validation_errors: errors,
            live: Live::default(),
            counts: None,
        }
    }

    /// It cannot go on.
    pub(crate) fn failed(why: String) -> Self {
        Self {
            phase: RestorePhase::Failed,
            failure_reason: Some(why),
            validation_errors: Vec::new(),
            live: Live::default(),
            counts: None,
        }
    }

    /// The user cancelled it; `report` is that of its run, if it had one.
    pub(crate) fn cancelled(report: Option<&Report>, what: &str) -> Self {
        Self {
            phase: RestorePhase::Canceled,
            failure_reason: Some(what.to_owned()),
            validation_errors: Vec::new(),
            live: report.map(Report::now).unwrap_or_default(),
            counts: report.map(|report| (report.log.errors(), report.log.warnings())),
        }
    }

    /// What the report amounts to; `fatal` if the run could not go on.
    pub(crate) fn of(report: &Report, fatal: Option<String>) -> Self {
        let (errors, warnings) = (report.log.errors(), report.log.warnings());
        let (phase, failure_reason) = match fatal {
            Some(why) => (RestorePhase::Failed, Some(why)),
            None if report.nothing_restored() => (
                RestorePhase::Failed,
                Some("not a single object could be restored".to_owned()),
            ),
            None if errors > 0 => (
                RestorePhase::PartiallyFailed,
                Some(match report.results().errors_first() {
                    Some(first) if errors == 1 => first,
                    Some(first) => format!("{errors} errors, the first: {first}"),
                    None => format!("{errors} errors"),
                }),
            ),
            None => (RestorePhase::Completed, None),
        };
        Self {
            phase,
            failure_reason,
            validation_errors: Vec::new(),
            live: report.now(),
            counts: Some((errors, warnings)),
        }
    }

    fn write(&self, status: &mut RestoreStatus, generation: Option<i64>, now: &Time) {
        let Self {
            phase,
            failure_reason,
            validation_errors,
            live,
            counts,
        } = self;
        status.phase = Some(*phase);
        status.observed_generation = generation;
        status.failure_reason.clone_from(failure_reason);
        status.validation_errors.clone_from(validation_errors);
        status.completion_timestamp = Some(now.clone());
        if let Some((errors, warnings)) = counts {
            status.errors = Some(*errors);
            status.warnings = Some(*warnings);
            status.progress = Some(live.progress.clone());
            status.volumes = Some(live.volumes.clone());
        }
        let message = failure_reason
            .clone()
            .or_else(|| validation_errors.first().cloned())
            .unwrap_or_default();
        set_waiting(status, None, generation, now);
        condition::set(
            &mut status.conditions,
            kind::FINISHED,
            true,
            &format!("{phase:?}"),
            &message,
            generation,
            now,
        );
    }
}

trait First {
    fn errors_first(&self) -> Option<String>;
}

impl First for ark_api::results::Results {
    fn errors_first(&self) -> Option<String> {
        let errors = &self.errors;
        errors
            .ark
            .first()
            .or_else(|| errors.cluster.first())
            .or_else(|| errors.namespaces.values().find_map(|list| list.first()))
            .cloned()
    }
}

fn set_waiting(
    status: &mut RestoreStatus,
    waiting: Option<&(&'static str, String)>,
    generation: Option<i64>,
    now: &Time,
) {
    let waiting = waiting.map(|(reason, message)| (*reason, message.as_str()));
    condition::set_waiting(&mut status.conditions, waiting, generation, now);
}

/// It is a copy of one that was executed; `text` says of which.
pub(super) fn copy(restore: &mut Restore, text: &str, now: &Time) {
    let generation = restore.metadata.generation;
    let status = restore.status.get_or_insert_default();
    status.phase = Some(RestorePhase::Copy);
    status.observed_generation = generation;
    copies::note_copy(&mut status.conditions, text, generation, now);
}

/// Writes statuses of one Restore.
pub(crate) struct Writer<'a> {
    context: &'a Context,
    name: String,
    uid: String,
    generation: Option<i64>,
}

impl<'a> Writer<'a> {
    /// Of `restore`.
    pub(crate) fn new(context: &'a Context, restore: &Restore) -> Self {
        Self {
            context,
            name: restore.name_any(),
            uid: restore.uid().unwrap_or_default(),
            generation: restore.metadata.generation,
        }
    }

    async fn change(&self, change: impl Fn(&mut RestoreStatus, &Time)) -> Result<Restore> {
        let now = self.context.clock.time();
        crate::status::update(
            &self.context.api::<Restore>(),
            &self.name,
            &self.uid,
            |restore: &mut Restore| {
                let status = restore.status.get_or_insert_default();
                change(status, &now);
            },
        )
        .await
    }

    /// It waits for its turn.
    pub(crate) async fn queue(&self, why: &str) -> Result<Restore> {
        self.change(|status, now| {
            status.phase = Some(RestorePhase::New);
            let waiting = (reason::QUEUED, why.to_owned());
            set_waiting(status, Some(&waiting), self.generation, now);
        })
        .await
    }

    /// The run ended with an error that may pass, and another one follows. `before` is the number
    /// of attempts before the run: if it came as far as one of its own, that is kept with the
    /// reason.
    pub(crate) async fn interrupt(&self, before: i32, error: &Error) -> Result<Restore> {
        self.change(|status, now| {
            let waiting = (error.reason(), error.sentence());
            let number = status.attempt.unwrap_or_default();
            if number > before {
                attempts::note(&mut status.failed_attempts, number, Some(&waiting.1));
            }
            set_waiting(status, Some(&waiting), self.generation, now);
        })
        .await
    }

    /// Work begins, in an attempt that is counted from now on; `cause` is why the one before it
    /// ended, if that is known. The backup it was resolved to is fixed.
    pub(crate) async fn start(
        &self,
        backup: &str,
        location: &str,
        cause: Option<&str>,
    ) -> Result<Restore> {
        self.change(|status, now| {
            attempts::note(
                &mut status.failed_attempts,
                status.attempt.unwrap_or_default(),
                cause,
            );
            set_waiting(status, None, self.generation, now);
            status.phase = Some(RestorePhase::InProgress);
            copies::forget_copy(&mut status.conditions);
            status.observed_generation = self.generation;
            status.backup_name = Some(backup.to_owned());
            status.backup_location = Some(location.to_owned());
            status.attempt = Some(status.attempt.unwrap_or(0) + 1);
            status.start_timestamp.get_or_insert_with(|| now.clone());
        })
        .await
    }

    /// It is being cancelled.
    pub(crate) async fn canceling(&self) -> Result<Restore> {
        self.change(|status, _| status.phase = Some(RestorePhase::Canceling))
            .await
    }

    /// How far it is.
    pub(crate) async fn progress(&self, live: &Live) -> Result<Restore> {
        self.change(|status, now| {
            status.progress = Some(live.progress.clone());
            status.volumes = Some(live.volumes.clone());
            set_waiting(status, live.waiting.as_ref(), self.generation, now);
        })
        .await
    }

    /// The end.
    pub(crate) async fn finish(&self, verdict: &Verdict) -> Result<Restore> {
        self.change(|status, now| verdict.write(status, self.generation, now))
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ark_api::results::ItemAction;

    use super::*;
    use crate::clock::SystemClock;
    use crate::run_log::{About, RunLog};

    fn verdict(fill: impl FnOnce(&Report), fatal: Option<&str>) -> Verdict {
        let spool = tempfile::tempdir().unwrap();
        let log = RunLog::create("restore/r", spool.path(), Arc::new(SystemClock)).unwrap();
        let report = Report::new(log);
        fill(&report);
        Verdict::of(&report, fatal.map(str::to_owned))
    }

    #[test]
    fn verdicts() {
        let good = |r: &Report| r.row("pods", "w", "p", ItemAction::Created, "", false);
        let bad = |r: &Report| r.row("pods", "w", "q", ItemAction::Failed, "no", false);
        assert_eq!(verdict(|_| {}, None).phase, RestorePhase::Completed);
        assert_eq!(verdict(good, None).phase, RestorePhase::Completed);
        let mixed = verdict(
            |r| {
                good(r);
                bad(r);
            },
            None,
        );
        assert_eq!(mixed.phase, RestorePhase::PartiallyFailed);
        assert_eq!(mixed.failure_reason.as_deref(), Some("pods w/q: no"));
        assert_eq!(verdict(bad, None).phase, RestorePhase::Failed);
        let fatal = verdict(good, Some("the store is gone"));
        assert_eq!(fatal.phase, RestorePhase::Failed);
        // A warning never changes the verdict, an error about Ark itself does.
        let warned = verdict(
            |r| {
                good(r);
                r.log.warn(About::Ark, "w");
            },
            None,
        );
        assert_eq!(warned.phase, RestorePhase::Completed);
        let unstored = verdict(
            |r| {
                good(r);
                r.log.error(About::Ark, "e");
            },
            None,
        );
        assert_eq!(unstored.phase, RestorePhase::PartiallyFailed);
    }

    #[test]
    fn the_end_is_written_with_a_condition() {
        let mut status = RestoreStatus::default();
        let now = Time(jiff::Timestamp::UNIX_EPOCH);
        let waiting = (reason::CLAIM_NOT_BOUND, "claim c".to_owned());
        set_waiting(&mut status, Some(&waiting), Some(1), &now);
        assert!(condition::is_true(&status.conditions, kind::WAITING));
        Verdict::invalid(vec!["no such backup".into()]).write(&mut status, Some(1), &now);
        assert_eq!(status.phase, Some(RestorePhase::FailedValidation));
        assert_eq!(status.validation_errors, ["no such backup"]);
        assert!(!condition::is_true(&status.conditions, kind::WAITING));
        let finished = condition::get(&status.conditions, kind::FINISHED).unwrap();
        assert_eq!(finished.reason, "FailedValidation");
    }
}
