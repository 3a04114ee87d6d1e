//! Which repositories are maintained now, and together. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ark_api::maintenance::MaintenanceResult;
use ark_api::repository::RepositoryPhase;
use ark_api::{ResticRepository, annotation, naming};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Rules;

/// Pause after the first failure; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_mins(10);
/// The shortest time between two runs that a repository may ask for.
const SHORTEST: Duration = Duration::from_mins(1);

/// Repositories of one location for one Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) location: String,
    /// Names of `ResticRepository` objects, those longest due first.
    pub(super) repositories: Vec<String>,
}

/// When maintenance of `repository` is due; `None` if it cannot be maintained as it is.
///
/// A request is due at once. A repository that was never maintained has its own moment within the first
/// `frequency` after it was made, so that many that were made together do not come due together.
pub(super) fn due(repository: &ResticRepository, frequency: Duration) -> Option<Timestamp> {
    let status = repository.status.as_ref()?;
    let maintainable = status.phase == Some(RepositoryPhase::Ready)
        && repository.spec.origin.is_none()
        && repository.metadata.deletion_timestamp.is_none();
    if !maintainable {
        return None;
    }
    let request = repository
        .annotations()
        .get(annotation::MAINTENANCE_REQUEST);
    if request.is_some() && request != status.maintenance_request.as_ref() {
        return Some(Timestamp::MIN);
    }
    let frequency = repository
        .spec
        .maintenance_frequency
        .map_or(frequency, |own| own.0.max(SHORTEST));
    let runs = &status.recent_maintenance;
    let ended = runs.last().and_then(|run| run.complete_timestamp.as_ref());
    let (from, pause) = if let Some(ended) = ended {
        let failures = runs
            .iter()
            .rev()
            .take_while(|run| run.result == MaintenanceResult::Failed)
            .count();
        (ended.0, pause(failures, frequency))
    } else {
        let created = repository.metadata.creation_timestamp.as_ref()?;
        let uid = repository.uid().unwrap_or_default();
        (created.0, share_of(&uid, frequency))
    };
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
    Some(from.checked_add(pause).unwrap_or(Timestamp::MAX))
}

/// The pause after a run, `failures` of which in a row failed.
fn pause(failures: usize, frequency: Duration) -> Duration {
    match u32::try_from(failures).unwrap_or(u32::MAX) {
        0 => frequency,
        failures => {
            let factor = 2_u32.saturating_pow(failures - 1);
            FIRST_RETRY.saturating_mul(factor).min(frequency)
        }
    }
}

/// A part of `whole` that is always the same for one `uid`, and spread evenly over uids.
fn share_of(uid: &str, whole: Duration) -> Duration {
    let seconds = whole.as_secs().max(1);
    Duration::from_secs(naming::spread(uid) % seconds)
}

/// The Jobs to make now. `running` are the repositories of each Job that has not ended.
pub(super) fn decide(
    now: Timestamp,
    repositories: &[&ResticRepository],
    running: &[Vec<String>],
    rules: &Rules,
) -> Vec<Batch> {
    let busy: BTreeSet<&str> = running.iter().flatten().map(String::as_str).collect();
    let mut due: Vec<(Timestamp, String, &str)> = repositories
        .iter()
        .filter_map(|repository| {
            let at = due(repository, rules.frequency).filter(|at| *at <= now)?;
            let location = repository.spec.backup_storage_location.as_str();
            Some((at, repository.name_any(), location))
        })
        .filter(|(_, name, _)| !busy.contains(name.as_str()))
        .collect();
    due.sort();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    let mut batches: Vec<Batch> = Vec::new();
    for (_, name, location) in due {
        let fitting = open
            .get(location)
            .copied()
            .filter(|at| batches[*at].repositories.len() < rules.job_repositories);
        if let Some(at) = fitting {
            batches[at].repositories.push(name);
        } else {
            open.insert(location, batches.len());
            batches.push(Batch {
                location: location.to_owned(),
                repositories: vec![name],
            });
        }
    }
    batches.truncate(rules.jobs.saturating_sub(running.len()));
    batches
}

/// Into how many shares the data is divided so that all of it is read within the time that the
/// rules give.
pub(super) fn shares(rules: &Rules) -> u64 {
    let runs = rules.verify_within.as_secs() / rules.frequency.as_secs().max(1);
    runs.max(1)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
