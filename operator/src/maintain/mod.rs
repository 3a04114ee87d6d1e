//! Maintenance of repositories: decides what is due and makes Jobs that prune and check.
//!
//! One loop of the leader: which repositories there are (from the repository controller's watch)
//! and which Jobs run → what is due ([`plan`]) → Jobs ([`job`]) → results of Jobs that ended
//! without writing one ([`report`]). The Jobs themselves run `ark-agent maintain` and write what
//! they did into the repositories' status.
//!
//! Never two Jobs on one repository: a repository named by a Job that has not ended is busy, Jobs
//! are listed from the API server before any is made, and only this loop makes them. Should a
//! deposed leader make one all the same, the repository's own lock keeps the two prunes apart.
//!
//! Order: the Job, which names its repositories, is the record of the decision; it is made in one
//! request. Nothing is kept in memory: a new leader goes on from the Jobs and the status.

mod gauges;
mod job;
mod plan;
mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ark_api::location::{AccessMode, LocationPhase};
use ark_api::{BackupStorageLocation, ResticRepository, label};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use tokio::sync::Notify;

use self::plan::Batch;
use crate::context::Context;
use crate::error::{Error, Result, is_conflict};
use crate::settings::RESTORE_ONLY;
use crate::status::FIELD_MANAGER;

/// Longest pause between two looks at what is due.
const TICK: Duration = Duration::from_secs(30);

/// How maintenance is done, from the process's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Name of the `PodTemplate` for Jobs.
    pub(crate) template: String,
    /// How often a repository is maintained unless it says otherwise.
    pub(crate) frequency: Duration,
    /// Jobs that may run at the same time.
    pub(crate) jobs: usize,
    /// Repositories one Job works on.
    pub(crate) job_repositories: usize,
    /// Time within which all data is read once.
    pub(crate) verify_within: Duration,
    /// Time after which a Job is ended.
    pub(crate) deadline: Duration,
}

/// What the repository controller and the loop share.
#[derive(Default)]
pub(crate) struct Shared {
    /// Wakes the loop.
    wake: Notify,
    /// The repositories, as the controller's watch shows them.
    repositories: OnceLock<Store<DeserializeGuard<ResticRepository>>>,
}

impl Shared {
    /// Hands the watch's view of the repositories over. Called once, when the controller starts.
    pub(crate) fn follow(&self, repositories: Store<DeserializeGuard<ResticRepository>>) {
        if self.repositories.set(repositories).is_err() {
            tracing::debug!("the repositories were handed over before");
        }
    }

    /// Something about a repository changed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    fn known(&self) -> Vec<ResticRepository> {
        let objects = self.repositories.get().map(Store::state);
        objects
            .into_iter()
            .flatten()
            .filter_map(|object| object.0.as_ref().ok().cloned())
            .collect()
    }
}

/// Runs until the process stops. Without a template there is no maintenance.
pub(crate) async fn run(context: Arc<Context>) {
    let Some(rules) = context.settings.maintenance.clone() else {
        let why = if context.settings.restore_only {
            RESTORE_ONLY
        } else {
            "no template for Jobs is set"
        };
        tracing::info!(why, "repositories are not maintained");
        context.shutdown.cancelled().await;
        return;
    };
    loop {
        if let Err(error) = step(&context, &rules).await {
            tracing::warn!(%error, hint = error.hint(), "maintenance could not be planned; it is tried again");
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = context.maintenance.wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Decides once, and does it.
async fn step(context: &Context, rules: &Rules) -> Result<()> {
    let repositories = context.maintenance.known();
    gauges::set(&context.metrics, &repositories, context.clock.now());
    let now = context.clock.now();
    let due_now = repositories
        .iter()
        .filter(|repository| plan::due(repository, rules.frequency).is_some_and(|due| due <= now))
        .count();
    let selector = format!("{}={}", label::COMPONENT, label::COMPONENT_MAINTENANCE);
    let jobs = context
        .list::<Job>(&ListParams::default().labels(&selector))
        .await?;
    report::ended_without_result(context, &jobs, &repositories).await?;
    if due_now == 0 {
        return Ok(());
    }
    let locations = usable_locations(context).await?;
    let usable: Vec<&ResticRepository> = repositories
        .iter()
        .filter(|repository| locations.contains_key(&repository.spec.backup_storage_location))
        .collect();
    let running: Vec<Vec<String>> = jobs
        .iter()
        .filter(|job| !job::has_ended(job))
        .map(job::repositories)
        .collect();
    for batch in plan::decide(now, &usable, &running, rules) {
        start(context, rules, &batch, &locations).await?;
    }
    Ok(())
}

/// Locations that can be written now, and whether each is a directory of this node.
async fn usable_locations(context: &Context) -> Result<BTreeMap<String, bool>> {
    let locations: Vec<BackupStorageLocation> = context.list(&ListParams::default()).await?;
    Ok(locations
        .into_iter()
        .filter(|location| {
            let phase = location.status.as_ref().and_then(|status| status.phase);
            phase == Some(LocationPhase::Available)
                && location.spec.access_mode != Some(AccessMode::ReadOnly)
        })
        .map(|location| {
            let local = location.spec.provider == "local";
            (location.name_any(), local)
        })
        .collect())
}

/// Makes the Job of a batch, unless its repositories have been maintained since the watch showed
/// them.
async fn start(
    context: &Context,
    rules: &Rules,
    batch: &Batch,
    locations: &BTreeMap<String, bool>,
) -> Result<()> {
    let now = context.clock.now();
    let mut due = Vec::new();
    for name in &batch.repositories {
        let newest = context
            .api::<ResticRepository>()
            .get_opt(name)
            .await
            .map_err(Error::kube(format!("get ResticRepository {name}")))?;
        let still = newest.is_some_and(|repository| {
            plan::due(&repository, rules.frequency).is_some_and(|due| due <= now)
        });
        if still {
            due.push(name.clone());
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    let template = context
        .api()
        .get(&rules.template)
        .await
        .map_err(Error::kube(format!("get PodTemplate {}", rules.template)))?;
    let local = locations.get(&batch.location).copied().unwrap_or_default();
    let node = context.settings.node.as_deref().filter(|_| local);
    let job = job::build(&template, rules, &due, node, now);
    let name = job.name_any();
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match context.api::<Job>().create(&params, &job).await {
        Ok(_) => {
            tracing::info!(
                job = name,
                repositories = due.join(","),
                "maintenance starts"
            );
            Ok(())
        }
        // A moment ago this very decision was written.
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(Error::kube(format!("create Job {name}"))(error)),
    }
}
