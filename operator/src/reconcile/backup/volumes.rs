//! Has volumes taken: repositories ready, one `PodVolumeBackup` a volume, and a wait for each.
//!
//! Order: repositories, objects, wait. An object that exists from an earlier attempt is used again if it is
//! ours. A volume whose deadline passes is cancelled and then given up; one whose node has had no agent for
//! a while as well. Only an API server that does not answer, and a stop, end the wait early.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ark_api::backup::Backup;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::volume::{VolumeClass, VolumeReason, VolumeRow};
use ark_api::{PodVolumeBackup, label};
use ark_engine::Store;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::status;
use super::volume_object::{self, Target};
use crate::agents;
use crate::context::Context;
use crate::error::{Error, Result, describe, is_conflict, is_not_found};
use crate::repository;
use crate::run_log::{About, RunLog};
use crate::snapshot_check::wrong_snapshots;
use crate::status::FIELD_MANAGER;
use crate::volumes::plan::{Plan, Task};

/// Objects created at the same time.
const PARALLEL: usize = 8;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_secs(2);
/// How often agents are looked at.
const AGENT_TICK: Duration = Duration::from_secs(30);
/// How long a node may be without an agent while a volume waits for it.
const AGENT_PATIENCE: Duration = Duration::from_mins(5);
/// How long an agent may take to end what is cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_mins(1);

/// What is needed to have volumes taken.
pub(super) struct Volumes<'a> {
    pub(super) context: &'a Context,
    pub(super) backup: &'a Backup,
    pub(super) location: &'a str,
    pub(super) store: &'a Store,
    pub(super) timeout: Duration,
    pub(super) log: &'a RunLog,
    pub(super) stop: &'a CancellationToken,
}

/// A volume that is being waited for.
struct Waiting {
    row: usize,
    node: String,
    deadline: Instant,
    /// When it was cancelled, and why.
    cancelled: Option<(Instant, VolumeReason)>,
    agentless_since: Option<Instant>,
}

impl Volumes<'_> {
    /// Has every task of the plan done, fills its rows, and returns the objects as they ended.
    pub(super) async fn take(&self, plan: &mut Plan) -> Result<Vec<PodVolumeBackup>> {
        let tasks = std::mem::take(&mut plan.tasks);
        let wanted = self.targets(&tasks, &mut plan.rows).await?;
        self.cancel_leftovers(&wanted).await?;
        let mut waiting = HashMap::new();
        let mut objects = futures::stream::iter(wanted)
            .map(|(task, object)| async move { (task, self.create(object).await) })
            .buffered(PARALLEL);
        while let Some((task, created)) = objects.next().await {
            match created? {
                Ok(object) => {
                    plan.rows[task.row].pod_volume_backup = Some(object.name_any());
                    let waits = Waiting {
                        row: task.row,
                        node: task.node,
                        deadline: self.deadline(&object),
                        cancelled: None,
                        agentless_since: None,
                    };
                    waiting.insert(object.name_any(), waits);
                }
                Err(why) => fail(&mut plan.rows[task.row], VolumeReason::AgentError, why),
            }
        }
        if !waiting.is_empty() {
            self.log
                .info(format!("waiting for {} volumes", waiting.len()));
        }
        let done = self.wait(waiting, &mut plan.rows).await?;
        self.check_snapshots(&done, &mut plan.rows).await?;
        follow(plan);
        self.tell(&plan.rows);
        Ok(done)
    }

    /// Fails the rows whose snapshots are not those of their objects, whatever the agents say.
    async fn check_snapshots(
        &self,
        done: &[PodVolumeBackup],
        rows: &mut [VolumeRow],
    ) -> Result<()> {
        let wrong = wrong_snapshots(self.context, self.location, self.store, done).await?;
        for row in rows {
            let name = row.pod_volume_backup.as_deref().unwrap_or_default();
            if let Some(why) = wrong.get(name) {
                row.snapshot_id = None;
                fail(row, VolumeReason::AgentError, why.clone());
            }
        }
        Ok(())
    }

    /// The object of every task whose repository is ready; the others' rows say why it is not.
    async fn targets(
        &self,
        tasks: &[Task],
        rows: &mut [VolumeRow],
    ) -> Result<Vec<(Task, PodVolumeBackup)>> {
        let namespaces: BTreeSet<String> = tasks
            .iter()
            .map(|task| task.pod.namespace.clone())
            .collect();
        let repositories: BTreeMap<String, repository::Found> = futures::stream::iter(namespaces)
            .map(|namespace| async move {
                let destination = self.destination(&namespace).await?;
                Ok::<_, Error>((namespace, destination))
            })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let mut wanted = Vec::new();
        for task in tasks {
            let Some(repository::Found { identifier, ready }) =
                repositories.get(&task.pod.namespace)
            else {
                return Err(Error::Bug("a namespace without a repository".to_owned()));
            };
            match ready {
                Ok(repository) => {
                    let location = self.location;
                    let target = Target {
                        location,
                        repository,
                        identifier,
                    };
                    let object = volume_object::build(self.backup, task, &target);
                    wanted.push((task.clone(), object));
                }
                Err(why) => {
                    let row = &mut rows[task.row];
                    fail(row, VolumeReason::RepositoryNotReady, why.clone());
                }
            }
        }
        Ok(wanted)
    }

    /// The repository of a namespace, ready or not.
    async fn destination(&self, namespace: &str) -> Result<repository::Found> {
        let (context, location) = (self.context, self.location);
        let mode = repository::Mode::Make;
        let found =
            repository::ensure(context, namespace, location, self.store, mode, self.stop).await?;
        if let Err(why) = &found.ready {
            self.log.error(
                About::Namespace(namespace),
                format!("the repository of namespace {namespace} is not ready: {why}"),
            );
        }
        Ok(found)
    }

    /// Creates an object, or finds the one of an earlier attempt. The inner error is a row's.
    async fn create(&self, wanted: PodVolumeBackup) -> Result<Result<PodVolumeBackup, String>> {
        let api = self.context.api::<PodVolumeBackup>();
        let name = wanted.name_any();
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&params, &wanted).await {
            Ok(object) => Ok(Ok(object)),
            Err(error) if is_conflict(&error) => {
                let found = api
                    .get(&name)
                    .await
                    .map_err(Error::kube(format!("get PodVolumeBackup {name}")))?;
                Ok(if volume_object::is_ours(&found, &wanted) {
                    Ok(found)
                } else {
                    Err(format!(
                        "PodVolumeBackup {name} exists and is not this backup's"
                    ))
                })
            }
            Err(error) => Err(Error::kube(format!("create PodVolumeBackup {name}"))(error)),
        }
    }

    /// Cancels what an earlier attempt started and this one no longer wants.
    async fn cancel_leftovers(&self, wanted: &[(Task, PodVolumeBackup)]) -> Result<()> {
        let params = ListParams::default().labels(&self.selector());
        for object in self.context.list::<PodVolumeBackup>(&params).await? {
            let name = object.name_any();
            let ended = object
                .status
                .as_ref()
                .and_then(|s| s.phase)
                .is_some_and(VolumePhase::is_terminal);
            if !ended && !object.spec.cancel && !wanted.iter().any(|(_, w)| w.name_any() == name) {
                self.log.info(format!(
                    "PodVolumeBackup {name} of an earlier attempt is cancelled"
                ));
                self.cancel(&name).await?;
            }
        }
        Ok(())
    }

    fn selector(&self) -> String {
        format!(
            "{}={}",
            label::BACKUP_UID,
            self.backup.uid().unwrap_or_default()
        )
    }

    /// The deadline counts from the object's creation, also after a restart.
    fn deadline(&self, object: &PodVolumeBackup) -> Instant {
        let created = object.creation_timestamp().map(|time| time.0);
        let now = self.context.clock.now();
        let age = created.map_or(Duration::ZERO, |created| {
            now.duration_since(created).try_into().unwrap_or_default()
        });
        Instant::now() + self.timeout.saturating_sub(age)
    }

    /// Waits until nothing is waited for.
    async fn wait(
        &self,
        mut waiting: HashMap<String, Waiting>,
        rows: &mut [VolumeRow],
    ) -> Result<Vec<PodVolumeBackup>> {
        let mut done = Vec::new();
        if waiting.is_empty() {
            return Ok(done);
        }
        let api = kube::Api::<DeserializeGuard<PodVolumeBackup>>::namespaced(
            self.context.client.clone(),
            &self.context.namespace,
        );
        let config = watcher::Config::default().labels(&self.selector());
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut tick = tokio::time::interval(TICK);
        let mut agents_at = Instant::now() + AGENT_TICK;
        while !waiting.is_empty() {
            tokio::select! {
                () = self.stop.cancelled() => return Err(Error::Stopping),
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                        match object.0 {
                            Ok(object) => self.seen(object, &mut waiting, rows, &mut done),
                            Err(error) => tracing::warn!(%error, "a PodVolumeBackup cannot be read"),
                        }
                    }
                    Some(Ok(watcher::Event::Delete(object))) => {
                        if let Some(gone) = waiting.remove(&object.name_any()) {
                            let why = "its PodVolumeBackup was deleted".to_owned();
                            fail(&mut rows[gone.row], VolumeReason::Cancelled, why);
                        }
                    }
                    Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
                    Some(Err(error)) => tracing::warn!(%error, "watching volumes is disturbed; it is tried again"),
                    None => return Err(Error::Bug("the watch of volumes ended".to_owned())),
                },
                _ = tick.tick() => {
                    if Instant::now() >= agents_at {
                        agents_at = Instant::now() + AGENT_TICK;
                        self.look_for_agents(&mut waiting).await?;
                    }
                    self.look_at_deadlines(&mut waiting, rows).await?;
                }
            }
        }
        Ok(done)
    }

    fn seen(
        &self,
        object: PodVolumeBackup,
        waiting: &mut HashMap<String, Waiting>,
        rows: &mut [VolumeRow],
        done: &mut Vec<PodVolumeBackup>,
    ) {
        let name = object.name_any();
        let ended = object
            .status
            .as_ref()
            .and_then(|s| s.phase)
            .is_some_and(VolumePhase::is_terminal);
        let Some(found) = waiting.get(&name).filter(|_| ended) else {
            return;
        };
        let timed_out = matches!(found.cancelled, Some((_, VolumeReason::Timeout)));
        let row = &mut rows[found.row];
        volume_object::settle(row, &object, timed_out);
        if let (VolumeClass::Failed, Some((_, VolumeReason::NoAgentOnNode))) =
            (row.class, found.cancelled)
        {
            row.reason = VolumeReason::NoAgentOnNode;
        }
        self.log
            .info(format!("{}: {:?}", status::describe(row), row.class));
        waiting.remove(&name);
        done.push(object);
    }

    /// Cancels what waits for a node that has had no agent for too long.
    async fn look_for_agents(&self, waiting: &mut HashMap<String, Waiting>) -> Result<()> {
        let nodes = agents::ready_nodes(self.context).await?;
        let now = Instant::now();
        for (name, waits) in waiting.iter_mut() {
            if nodes.contains(&waits.node) {
                waits.agentless_since = None;
                continue;
            }
            let since = *waits.agentless_since.get_or_insert(now);
            if now.duration_since(since) >= AGENT_PATIENCE && waits.cancelled.is_none() {
                waits.cancelled = Some((now, VolumeReason::NoAgentOnNode));
                self.cancel(name).await?;
            }
        }
        Ok(())
    }

    /// Cancels what is late, and gives up what does not end although it is cancelled.
    async fn look_at_deadlines(
        &self,
        waiting: &mut HashMap<String, Waiting>,
        rows: &mut [VolumeRow],
    ) -> Result<()> {
        let now = Instant::now();
        let mut given_up = Vec::new();
        for (name, waits) in waiting.iter_mut() {
            match waits.cancelled {
                None if now >= waits.deadline => {
                    waits.cancelled = Some((now, VolumeReason::Timeout));
                    self.cancel(name).await?;
                }
                Some((at, reason)) if now.duration_since(at) >= CANCEL_PATIENCE => {
                    let why = match reason {
                        VolumeReason::NoAgentOnNode => {
                            format!("node {} has no running agent any more", waits.node)
                        }
                        _ => "its deadline passed, and the agent did not end it".to_owned(),
                    };
                    fail(&mut rows[waits.row], reason, why);
                    given_up.push(name.clone());
                }
                _ => {}
            }
        }
        for name in given_up {
            waiting.remove(&name);
        }
        Ok(())
    }

    async fn cancel(&self, name: &str) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match self
            .context
            .api::<PodVolumeBackup>()
            .patch(name, &params, &patch)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => {
                tracing::debug!(name, error = describe(&error), "nothing to cancel");
                Ok(())
            }
            Err(error) => Err(Error::kube(format!("cancel PodVolumeBackup {name}"))(error)),
        }
    }

    /// Failed and partial rows are errors, unprotected ones warnings.
    fn tell(&self, rows: &[VolumeRow]) {
        for row in rows {
            let about = About::Namespace(&row.namespace);
            let what = status::describe(row);
            let why = row.message.as_deref().unwrap_or_default();
            match row.class {
                VolumeClass::Failed => {
                    self.log.error(
                        about,
                        format!("volume {what} was not taken ({:?}) {why}", row.reason),
                    );
                }
                VolumeClass::Partial => {
                    self.log.error(
                        about,
                        format!("volume {what} was taken in part ({:?}) {why}", row.reason),
                    );
                }
                VolumeClass::Unprotected => {
                    self.log.warn(
                        about,
                        format!(
                            "volume {what} holds data that is not in the backup ({:?}) {why}",
                            row.reason
                        ),
                    );
                }
                VolumeClass::Taken | VolumeClass::Chosen | VolumeClass::NotData => {}
            }
        }
    }
}

/// Rows whose data is that of another row end as that row did.
fn follow(plan: &mut Plan) {
    for (follower, leader) in plan.followers.clone() {
        let leader = plan.rows[leader].clone();
        let row = &mut plan.rows[follower];
        row.class = leader.class;
        row.snapshot_id.clone_from(&leader.snapshot_id);
        if leader.class == VolumeClass::Failed {
            row.reason = leader.reason;
            row.message = leader.message;
        } else {
            row.message = Some(format!("see {}", status::describe(&leader)));
        }
    }
}

fn fail(row: &mut VolumeRow, reason: VolumeReason, why: String) {
    row.class = VolumeClass::Failed;
    row.reason = reason;
    row.message = Some(why);
}
