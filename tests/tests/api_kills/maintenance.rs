//! A maintenance run that somebody asked for: a Job is made, and the test runs what its container
//! runs.

use std::collections::BTreeSet;

use ark_api::backup::BackupPhase;
use ark_api::maintenance::{MaintenanceResult, Wanted};
use ark_api::{ResticRepository, annotation, env, naming};
use ark_tests::ark::Ark;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{Scenario, application, installation, play, snapshots};

#[derive(Default)]
struct Maintained {
    /// Jobs whose containers ran.
    ran: BTreeSet<String>,
    runs: usize,
}

/// Runs the containers of Jobs that have not been run.
async fn play_nodes(ark: &Ark, ran: &mut BTreeSet<String>) {
    let params = ListParams::default().labels("batch.kubernetes.io/job-name");
    for pod in ark.api::<Pod>().list(&params).await.unwrap() {
        let job = pod.labels()["batch.kubernetes.io/job-name"].clone();
        if !ran.insert(job.clone()) {
            continue;
        }
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let args: Vec<&str> = container
            .args
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        assert!(ark.run_maintenance(&job, &args), "{job} failed");
        ark.set_own_pod_status(&pod, json!({"phase": "Succeeded"}))
            .await;
    }
}

impl Scenario for Maintained {
    const NAME: &'static str = "maintenance";
    const WRITES: u64 = 2;

    async fn prepare(&mut self, _ark: &mut Ark, _name: &str) {}

    async fn begin(&mut self, ark: &mut Ark, name: &str) {
        let request = Wanted::Maintenance.request(name);
        let patch =
            json!({"metadata": {"annotations": {annotation::MAINTENANCE_REQUEST: request}}});
        let repository = naming::repository(&ark.shop, "default");
        ark.api::<ResticRepository>()
            .patch(&repository, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    async fn ended(&mut self, ark: &Ark, name: &str) -> bool {
        play_nodes(ark, &mut self.ran).await;
        let request = Wanted::Maintenance.request(name);
        let repository = naming::repository(&ark.shop, "default");
        let found = ark.api::<ResticRepository>().get(&repository).await;
        let status = found.unwrap().status.unwrap_or_default();
        let jobs = ark.api::<Job>().list(&ListParams::default()).await.unwrap();
        let open = jobs.iter().any(|job| {
            let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
            !conditions.is_some_and(|all| {
                all.iter()
                    .any(|c| c.type_ == "Complete" && c.status == "True")
            })
        });
        status.maintenance_request == Some(request) && !open
    }

    async fn check(&mut self, ark: &Ark, _name: &str) {
        // One run for each request, and each was good.
        self.runs += 1;
        assert_eq!(self.ran.len(), self.runs, "{:?}", self.ran);
        let repository = naming::repository(&ark.shop, "default");
        let found = ark.api::<ResticRepository>().get(&repository).await;
        let status = found.unwrap().status.unwrap();
        for run in &status.recent_maintenance {
            assert_eq!(run.result, MaintenanceResult::Succeeded, "{run:?}");
        }
        assert_eq!(snapshots(ark).await, ["kept"]);
        ark.repository_is_clean(&ark.shop).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maintenance_run_ends_the_same_wherever_the_operator_is_killed() {
    let mut ark = installation(&[
        (env::MAINTENANCE_TEMPLATE, "ark-maintenance"),
        (env::MAINTENANCE_FREQUENCY, "1000h"),
        (env::MAINTENANCE_VERIFY_WITHIN, "1h"),
    ])
    .await;
    application(&mut ark).await;
    ark.backup("kept", json!({})).await;
    ark.ended("kept", BackupPhase::Completed).await;
    play(&mut ark, Maintained::default()).await;
}
