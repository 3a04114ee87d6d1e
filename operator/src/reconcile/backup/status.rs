//! What a Backup's status says at each step. Pure: from a status to the next one.

use ark_api::Backup;
use ark_api::backup::{BackupPhase, BackupStatus, ItemProgress};
use ark_api::condition::{self, kind, reason};
use ark_api::volume::{VolumeClass, VolumeCounts, VolumeRow};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::validate::Plan;
use crate::bundle::write::FORMAT_VERSION;
use crate::copies;
use crate::error::shorten;
use crate::run::attempts;

/// Longest reason kept in a status.
const MAX_REASON: usize = 4096;

/// What a run found, for the final status.
#[derive(Clone, Debug)]
pub(super) struct Outcome<'a> {
    /// Number of items.
    pub(super) items: usize,
    /// Volume rows.
    pub(super) rows: &'a [VolumeRow],
    /// Errors, those about volumes included.
    pub(super) errors: i32,
    /// Warnings.
    pub(super) warnings: i32,
    /// The user cancelled it while volumes were taken.
    pub(super) cancelled: bool,
}

/// It waits for its turn.
pub(super) fn queue(backup: &mut Backup, position: i32, why: &str, now: &Time) {
    let generation = backup.metadata.generation;
    let status = backup.status.get_or_insert_default();
    status.phase = Some(BackupPhase::Queued);
    copies::forget_copy(&mut status.conditions);
    status.observed_generation = generation;
    status.queue_position = Some(position);
    wait(backup, Some((reason::QUEUED, why)), now);
}

/// Something outside is waited for, or nothing any more: reason and message.
pub(super) fn wait(backup: &mut Backup, what: Option<(&str, &str)>, now: &Time) {
    let generation = backup.metadata.generation;
    let conditions = &mut backup.status.get_or_insert_default().conditions;
    condition::set_waiting(conditions, what, generation, now);
}

/// An attempt ended with an error that may pass; another one follows.
pub(super) fn interrupt(backup: &mut Backup, reason: &str, cause: &str, now: &Time) {
    let status = backup.status.get_or_insert_default();
    attempts::note(
        &mut status.failed_attempts,
        status.attempt.unwrap_or_default(),
        Some(cause),
    );
    wait(backup, Some((reason, cause)), now);
}

/// A new attempt begins; `cause` is why the one before it ended, if that is known.
pub(super) fn start(backup: &mut Backup, cluster: &str, cause: Option<&str>, now: &Time) {
    let generation = backup.metadata.generation;
    let status = backup.status.get_or_insert_default();
    attempts::note(
        &mut status.failed_attempts,
        status.attempt.unwrap_or_default(),
        cause,
    );
    status.queue_position = None;
    status.phase = Some(BackupPhase::InProgress);
    copies::forget_copy(&mut status.conditions);
    status.observed_generation = generation;
    status.version = Some(1);
    status.format_version = Some(FORMAT_VERSION.to_owned());
    status.attempt = Some(status.attempt.unwrap_or_default().saturating_add(1));
    status.start_timestamp.get_or_insert_with(|| now.clone());
    status.cluster = Some(cluster.to_owned());
    status.progress = Some(ItemProgress::default());
    wait(backup, None, now);
}

/// It is a copy of one that was executed; `text` says of which.
pub(super) fn copy(backup: &mut Backup, text: &str, now: &Time) {
    let generation = backup.metadata.generation;
    let status = backup.status.get_or_insert_default();
    status.phase = Some(BackupPhase::Copy);
    status.observed_generation = generation;
    copies::note_copy(&mut status.conditions, text, generation, now);
}

/// Items so far. Never backwards within an attempt's listing.
pub(super) fn progress(status: &mut BackupStatus, items: usize, done: bool) {
    let items = i32::try_from(items).unwrap_or(i32::MAX);
    let total = if done {
        items
    } else {
        items.max(status.progress.as_ref().map_or(0, |p| p.total_items))
    };
    status.progress = Some(ItemProgress {
        total_items: total,
        items_backed_up: items,
    });
}

/// The spec makes no sense.
pub(super) fn refuse(backup: &mut Backup, problems: &[String], now: &Time) {
    let status = backup.status.get_or_insert_default();
    status.validation_errors = problems.to_vec();
    end(
        backup,
        BackupPhase::FailedValidation,
        &problems.join("; "),
        now,
    );
}

/// It cannot be restored.
pub(super) fn fail(backup: &mut Backup, reason: &str, errors: i32, warnings: i32, now: &Time) {
    let status = backup.status.get_or_insert_default();
    status.failure_reason = Some(shorten(reason, MAX_REASON));
    status.errors = Some(errors.max(1));
    status.warnings = Some(warnings);
    end(backup, BackupPhase::Failed, reason, now);
}

/// The user cancelled it; `what` says what became of it.
pub(super) fn cancel(backup: &mut Backup, what: &str, now: &Time) {
    let status = backup.status.get_or_insert_default();
    status.failure_reason = Some(shorten(what, MAX_REASON));
    end(backup, BackupPhase::Canceled, what, now);
}

/// It is stored: verdict, counts, conditions. Never rounded up: one error is enough for
/// PartiallyFailed.
pub(super) fn finish(backup: &mut Backup, plan: &Plan, outcome: &Outcome<'_>, now: &Time) {
    let generation = backup.metadata.generation;
    let counts = VolumeCounts::of(outcome.rows);
    let status = backup.status.get_or_insert_default();
    progress(status, outcome.items, true);
    status.errors = Some(outcome.errors);
    status.warnings = Some(outcome.warnings);
    status.volumes = Some(counts);
    status.unprotected_volumes = Some(counts.unprotected);
    status.bytes = Some(outcome.rows.iter().filter_map(|row| row.bytes).sum());
    status.new_bytes = Some(outcome.rows.iter().filter_map(|row| row.new_bytes).sum());
    let expires = Timestamp::checked_add(
        now.0,
        jiff::SignedDuration::try_from(plan.ttl).unwrap_or(jiff::SignedDuration::MAX),
    );
    status.expiration = Some(Time(expires.unwrap_or(Timestamp::MAX)));
    let (ok, reason, message) = if counts.unprotected == 0 {
        (
            true,
            reason::OK,
            "every volume with data is covered or was left out by choice".to_owned(),
        )
    } else {
        (
            false,
            reason::UNPROTECTED_VOLUMES,
            unprotected(outcome.rows),
        )
    };
    condition::set(
        &mut status.conditions,
        kind::ALL_VOLUMES_PROTECTED,
        ok,
        reason,
        &message,
        generation,
        now,
    );
    if outcome.cancelled {
        let what = format!(
            "cancelled; stored were {} items and {} of {} volumes with files, which can be restored",
            outcome.items,
            counts.taken,
            counts.taken + counts.partial + counts.failed
        );
        return cancel(backup, &what, now);
    }
    let phase = verdict(outcome.errors, counts);
    let message = match phase {
        BackupPhase::Completed => format!("{} items stored", outcome.items),
        _ => format!("{} items stored, {} errors", outcome.items, outcome.errors),
    };
    end(backup, phase, &message, now);
}

/// Completed only if nothing went wrong at all.
fn verdict(errors: i32, counts: VolumeCounts) -> BackupPhase {
    if errors == 0 && counts.failed == 0 && counts.partial == 0 {
        BackupPhase::Completed
    } else {
        BackupPhase::PartiallyFailed
    }
}

/// The first few volumes that nothing covers, by name.
fn unprotected(rows: &[VolumeRow]) -> String {
    let names: Vec<String> = rows
        .iter()
        .filter(|row| row.class == VolumeClass::Unprotected)
        .map(describe)
        .collect();
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        n if n > 5 => format!(
            "{shown} and {} more hold data that is not in the backup",
            n - 5
        ),
        _ => format!("{shown}: data that is not in the backup"),
    }
}

/// `namespace/pod: volume`, or `namespace: claim name`.
pub(super) fn describe(row: &VolumeRow) -> String {
    match (&row.pod, &row.volume, &row.claim) {
        (Some(pod), Some(volume), _) => format!("{}/{pod}: {volume}", row.namespace),
        (_, _, Some(claim)) => format!("{}: claim {claim}", row.namespace),
        _ => row.namespace.clone(),
    }
}

fn end(backup: &mut Backup, phase: BackupPhase, message: &str, now: &Time) {
    let generation = backup.metadata.generation;
    let status = backup.status.get_or_insert_default();
    status.phase = Some(phase);
    status.observed_generation = generation;
    status.completion_timestamp = Some(now.clone());
    status.queue_position = None;
    condition::set_waiting(&mut status.conditions, None, generation, now);
    condition::set(
        &mut status.conditions,
        kind::FINISHED,
        true,
        &format!("{phase:?}"),
        &shorten(message, MAX_REASON),
        generation,
        now,
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ark_api::backup::BackupSpec;
    use ark_api::volume::VolumeReason;

    use super::*;

    fn now() -> Time {
        Time("2026-01-01T00:00:00Z".parse().unwrap())
    }

    fn plan() -> Plan {
        Plan {
            location: "default".to_owned(),
            ttl: Duration::from_hours(1),
            volume_timeout: Duration::from_mins(1),
            queue_timeout: Duration::from_mins(1),
            opt_out: false,
        }
    }

    fn row(class: VolumeClass) -> VolumeRow {
        serde_json::from_value(serde_json::json!({
            "namespace": "shop", "pod": "web", "volume": "v", "class": class,
            "reason": VolumeReason::Completed, "bytes": 10, "newBytes": 4,
        }))
        .unwrap()
    }

    fn finished(rows: &[VolumeRow], errors: i32) -> BackupStatus {
        let mut backup = Backup::new("b", BackupSpec::default());
        start(&mut backup, "cluster", None, &now());
        let outcome = Outcome {
            items: 3,
            rows,
            errors,
            warnings: 0,
            cancelled: false,
        };
        finish(&mut backup, &plan(), &outcome, &now());
        backup.status.unwrap()
    }

    #[test]
    fn verdict_is_never_rounded_up() {
        use VolumeClass::{Chosen, Failed, NotData, Partial, Taken, Unprotected};
        let phase = |rows: &[VolumeRow], errors| finished(rows, errors).phase.unwrap();
        let fine: Vec<_> = [Taken, Chosen, NotData, Unprotected].map(row).into();
        assert_eq!(phase(&fine, 0), BackupPhase::Completed);
        assert_eq!(phase(&fine, 1), BackupPhase::PartiallyFailed);
        assert_eq!(phase(&[row(Partial)], 0), BackupPhase::PartiallyFailed);
        assert_eq!(phase(&[row(Failed)], 0), BackupPhase::PartiallyFailed);
    }

    #[test]
    fn unprotected_volumes_show() {
        let status = finished(&[row(VolumeClass::Unprotected), row(VolumeClass::Taken)], 0);
        assert_eq!(status.unprotected_volumes, Some(1));
        let said = condition::get(&status.conditions, kind::ALL_VOLUMES_PROTECTED).unwrap();
        assert_eq!(
            (said.status.as_str(), said.reason.as_str()),
            ("False", reason::UNPROTECTED_VOLUMES)
        );
        assert!(said.message.contains("shop/web: v"));
        assert_eq!((status.bytes, status.new_bytes), (Some(20), Some(8)));
        assert_eq!(
            status.expiration.unwrap().0.to_string(),
            "2026-01-01T01:00:00Z"
        );
    }

    #[test]
    fn attempts_are_counted_and_the_start_is_kept() {
        let mut backup = Backup::new("b", BackupSpec::default());
        start(&mut backup, "c", None, &now());
        start(
            &mut backup,
            "c",
            Some("the API server"),
            &Time("2026-01-02T00:00:00Z".parse().unwrap()),
        );
        let status = backup.status.as_ref().unwrap();
        assert_eq!(status.attempt, Some(2));
        assert_eq!(status.failed_attempts[0].message, "the API server");
        assert_eq!(status.start_timestamp, Some(now()));
        fail(&mut backup, "the store is gone", 0, 0, &now());
        let status = backup.status.unwrap();
        assert_eq!(
            (status.phase, status.errors),
            (Some(BackupPhase::Failed), Some(1))
        );
    }
}
