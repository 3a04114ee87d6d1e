use ark_api::maintenance::MaintenanceRun;
use ark_api::repository::{ResticRepositorySpec, ResticRepositoryStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn rules(jobs: usize, job_repositories: usize) -> Rules {
    Rules {
        template: "ark-maintenance".to_owned(),
        frequency: DAY,
        jobs,
        job_repositories,
        verify_within: 30 * DAY,
        deadline: DAY,
    }
}

/// A repository that is ready and was made at second 0.
fn repository(name: &str, location: &str) -> ResticRepository {
    let spec = ResticRepositorySpec {
        volume_namespace: name.to_owned(),
        backup_storage_location: location.to_owned(),
        ..ResticRepositorySpec::default()
    };
    let mut repository = ResticRepository::new(name, spec);
    repository.metadata.uid = Some(format!("uid of {name}"));
    repository.metadata.creation_timestamp = Some(Time(at(0)));
    repository.status = Some(ResticRepositoryStatus {
        phase: Some(RepositoryPhase::Ready),
        ..ResticRepositoryStatus::default()
    });
    repository
}

fn ran(mut repository: ResticRepository, ends: &[(i64, MaintenanceResult)]) -> ResticRepository {
    let status = repository.status.as_mut().unwrap();
    for (end, result) in ends {
        status.recent_maintenance.push(MaintenanceRun {
            complete_timestamp: Some(Time(at(*end))),
            result: *result,
            ..MaintenanceRun::default()
        });
    }
    repository
}

#[test]
fn the_next_run_is_due_after_the_frequency_and_sooner_after_failures() {
    use MaintenanceResult::{Failed, Succeeded};
    let day = 24 * 3600;
    for (ends, due_at) in [
        (&[(100, Succeeded)][..], 100 + day),
        (&[(100, Succeeded), (200, Failed)], 200 + 600),
        (&[(100, Failed), (200, Failed)], 200 + 1200),
        (&[(100, Failed), (150, Failed), (200, Failed)], 200 + 2400),
    ] {
        let repository = ran(repository("a", "l"), ends);
        assert_eq!(due(&repository, DAY), Some(at(due_at)), "{ends:?}");
    }
    let mut own = ran(repository("a", "l"), &[(100, Succeeded)]);
    own.spec.maintenance_frequency = Some("1h".parse().unwrap());
    assert_eq!(due(&own, DAY), Some(at(3700)));
    own.spec.maintenance_frequency = Some("1s".parse().unwrap());
    assert_eq!(
        due(&own, DAY),
        Some(at(160)),
        "not more often than each minute"
    );
}

#[test]
fn first_runs_are_spread_and_stay_where_they_are() {
    let dues: BTreeSet<Timestamp> = (0..100)
        .filter_map(|n| due(&repository(&format!("r{n}"), "l"), DAY))
        .collect();
    assert!(dues.len() > 90, "{} different moments", dues.len());
    assert!(
        dues.iter()
            .all(|due| *due >= at(0) && *due <= at(24 * 3600))
    );
    let early = dues.iter().filter(|due| **due < at(12 * 3600)).count();
    assert!((30..70).contains(&early), "{early} in the first half");
    assert_eq!(
        due(&repository("a", "l"), DAY),
        due(&repository("a", "l"), DAY)
    );
}

#[test]
fn a_request_is_due_at_once_and_only_once() {
    let mut asked = ran(repository("a", "l"), &[(100, MaintenanceResult::Succeeded)]);
    asked.annotations_mut().insert(
        annotation::MAINTENANCE_REQUEST.to_owned(),
        "prune:1".to_owned(),
    );
    assert_eq!(due(&asked, DAY), Some(Timestamp::MIN));
    asked.status.as_mut().unwrap().maintenance_request = Some("prune:1".to_owned());
    assert!(due(&asked, DAY) > Some(at(100)));
}

#[test]
fn what_cannot_be_opened_is_not_maintained() {
    let mut repository = repository("a", "l");
    repository.status.as_mut().unwrap().phase = Some(RepositoryPhase::NotReady);
    assert_eq!(due(&repository, DAY), None);
    repository.status = None;
    assert_eq!(due(&repository, DAY), None);
}

#[test]
fn those_longest_due_come_first_a_location_at_a_time_up_to_the_limits() {
    use MaintenanceResult::Succeeded;
    let due_since =
        |name: &str, location: &str, end| ran(repository(name, location), &[(end, Succeeded)]);
    let all = [
        due_since("c", "x", 300),
        due_since("a", "x", 100),
        due_since("b", "y", 200),
        due_since("d", "x", 400),
        due_since("later", "x", 10_000_000),
    ];
    let all: Vec<&ResticRepository> = all.iter().collect();
    let now = at(1_000_000);
    let names = |batches: Vec<Batch>| -> Vec<String> {
        batches
            .into_iter()
            .map(|batch| format!("{}: {}", batch.location, batch.repositories.join(" ")))
            .collect()
    };
    let nothing: [Vec<String>; 0] = [];
    let decided = decide(now, &all, &nothing, &rules(9, 2));
    assert_eq!(names(decided), ["x: a c", "y: b", "x: d"]);
    let decided = decide(now, &all, &nothing, &rules(1, 10));
    assert_eq!(names(decided), ["x: a c d"]);
    // One that a Job works on is left alone, and the Job counts.
    let running = [vec!["a".to_owned()]];
    let decided = decide(now, &all, &running, &rules(2, 10));
    assert_eq!(names(decided), ["y: b"]);
    assert!(decide(now, &all, &running, &rules(1, 10)).is_empty());
}

#[test]
fn all_data_is_read_within_the_time_that_is_set() {
    assert_eq!(shares(&rules(1, 1)), 30);
    let often = Rules {
        verify_within: Duration::from_hours(1),
        ..rules(1, 1)
    };
    assert_eq!(shares(&often), 1);
}
