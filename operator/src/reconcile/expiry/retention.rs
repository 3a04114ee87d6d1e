//! Which backups of a schedule its rules keep: the engine's rules for snapshots, applied to
//! backups. Pure.

use ark_api::schedule::{Retained, Retention};
use ark_api::{Backup, Schedule};
use ark_engine::Snapshot;
use ark_engine::maintain::{Counts, Keep, KeepPolicy, apply_policy};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube::ResourceExt;

/// The rules in the engine's words.
pub(crate) fn policy(retention: &Retention) -> KeepPolicy {
    let keep = |number: Option<u32>| match number {
        None | Some(0) => Keep::None,
        Some(number) => Keep::Count(number),
    };
    KeepPolicy {
        counts: Counts {
            last: keep(retention.keep_last),
            hourly: keep(retention.keep_hourly),
            daily: keep(retention.keep_daily),
            weekly: keep(retention.keep_weekly),
            monthly: keep(retention.keep_monthly),
            yearly: keep(retention.keep_yearly),
        },
        ..KeepPolicy::default()
    }
}

/// What the rules of `schedule` make of its backups, the newest first; `None` if it has no rules.
/// Only backups of this cluster that can be restored count. `zone`: whose hours and days.
pub(crate) fn decide(
    schedule: &Schedule,
    zone: &TimeZone,
    backups: &[Backup],
) -> Option<Vec<Retained>> {
    let policy = policy(schedule.spec.retention.as_ref()?);
    if policy.is_empty() {
        return None;
    }
    let as_snapshots: Vec<Snapshot> = backups
        .iter()
        .filter(|backup| counts(backup))
        .filter_map(|backup| {
            let taken = backup.status.as_ref()?.start_timestamp.as_ref()?.0;
            Some(snapshot(&backup.name_any(), taken, zone))
        })
        .collect();
    // Any time after all of them: backups from the future are no reason to keep fewer.
    let decision = apply_policy(&policy, &as_snapshots, Timestamp::MAX);
    let kept = decision.keep.into_iter().map(|kept| {
        let reasons = kept
            .reasons
            .iter()
            .map(|reason| reason.replace("snapshot", "backup"))
            .collect();
        (
            kept.snapshot.time,
            Retained {
                backup: kept.snapshot.id,
                reasons,
            },
        )
    });
    let removed = decision.remove.into_iter().map(|snapshot| {
        (
            snapshot.time,
            Retained {
                backup: snapshot.id,
                reasons: Vec::new(),
            },
        )
    });
    let mut all: Vec<(Timestamp, Retained)> = kept.chain(removed).collect();
    all.sort_by(|(a, _), (b, _)| b.cmp(a));
    Some(all.into_iter().map(|(_, retained)| retained).collect())
}

/// Whether the rules are about a backup at all: one that cannot be restored must not take the place
/// of one that can.
fn counts(backup: &Backup) -> bool {
    let phase = backup.status.as_ref().and_then(|status| status.phase);
    backup.spec.origin.is_none() && phase.unwrap_or_default().is_restorable()
}

/// A backup in the form that the engine's rules judge.
fn snapshot(name: &str, taken: Timestamp, zone: &TimeZone) -> Snapshot {
    Snapshot::dated(name, taken, zone.to_offset(taken))
}

#[cfg(test)]
mod tests {
    use ark_api::backup::{BackupPhase, BackupStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn backup(name: &str, start: &str) -> Backup {
        let mut backup = Backup::new(name, ark_api::backup::BackupSpec::default());
        backup.status = Some(BackupStatus {
            phase: Some(BackupPhase::Completed),
            start_timestamp: Some(Time(start.parse().unwrap())),
            ..BackupStatus::default()
        });
        backup
    }

    fn schedule(retention: Retention) -> Schedule {
        let mut schedule = Schedule::new("s", ark_api::schedule::ScheduleSpec::default());
        schedule.spec.retention = Some(retention);
        schedule
    }

    fn shown(retained: Vec<Retained>) -> Vec<String> {
        retained
            .into_iter()
            .map(|one| format!("{}: {}", one.backup, one.reasons.join(", ")))
            .collect()
    }

    #[test]
    fn the_engine_s_rules_keep_backups_with_their_reasons() {
        let mut failed = backup("failed", "2026-01-05T01:00:00Z");
        failed.status.as_mut().unwrap().phase = Some(BackupPhase::Failed);
        let mut foreign = backup("foreign", "2026-01-05T02:00:00Z");
        foreign.spec.origin = Some(ark_api::origin::Origin::default());
        let backups = [
            backup("a", "2026-01-01T01:00:00Z"),
            backup("b", "2026-01-02T01:00:00Z"),
            backup("c", "2026-01-03T01:00:00Z"),
            backup("d", "2026-01-03T13:00:00Z"),
            failed,
            foreign,
        ];
        let rules = schedule(Retention {
            keep_last: Some(1),
            keep_daily: Some(2),
            ..Retention::default()
        });
        let found = decide(&rules, &TimeZone::UTC, &backups).unwrap();
        assert_eq!(
            shown(found),
            [
                "d: last backup, daily backup",
                "c: ",
                "b: daily backup",
                "a: "
            ]
        );
        assert_eq!(
            decide(&schedule(Retention::default()), &TimeZone::UTC, &backups),
            None
        );
    }

    #[test]
    fn days_are_those_of_the_schedule_s_zone() {
        let backups = [
            backup("evening", "2026-01-01T20:00:00Z"),
            backup("night", "2026-01-01T23:30:00Z"),
        ];
        let rules = schedule(Retention {
            keep_daily: Some(2),
            ..Retention::default()
        });
        let kept = |zone: &TimeZone| {
            let found = decide(&rules, zone, &backups).unwrap();
            found.iter().filter(|one| !one.reasons.is_empty()).count()
        };
        // In UTC both are of one day; the older is kept only because the rule has a day left.
        let found = shown(decide(&rules, &TimeZone::UTC, &backups).unwrap());
        assert!(found[1].contains("oldest"), "{found:?}");
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        let found = shown(decide(&rules, &berlin, &backups).unwrap());
        assert!(!found[1].contains("oldest"), "{found:?}");
        assert_eq!(kept(&berlin), 2);
    }
}
