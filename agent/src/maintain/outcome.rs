//! From what a prune and a check did to the status of a repository. Pure.

use std::collections::BTreeSet;

use ark_api::ResticRepository;
use ark_api::condition::{self, kind, reason};
use ark_api::maintenance::{
    MaintenanceResult, MaintenanceRun, REMEMBERED_RUNS, SHOWN_BACKUPS, SHOWN_FINDINGS, Verification,
};
use ark_api::naming::tag;
use ark_engine::maintain::{PruneReport, Severity};
use ark_engine::{CheckReport, Snapshot};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What was done, and what kept the rest from being done.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What the prune did.
    pub(super) pruned: Option<PruneReport>,
    /// What the check found.
    pub(super) checked: Option<Checked>,
    /// What was not done and why.
    pub(super) problem: Option<String>,
}

/// A check that came to its end.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) report: CheckReport,
    /// Names of the backups whose snapshots need what is damaged.
    pub(super) backups: Vec<String>,
    /// Into how many shares the data was divided, one of which was read; 1 if all was read.
    pub(super) shares: u32,
}

impl Outcome {
    /// Nothing was done.
    pub(super) fn failed(problem: String) -> Self {
        Self {
            problem: Some(problem),
            ..Self::default()
        }
    }

    /// Bytes that the prune gave back.
    pub(super) fn freed(&self) -> i64 {
        self.pruned.as_ref().map_or(0, |pruned| {
            let PruneReport {
                deleted_bytes,
                repack_dropped_bytes,
                unreferenced_bytes,
                ..
            } = *pruned;
            bytes(deleted_bytes + repack_dropped_bytes + unreferenced_bytes)
        })
    }
}

/// Names of the backups that took the snapshots with these ids, each once, in order of their names.
/// A snapshot that no backup of Ark's took is named by its id.
pub(super) fn backups_of(snapshots: &[Snapshot], ids: &[String]) -> Vec<String> {
    let name = |id: &String| {
        let snapshot = snapshots.iter().find(|snapshot| snapshot.id == *id);
        let backup = snapshot.and_then(|snapshot| {
            let mut tags = snapshot.tags.iter().filter_map(|tag| tag.split_once('='));
            tags.find(|(key, _)| *key == tag::BACKUP)
                .map(|(_, backup)| backup.to_owned())
        });
        backup.unwrap_or_else(|| format!("snapshot {}", id.get(..8).unwrap_or(id)))
    };
    let names: BTreeSet<String> = ids.iter().map(name).collect();
    names.into_iter().take(SHOWN_BACKUPS).collect()
}

/// Writes the outcome of `run` into the status. `request` is the request for maintenance that it
/// carried out.
pub(super) fn apply(
    repository: &mut ResticRepository,
    outcome: &Outcome,
    run: &MaintenanceRun,
    request: Option<&str>,
) {
    let generation = repository.metadata.generation;
    let status = repository.status.get_or_insert_default();
    let well = outcome.problem.is_none();
    if let Some(request) = request {
        status.maintenance_request = Some(request.to_owned());
    }
    let run = MaintenanceRun {
        result: if well {
            MaintenanceResult::Succeeded
        } else {
            MaintenanceResult::Failed
        },
        message: outcome.problem.clone(),
        freed_bytes: outcome.pruned.is_some().then(|| outcome.freed()),
        ..run.clone()
    };
    if well && outcome.pruned.is_some() {
        status
            .last_maintenance_time
            .clone_from(&run.complete_timestamp);
    }
    if let Some(pruned) = &outcome.pruned {
        status.stored_bytes = Some(bytes(pruned.remaining_bytes));
        status.reclaimable_bytes = Some(bytes(pruned.unused_bytes));
    }
    if let (Some(checked), Some(now)) = (&outcome.checked, run.complete_timestamp.clone()) {
        let verification = status.verification.get_or_insert_default();
        verify(verification, checked, &now);
        let (healthy, reason, message) = health(verification);
        let conditions = &mut status.conditions;
        condition::set(
            conditions,
            kind::HEALTHY,
            healthy,
            reason,
            &message,
            generation,
            &now,
        );
    }
    status.recent_maintenance.push(run);
    let surplus = status
        .recent_maintenance
        .len()
        .saturating_sub(REMEMBERED_RUNS);
    status.recent_maintenance.drain(..surplus);
}

/// The next state of what is known of a repository's data.
fn verify(verification: &mut Verification, checked: &Checked, now: &Time) {
    let damage: Vec<String> = checked
        .report
        .findings
        .iter()
        .filter(|finding| finding.severity() == Severity::Damage)
        .map(|finding| format!("{finding}; {}", finding.problem.hint()))
        .collect();
    verification.last_time = Some(now.clone());
    if checked.shares <= 1 {
        verification.all_read_time = Some(now.clone());
    } else {
        let shares = i32::try_from(checked.shares).unwrap_or(i32::MAX);
        if verification.shares != shares {
            // Other shares than before: reading all of them begins anew.
            verification.turn = 0;
            verification.shares = shares;
        }
        verification.turn += 1;
        if verification.turn % i64::from(shares) == 0 {
            verification.all_read_time = Some(now.clone());
        }
    }
    verification.read_bytes = bytes(checked.report.bytes_read);
    verification.defects = i64::try_from(damage.len())
        .unwrap_or(i64::MAX)
        .saturating_add(bytes(checked.report.damage_dropped));
    verification.findings = damage.into_iter().take(SHOWN_FINDINGS).collect();
    verification.affected_backups.clone_from(&checked.backups);
}

/// Status, reason and message of the condition.
fn health(verification: &Verification) -> (bool, &'static str, String) {
    if verification.defects == 0 {
        let message = "the last check found nothing wrong".to_owned();
        return (true, reason::OK, message);
    }
    let first = verification.findings.first().map_or("", String::as_str);
    let affected = match verification.affected_backups.as_slice() {
        [] => "no backup needs what is damaged".to_owned(),
        names => format!("affected backups: {}", names.join(", ")),
    };
    let message = format!(
        "{} defects, the first: {first}; {affected}; docs/operations/damage.md says how to mend them",
        verification.defects
    );
    (false, reason::DAMAGED, message)
}

/// A count as the API writes it.
fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use ark_api::repository::ResticRepositorySpec;
    use ark_engine::maintain::{Finding, Object, Problem};

    use super::*;

    fn at(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).unwrap())
    }

    fn run(second: i64) -> MaintenanceRun {
        MaintenanceRun {
            job: format!("job-{second}"),
            start_timestamp: Some(at(second)),
            complete_timestamp: Some(at(second + 1)),
            ..MaintenanceRun::default()
        }
    }

    fn repository() -> ResticRepository {
        ResticRepository::new("r", ResticRepositorySpec::default())
    }

    fn checked(shares: u32, findings: Vec<Finding>) -> Outcome {
        Outcome {
            pruned: Some(PruneReport {
                deleted_bytes: 100,
                unreferenced_bytes: 10,
                remaining_bytes: 1000,
                unused_bytes: 7,
                ..PruneReport::default()
            }),
            checked: Some(Checked {
                report: CheckReport {
                    findings,
                    bytes_read: 50,
                    ..CheckReport::default()
                },
                backups: vec!["daily-1".to_owned()],
                shares,
            }),
            problem: None,
        }
    }

    #[test]
    fn a_good_run_says_what_it_freed_and_read() {
        let mut repository = repository();
        apply(
            &mut repository,
            &checked(3, Vec::new()),
            &run(5),
            Some("prune:1"),
        );
        let status = repository.status.unwrap();
        assert_eq!(status.last_maintenance_time, Some(at(6)));
        assert_eq!(status.recent_maintenance[0].freed_bytes, Some(110));
        assert_eq!(
            (status.stored_bytes, status.reclaimable_bytes),
            (Some(1000), Some(7))
        );
        assert_eq!(status.maintenance_request.as_deref(), Some("prune:1"));
        let verification = status.verification.unwrap();
        assert_eq!((verification.turn, verification.read_bytes), (1, 50));
        assert_eq!(verification.all_read_time, None);
        assert!(condition::is_true(&status.conditions, kind::HEALTHY));
    }

    #[test]
    fn all_is_read_after_as_many_turns_as_there_are_shares() {
        let mut repository = repository();
        for second in 1..=3 {
            apply(&mut repository, &checked(3, Vec::new()), &run(second), None);
        }
        let status = repository.status.clone().unwrap();
        assert_eq!(status.verification.unwrap().all_read_time, Some(at(4)));
        // Other shares begin anew; what was read whole stays known.
        apply(&mut repository, &checked(2, Vec::new()), &run(9), None);
        let verification = repository.status.unwrap().verification.unwrap();
        assert_eq!((verification.turn, verification.shares), (1, 2));
        assert_eq!(verification.all_read_time, Some(at(4)));
    }

    #[test]
    fn damage_names_the_affected_backups_and_the_way_out() {
        let mut repository = repository();
        let finding = Finding {
            object: Object::Pack("ab".repeat(32)),
            problem: Problem::PackMissing,
            snapshots: Vec::new(),
            path: None,
        };
        apply(&mut repository, &checked(1, vec![finding]), &run(1), None);
        let status = repository.status.unwrap();
        let healthy = condition::get(&status.conditions, kind::HEALTHY).unwrap();
        assert_eq!(
            (healthy.status.as_str(), healthy.reason.as_str()),
            ("False", "Damaged")
        );
        for part in ["daily-1", "bring the pack back", "damage.md"] {
            assert!(healthy.message.contains(part), "{}", healthy.message);
        }
    }

    #[test]
    fn a_failed_run_is_remembered_and_changes_no_figures() {
        let mut repository = repository();
        apply(&mut repository, &checked(1, Vec::new()), &run(1), None);
        for second in 2..=5 {
            let failed = Outcome::failed("locked".to_owned());
            apply(&mut repository, &failed, &run(second), None);
        }
        let status = repository.status.unwrap();
        assert_eq!(status.last_maintenance_time, Some(at(2)));
        assert_eq!(status.stored_bytes, Some(1000));
        assert_eq!(status.recent_maintenance.len(), REMEMBERED_RUNS);
        assert_eq!(status.recent_maintenance[2].job, "job-5");
        assert_eq!(
            status.recent_maintenance[2].message.as_deref(),
            Some("locked")
        );
    }
}
