//! From what was found to a repository's status. Pure.

use ark_api::ResticRepository;
use ark_api::condition::{self, kind, reason};
use ark_api::repository::RepositoryPhase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::look::{Opened, Problem};

/// Writes what was found into the status. The id is kept once it is known.
pub(super) fn apply(
    repository: &mut ResticRepository,
    found: &Result<Opened, Problem>,
    now: &Time,
) {
    let generation = repository.metadata.generation;
    let status = repository.status.get_or_insert_default();
    status.observed_generation = generation;
    let (ok, reason, message) = match found {
        Ok(opened) => {
            status.phase = Some(RepositoryPhase::Ready);
            status.message = None;
            status.repository_id = Some(opened.id.clone());
            status.format_version = Some(opened.version);
            status.last_checked_time = Some(now.clone());
            (true, reason::OK, opened.identifier.as_str())
        }
        Err(problem) => {
            status.phase = Some(RepositoryPhase::NotReady);
            status.message = Some(problem.message.clone());
            (false, problem.reason, problem.message.as_str())
        }
    };
    condition::set(
        &mut status.conditions,
        kind::READY,
        ok,
        reason,
        message,
        generation,
        now,
    );
}

#[cfg(test)]
mod tests {
    use ark_api::repository::ResticRepositorySpec;

    use super::*;

    #[test]
    fn the_id_outlives_a_failure() {
        let now = Time("2026-01-01T00:00:00Z".parse().unwrap());
        let mut repository = ResticRepository::new("r", ResticRepositorySpec::default());
        let opened = Opened {
            id: "a".repeat(64),
            version: 2,
            identifier: "/store/b/restic/shop".to_owned(),
        };
        apply(&mut repository, &Ok(opened), &now);
        let problem = Problem {
            reason: reason::WRONG_PASSWORD,
            message: "no".to_owned(),
        };
        apply(&mut repository, &Err(problem), &now);
        let status = repository.status.unwrap();
        assert_eq!(status.phase, Some(RepositoryPhase::NotReady));
        assert_eq!(status.repository_id.unwrap().len(), 64);
        assert_eq!(status.conditions[0].reason, reason::WRONG_PASSWORD);
    }
}
