//! Jobs that ended without a word: out of memory, evicted, on a node that left, or past their
//! deadline.
//!
//! For every repository of such a Job a failed run is written into its status, with the reason that
//! the Job or its pod gives, so that the next attempt waits and people see why. Written once: a run
//! that ended after the Job, or names the Job, stands for it.

use ark_api::maintenance::{MaintenanceResult, MaintenanceRun, REMEMBERED_RUNS};
use ark_api::{ResticRepository, annotation};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::events::EventType;

use super::job;
use crate::context::Context;
use crate::error::Result;

/// Writes a failed run for every repository whose Job ended without a result.
pub(super) async fn ended_without_result(
    context: &Context,
    jobs: &[Job],
    repositories: &[ResticRepository],
) -> Result<()> {
    for ended in jobs {
        let Some((at, why)) = job::end(ended) else {
            continue;
        };
        let names = job::repositories(ended);
        let without = repositories
            .iter()
            .filter(|repository| names.contains(&repository.name_any()))
            .filter(|repository| !has_result(repository, &ended.name_any(), at));
        for repository in without {
            let why = match pod_said(context, &ended.name_any()).await? {
                Some(said) => said,
                None => why
                    .clone()
                    .unwrap_or_else(|| "it gave no reason".to_owned()),
            };
            write(context, repository, ended, at, &why).await?;
        }
    }
    Ok(())
}

/// Whether a run of the Job that ended `at`, or a later one, is in the status. A Job that was made
/// before the object was has nothing to do with it.
fn has_result(repository: &ResticRepository, job: &str, at: Timestamp) -> bool {
    let made_since = repository
        .metadata
        .creation_timestamp
        .as_ref()
        .is_some_and(|made| made.0 >= at);
    let runs = repository
        .status
        .iter()
        .flat_map(|status| &status.recent_maintenance);
    made_since
        || runs.into_iter().any(|run| {
            run.job == job
                || run
                    .complete_timestamp
                    .as_ref()
                    .is_some_and(|end| end.0 >= at)
        })
}

/// What the Job's pod says about its end, with what to do about it.
async fn pod_said(context: &Context, job: &str) -> Result<Option<String>> {
    let selector = format!("{}={job}", job::POD_LABEL);
    let pods: Vec<Pod> = context
        .list(&ListParams::default().labels(&selector))
        .await?;
    Ok(pods.iter().find_map(reason))
}

/// Why a pod ended, in words.
fn reason(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if status.reason.as_deref() == Some("Evicted") {
        let message = status.message.as_deref().unwrap_or_default();
        return Some(format!("its pod was evicted: {message}"));
    }
    let containers = status.container_statuses.iter().flatten();
    containers
        .filter_map(|container| container.state.as_ref()?.terminated.as_ref())
        .find_map(|end| match end.reason.as_deref() {
            Some("OOMKilled") => Some(
                "its pod ran out of memory: raise maintenance.resources.limits.memory in the chart's values"
                    .to_owned(),
            ),
            _ => None,
        })
}

async fn write(
    context: &Context,
    repository: &ResticRepository,
    ended: &Job,
    at: Timestamp,
    why: &str,
) -> Result<()> {
    let name = repository.name_any();
    let job = ended.name_any();
    let run = MaintenanceRun {
        job: job.clone(),
        start_timestamp: ended.creation_timestamp(),
        complete_timestamp: Some(Time(at)),
        result: MaintenanceResult::Failed,
        message: Some(format!("Job {job} ended without a result: {why}")),
        freed_bytes: None,
    };
    let uid = repository.uid().unwrap_or_default();
    crate::status::update(&context.api(), &name, &uid, |repository| {
        if !has_result(repository, &job, at) {
            append(repository, run.clone());
        }
    })
    .await?;
    tracing::warn!(
        repository = name,
        job,
        why,
        "maintenance ended without a result"
    );
    let note = run.message.unwrap_or_default();
    context
        .event(repository, EventType::Warning, "MaintenanceFailed", &note)
        .await;
    Ok(())
}

/// Remembers a run. A request that is open counts as carried out, so that the next attempt waits as
/// after any failure: otherwise a Job that runs out of memory would be made again at once, without
/// end.
fn append(repository: &mut ResticRepository, run: MaintenanceRun) {
    let request = repository
        .annotations()
        .get(annotation::MAINTENANCE_REQUEST)
        .cloned();
    let status = repository.status.get_or_insert_default();
    status.maintenance_request = request.or(status.maintenance_request.take());
    let runs = &mut status.recent_maintenance;
    runs.push(run);
    let surplus = runs.len().saturating_sub(REMEMBERED_RUNS);
    runs.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use ark_api::repository::ResticRepositorySpec;
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_result_of_the_job_or_of_a_later_one_counts() {
        let mut repository = ResticRepository::new("r", ResticRepositorySpec::default());
        repository.metadata.creation_timestamp = Some(Time(at(10)));
        assert!(!has_result(&repository, "job-2", at(100)));
        assert!(
            has_result(&repository, "job-0", at(5)),
            "older than the object"
        );
        let run = |job: &str, end| MaintenanceRun {
            job: job.to_owned(),
            complete_timestamp: Some(Time(at(end))),
            ..MaintenanceRun::default()
        };
        append(&mut repository, run("job-1", 50));
        assert!(!has_result(&repository, "job-2", at(100)));
        append(&mut repository, run("job-2", 90));
        assert!(has_result(&repository, "job-2", at(100)));
        for n in 3..9 {
            append(&mut repository, run(&format!("job-{n}"), 100 + n));
        }
        assert!(
            has_result(&repository, "job-2", at(100)),
            "later ones stand for it"
        );
        assert_eq!(
            repository.status.unwrap().recent_maintenance.len(),
            REMEMBERED_RUNS
        );
    }

    #[test]
    fn the_pod_says_why_it_ended() {
        let pod = |status: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
        };
        let evicted = pod(json!({"reason": "Evicted", "message": "low on memory"}));
        assert!(reason(&evicted).unwrap().contains("low on memory"));
        let terminated = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let killed = pod(json!({"containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": terminated,
        }]}));
        assert!(reason(&killed).unwrap().contains("resources.limits.memory"));
        assert_eq!(reason(&pod(json!({}))), None);
    }
}
