//! Maintenance of repositories: Jobs made by the operator on a real API server, run by the real
//! agent program. The test plays the node: it runs what a Job's pod would run, and sets the pod's
//! status.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::path::PathBuf;
use std::process::Command;

use ark_api::backup::BackupPhase;
use ark_api::condition::{self, kind, reason};
use ark_api::maintenance::{MaintenanceResult, Wanted};
use ark_api::{ResticRepository, annotation, env, layout, naming};
use ark_tests::ark::Ark;
use ark_tests::node::{program, until};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use xtask::exec;

/// An installation with maintenance and one backup of three megabytes in one volume.
async fn with_a_backup() -> (Ark, String) {
    let mut ark = Ark::new().await;
    ark.kill_operator();
    for (name, value) in [
        (env::MAINTENANCE_TEMPLATE, "ark-maintenance"),
        (env::MAINTENANCE_FREQUENCY, "1000h"),
        (env::MAINTENANCE_VERIFY_WITHIN, "1h"),
    ] {
        ark.env.push((name.to_owned(), value.to_owned()));
    }
    ark.start_operator();
    ark.make_location().await;
    let node = ark.node("n").await;
    ark.start_agent(&node);
    let annotations = json!({"backup.ark.heptio.com/backup-volumes": "content"});
    let volumes = json!([{"name": "content", "emptyDir": {}}]);
    let pod = ark.pod("nginx", &node, annotations, volumes).await;
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    std::fs::write(ark.empty_dir(&pod, "content").join("data"), bytes).unwrap();
    ark.backup("b", json!({})).await;
    ark.ended("b", BackupPhase::Completed).await;
    let repository = naming::repository(&ark.shop, "default");
    (ark, repository)
}

/// Runs `ark engine` on the repository of the application's namespace.
async fn engine(ark: &Ark, args: &[&str]) -> String {
    let secret = ark
        .api::<Secret>()
        .get(&naming::key_secret("default"))
        .await
        .unwrap();
    let password = secret.data.unwrap()[naming::REPOSITORY_PASSWORD_KEY]
        .0
        .clone();
    let mut command = Command::new(program("ark"));
    command
        .args(["engine", "--repo"])
        .arg(directory(ark))
        .args(args)
        .env("RESTIC_PASSWORD", String::from_utf8(password).unwrap());
    exec::output(&mut command).unwrap()
}

fn directory(ark: &Ark) -> PathBuf {
    ark.bucket().join(layout::repository(&ark.shop))
}

async fn ask(ark: &Ark, repository: &str, request: &str) {
    let patch = json!({"metadata": {"annotations": {annotation::MAINTENANCE_REQUEST: request}}});
    ark.api::<ResticRepository>()
        .patch(repository, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
}

/// The only Job that has not ended, and its pod.
async fn job(ark: &Ark) -> (Job, Pod) {
    until("a maintenance Job with a pod", async || {
        let jobs = ark.api::<Job>().list(&ListParams::default()).await.unwrap();
        let mut open = jobs.items.into_iter().filter(|job| {
            let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
            conditions.is_none_or(Vec::is_empty)
        });
        let job = open.next()?;
        assert!(open.next().is_none(), "two Jobs at once");
        let selector = format!("batch.kubernetes.io/job-name={}", job.name_any());
        let pods = ark
            .api::<Pod>()
            .list(&ListParams::default().labels(&selector))
            .await
            .unwrap();
        Some((job, pods.items.into_iter().next()?))
    })
    .await
}

/// Runs what the Job's container runs, and tells the Job how it ended.
async fn run(ark: &Ark, job: &Job, pod: &Pod) {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let args: Vec<&str> = container
        .args
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let ended = ark.run_maintenance(&job.name_any(), &args);
    let phase = if ended { "Succeeded" } else { "Failed" };
    ark.set_own_pod_status(pod, json!({"phase": phase})).await;
}

async fn status(
    ark: &Ark,
    repository: &str,
    what: &str,
    is: impl Fn(&ark_api::repository::ResticRepositoryStatus) -> bool,
) -> ark_api::repository::ResticRepositoryStatus {
    until(what, async || {
        let found = ark.api::<ResticRepository>().get(repository).await.unwrap();
        found.status.filter(|status| is(status))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_prunes_and_checks_and_the_status_says_what_came_of_it() {
    let (ark, repository) = with_a_backup().await;
    let rows = ark.rows("b");
    let snapshot = rows.iter().find_map(|row| row.snapshot_id.as_deref());
    // The agent keeps its lock for a moment.
    let args = ["forget", snapshot.unwrap(), "--retry-lock", "30s"];
    engine(&ark, &args).await;

    let request = Wanted::Maintenance.request("1");
    ask(&ark, &repository, &request).await;
    let (job, pod) = job(&ark).await;
    assert_eq!(
        job.annotations()[annotation::MAINTENANCE_REPOSITORIES],
        repository
    );
    run(&ark, &job, &pod).await;

    let done = status(&ark, &repository, "the prune's result", |status| {
        status.maintenance_request.as_ref() == Some(&request)
    })
    .await;
    let last = done.recent_maintenance.last().unwrap();
    assert_eq!(last.result, MaintenanceResult::Succeeded, "{last:?}");
    assert_eq!(last.job, job.name_any());
    assert!(last.freed_bytes > Some(2_000_000), "{last:?}");
    assert!(done.last_maintenance_time.is_some());
    assert_eq!(done.stored_bytes, Some(0));
    assert!(condition::is_true(&done.conditions, kind::HEALTHY));
    let verification = done.verification.unwrap();
    assert!(verification.all_read_time.is_some() && verification.defects == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_shown_with_the_backups_that_it_affects() {
    let (ark, repository) = with_a_backup().await;
    let packs = walk(&directory(&ark).join("data"));
    let largest = packs
        .iter()
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    std::fs::remove_file(largest).unwrap();

    let request = Wanted::FullCheck.request("1");
    ask(&ark, &repository, &request).await;
    let (job, pod) = job(&ark).await;
    run(&ark, &job, &pod).await;

    let done = status(&ark, &repository, "the check's result", |status| {
        status.maintenance_request.as_ref() == Some(&request)
    })
    .await;
    let healthy = condition::get(&done.conditions, kind::HEALTHY).unwrap();
    assert_eq!(
        (healthy.status.as_str(), healthy.reason.as_str()),
        ("False", reason::DAMAGED)
    );
    let verification = done.verification.unwrap();
    assert!(verification.defects > 0);
    assert_eq!(verification.affected_backups, ["b"]);
    // Backups go on: what was lost and still exists is stored again by the next.
    assert_eq!(
        done.phase,
        Some(ark_api::repository::RepositoryPhase::Ready)
    );
}

fn walk(directory: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_without_a_word_is_a_failed_run_with_its_reason() {
    let (ark, repository) = with_a_backup().await;
    let request = Wanted::Maintenance.request("1");
    ask(&ark, &repository, &request).await;
    let (_, pod) = job(&ark).await;
    let killed: Value = json!({
        "phase": "Failed",
        "containerStatuses": [{
            "name": "maintenance", "image": "a", "imageID": "a", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }],
    });
    ark.set_own_pod_status(&pod, killed).await;
    let failed = status(&ark, &repository, "the failed run", |status| {
        !status.recent_maintenance.is_empty()
    })
    .await;
    let run = failed.recent_maintenance.last().unwrap();
    assert_eq!(run.result, MaintenanceResult::Failed);
    let message = run.message.as_deref().unwrap();
    assert!(
        message.contains("maintenance.resources.limits.memory"),
        "{message}"
    );
    assert_eq!(failed.last_maintenance_time, None);
    // The request is not carried out again and again.
    assert_eq!(failed.maintenance_request, Some(request));
}
