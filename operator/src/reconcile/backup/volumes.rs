//! Has volumes taken: repositories ready, then each volume as a unit of its own ([`super::units`]),
//! one `PodVolumeBackup` a volume.
//!
//! An object that exists from an earlier attempt is used again if it is ours, so a restart costs no
//! volume its work: the objects are what rows are rebuilt from. A unit that is late is cancelled
//! and then given up; one whose node has had no agent for a while as well. When the user cancels
//! the backup, units that have not begun are done at once and the others are cancelled; what is
//! finished stays. An API server that does not answer is asked again at the next tick; only a stop
//! ends the wait early.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use ark_api::backup::{Backup, BackupPhase};
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

use super::status;
use super::units::{self, Deadlines, Phase, Unit};
use super::validate;
use super::volume_object::{self, Target};
use crate::agents;
use crate::context::Context;
use crate::error::{Class, Error, Result, describe, is_conflict, is_not_found};
use crate::repository;
use crate::run::Stop;
use crate::run_log::{About, RunLog};
use crate::status::FIELD_MANAGER;
use crate::volumes::plan::{Plan, Task};

/// Requests at the same time.
const PARALLEL: usize = 8;
/// How often deadlines are looked at, and what failed in passing is tried again.
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
    pub(super) plan: &'a validate::Plan,
    pub(super) log: &'a RunLog,
    pub(super) stop: &'a Stop,
}

/// The volumes of a backup while they are taken.
struct Work<'a> {
    units: Vec<Unit>,
    /// Places by the names of objects.
    at: HashMap<String, usize>,
    rows: &'a mut [VolumeRow],
    /// Objects that have ended.
    ended: Vec<PodVolumeBackup>,
}

impl Work<'_> {
    fn is_done(&self) -> bool {
        self.units.iter().all(|unit| unit.phase == Phase::Done)
    }

    /// The place of the unit that waits for this object.
    fn waiting(&self, name: &str) -> Option<usize> {
        let at = *self.at.get(name)?;
        (self.units[at].phase == Phase::Wait).then_some(at)
    }

    /// What is at work and not cancelled yet.
    fn open(&self) -> Vec<usize> {
        (0..self.units.len())
            .filter(|at| self.units[*at].phase == Phase::Wait)
            .filter(|at| self.units[*at].cancelled.is_none())
            .collect()
    }

    /// The row is final: what is left is the end.
    fn finish(&mut self, at: usize) {
        // Post-hooks would run here.
        self.units[at].phase = Phase::PostHook;
        self.units[at].phase = Phase::Done;
    }

    fn fail(&mut self, at: usize, reason: VolumeReason, why: String) {
        fail(&mut self.rows[self.units[at].row], reason, why);
        self.finish(at);
    }
}

impl Volumes<'_> {
    /// Has every task of the plan done, fills its rows, and returns the objects as they ended. [`Self::settle`] makes
    /// the rows final.
    pub(super) async fn take(&self, plan: &mut Plan) -> Result<Vec<PodVolumeBackup>> {
        let tasks = std::mem::take(&mut plan.tasks);
        let units = if tasks.is_empty() {
            Vec::new()
        } else {
            self.units(&tasks, &mut plan.rows).await?
        };
        self.cancel_leftovers(&units).await?;
        if !units.is_empty() {
            self.log
                .info(format!("waiting for {} volumes", units.len()));
        }
        let mut work = Work {
            at: (0..)
                .zip(&units)
                .map(|(at, unit)| (unit.name(), at))
                .collect(),
            units,
            rows: &mut plan.rows,
            ended: Vec::new(),
        };
        self.drive(&mut work).await?;
        Ok(work.ended)
    }

    /// Makes the rows final: those whose snapshots are not those of their objects, by the objects'
    /// names and in words, fail whatever the agents say.
    pub(super) fn settle(&self, plan: &mut Plan, wrong: &BTreeMap<String, String>) {
        for row in &mut plan.rows {
            let name = row.pod_volume_backup.as_deref().unwrap_or_default();
            if let Some(why) = wrong.get(name) {
                row.snapshot_id = None;
                fail(row, VolumeReason::AgentError, why.clone());
            }
        }
        plan.forgive_ended_pods();
        follow(plan);
        self.tell(&plan.rows);
    }

    /// A unit for every task whose repository is ready; the others' rows say why it is not.
    async fn units(&self, tasks: &[Task], rows: &mut [VolumeRow]) -> Result<Vec<Unit>> {
        let location = &self.plan.location;
        let store = crate::store::connect(self.context, location).await?.store;
        let namespaces: BTreeSet<String> = tasks
            .iter()
            .map(|task| task.pod.namespace.clone())
            .collect();
        let destinations: Vec<_> = namespaces
            .into_iter()
            .map(|namespace| self.destination(namespace, &store))
            .collect();
        let repositories: BTreeMap<String, repository::Found> = futures::stream::iter(destinations)
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let mut units = Vec::new();
        for task in tasks {
            let Some(repository::Found { identifier, ready }) =
                repositories.get(&task.pod.namespace)
            else {
                return Err(Error::Bug("a namespace without a repository".to_owned()));
            };
            match ready {
                Ok(repository) => {
                    let target = Target {
                        location,
                        repository,
                        identifier,
                    };
                    let object = volume_object::build(self.backup, task, &target);
                    units.push(Unit::new(task.row, task.node.clone(), object));
                }
                Err(why) => {
                    let row = &mut rows[task.row];
                    fail(row, VolumeReason::RepositoryNotReady, why.clone());
                }
            }
        }
        Ok(units)
    }

    /// A namespace with its repository, ready or not.
    async fn destination(
        &self,
        namespace: String,
        store: &Store,
    ) -> Result<(String, repository::Found)> {
        let (context, location) = (self.context, &self.plan.location);
        // An earlier attempt may have had volumes stored, which a store that is away for a while
        // must not cost.
        let attempt = self
            .backup
            .status
            .as_ref()
            .and_then(|status| status.attempt);
        let patience = match attempt {
            Some(2..) => self.plan.volume_timeout,
            _ => repository::NOT_READY,
        };
        let stop = &self.stop.now;
        let found =
            repository::ensure(context, &namespace, location, store, patience, stop).await?;
        if let Err(why) = &found.ready {
            self.log.error(
                About::Namespace(&namespace),
                format!("the repository of namespace {namespace} is not ready: {why}"),
            );
        }
        Ok((namespace, found))
    }

    /// Moves all units to their ends.
    async fn drive(&self, work: &mut Work<'_>) -> Result<()> {
        if work.is_done() {
            return Ok(());
        }
        let api = kube::Api::<DeserializeGuard<PodVolumeBackup>>::namespaced(
            self.context.client.clone(),
            &self.context.namespace,
        );
        let config = watcher::Config::default().labels(&self.selector());
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut agents_at = Instant::now() + AGENT_TICK;
        // Units that waited when a list began, without those whose objects the list has shown.
        let mut missing = HashSet::new();
        let (mut cancelled, mut again) = (false, false);
        loop {
            if cancelled {
                Self::cancel_queued(work);
            } else {
                self.begin(work, std::mem::take(&mut again)).await;
            }
            if work.is_done() {
                return Ok(());
            }
            tokio::select! {
                () = self.stop.now.cancelled() => return Err(Error::Stopping),
                () = self.stop.wish.cancelled(), if !cancelled => {
                    cancelled = true;
                    self.tell_canceling().await;
                    self.cancel_all(work).await;
                }
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Init)) => {
                        missing = work.at.keys().filter(|name| work.waiting(name).is_some()).cloned().collect();
                    }
                    Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                        missing.remove(&object.name_any());
                        match object.0 {
                            Ok(object) => self.seen(object, work),
                            Err(error) => tracing::warn!(%error, "a PodVolumeBackup cannot be read"),
                        }
                    }
                    Some(Ok(watcher::Event::InitDone)) => {
                        for name in missing.drain() {
                            Self::gone(&name, work);
                        }
                    }
                    Some(Ok(watcher::Event::Delete(object))) => Self::gone(&object.name_any(), work),
                    Some(Err(error)) => tracing::warn!(%error, "watching volumes is disturbed; it is tried again"),
                    None => return Err(Error::Bug("the watch of volumes ended".to_owned())),
                },
                _ = tick.tick() => {
                    again = true;
                    if Instant::now() >= agents_at {
                        agents_at = Instant::now() + AGENT_TICK;
                        self.look_for_agents(work).await;
                    }
                    if cancelled {
                        self.cancel_all(work).await;
                    }
                    self.look_at_deadlines(work).await;
                }
            }
        }
    }

    /// Lets units begin whose turn it is, and creates their objects; `again` also those that could
    /// not be created before.
    async fn begin(&self, work: &mut Work<'_>, again: bool) {
        let mut places = units::admit(&work.units);
        for at in &places {
            // Pre-hooks would run here.
            work.units[*at].phase = Phase::PreHook;
        }
        for at in 0..work.units.len() {
            match work.units[at].phase {
                Phase::PreHook => work.units[at].phase = Phase::Create,
                Phase::Create if again => places.push(at),
                _ => {}
            }
        }
        let more = places.len();
        let wanted: Vec<_> = places
            .into_iter()
            .map(|at| {
                let mut wanted = work.units[at].wanted.clone();
                self.context.pace.ask(more, wanted.annotations_mut());
                self.create(at, wanted)
            })
            .collect();
        let mut created = futures::stream::iter(wanted).buffered(PARALLEL);
        while let Some((at, created)) = created.next().await {
            match created {
                Ok(object) => {
                    work.units[at].phase = Phase::Wait;
                    work.units[at].see(&object);
                    work.rows[work.units[at].row].pod_volume_backup = Some(object.name_any());
                    self.seen(object, work);
                }
                // It stays where it is, and is tried again at the next tick.
                Err(error) if error.class() == Class::Transient => {
                    tracing::warn!(%error, "a PodVolumeBackup cannot be created; tried again");
                }
                Err(error) => work.fail(at, VolumeReason::AgentError, error.sentence()),
            }
        }
    }

    /// Creates the object of the unit `at`, or finds the one of an earlier attempt.
    async fn create(&self, at: usize, wanted: PodVolumeBackup) -> (usize, Result<PodVolumeBackup>) {
        (at, self.create_or_find(wanted).await)
    }

    async fn create_or_find(&self, wanted: PodVolumeBackup) -> Result<PodVolumeBackup> {
        let api = self.context.api::<PodVolumeBackup>();
        let name = wanted.name_any();
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&params, &wanted).await {
            Ok(object) => Ok(object),
            Err(error) if is_conflict(&error) => {
                let found = api
                    .get(&name)
                    .await
                    .map_err(Error::kube(format!("get PodVolumeBackup {name}")))?;
                if volume_object::is_ours(&found, &wanted) {
                    Ok(found)
                } else {
                    Err(Error::Permanent {
                        message: format!("PodVolumeBackup {name} exists and is not this backup's"),
                        hint: "delete it, or give the backup another name",
                    })
                }
            }
            Err(error) => Err(Error::kube(format!("create PodVolumeBackup {name}"))(error)),
        }
    }

    /// Cancels what an earlier attempt started and this one no longer wants.
    async fn cancel_leftovers(&self, units: &[Unit]) -> Result<()> {
        let params = ListParams::default().labels(&self.selector());
        for object in self.context.list::<PodVolumeBackup>(&params).await? {
            let name = object.name_any();
            let wanted = units.iter().any(|unit| unit.name() == name);
            if !units::has_ended(&object) && !object.spec.cancel && !wanted {
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

    /// Takes what an object says.
    fn seen(&self, object: PodVolumeBackup, work: &mut Work<'_>) {
        let Some(at) = work.waiting(&object.name_any()) else {
            return;
        };
        let unit = &mut work.units[at];
        unit.see(&object);
        if !units::has_ended(&object) {
            return;
        }
        let row = &mut work.rows[unit.row];
        let late = match &unit.cancelled {
            Some((_, VolumeReason::Timeout, why)) => Some(why.as_str()),
            _ => None,
        };
        volume_object::settle(row, &object, late);
        if let (VolumeClass::Failed, Some((_, VolumeReason::NoAgentOnNode, _))) =
            (row.class, &unit.cancelled)
        {
            row.reason = VolumeReason::NoAgentOnNode;
        }
        self.log
            .info(format!("{}: {:?}", status::describe(row), row.class));
        work.ended.push(object);
        work.finish(at);
    }

    fn gone(name: &str, work: &mut Work<'_>) {
        if let Some(at) = work.waiting(name) {
            let why = "its PodVolumeBackup was deleted".to_owned();
            work.fail(at, VolumeReason::Cancelled, why);
        }
    }

    /// Ends what has not begun: the user wants no more work.
    fn cancel_queued(work: &mut Work<'_>) {
        for at in 0..work.units.len() {
            if work.units[at].phase < Phase::Wait {
                let why = "the backup was cancelled before the volume was taken".to_owned();
                work.fail(at, VolumeReason::Cancelled, why);
            }
        }
    }

    /// Cancels what is at work; what cannot be cancelled now is tried again at the next tick.
    async fn cancel_all(&self, work: &mut Work<'_>) {
        for at in work.open() {
            let why = "the backup was cancelled".to_owned();
            self.cancel_unit(work, at, VolumeReason::Cancelled, why)
                .await;
        }
    }

    async fn cancel_unit(&self, work: &mut Work<'_>, at: usize, reason: VolumeReason, why: String) {
        match self.cancel(&work.units[at].name()).await {
            Ok(()) => work.units[at].cancelled = Some((Instant::now(), reason, why)),
            Err(error) => {
                tracing::warn!(%error, "a PodVolumeBackup cannot be cancelled; tried again");
            }
        }
    }

    /// Cancels what waits for a node that has had no agent for too long.
    async fn look_for_agents(&self, work: &mut Work<'_>) {
        let nodes = match agents::ready_nodes(self.context).await {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::warn!(%error, "agents cannot be looked at; tried again");
                return;
            }
        };
        let now = Instant::now();
        for at in work.open() {
            let unit = &mut work.units[at];
            if nodes.contains(&unit.node) {
                unit.agentless_since = None;
                continue;
            }
            let since = *unit.agentless_since.get_or_insert(now);
            if now.duration_since(since) >= AGENT_PATIENCE {
                let why = format!("node {} has no running agent any more", unit.node);
                self.cancel_unit(work, at, VolumeReason::NoAgentOnNode, why)
                    .await;
            }
        }
    }

    /// Cancels what is late, and gives up what does not end although it is cancelled.
    async fn look_at_deadlines(&self, work: &mut Work<'_>) {
        let deadlines = Deadlines {
            work: self.plan.volume_timeout,
            queue: self.plan.queue_timeout,
        };
        let now = self.context.clock.now();
        for at in work.open() {
            if let Some(why) = units::late(&work.units[at], deadlines, now) {
                self.cancel_unit(work, at, VolumeReason::Timeout, why).await;
            }
        }
        for at in 0..work.units.len() {
            let unit = &work.units[at];
            let cancelled = unit
                .cancelled
                .clone()
                .filter(|_| unit.phase == Phase::Wait)
                .filter(|(since, ..)| since.elapsed() >= CANCEL_PATIENCE);
            if let Some((_, reason, why)) = cancelled {
                work.fail(at, reason, why);
            }
        }
    }

    /// Says that the backup is being cancelled. Nothing depends on it.
    async fn tell_canceling(&self) {
        self.log.info("the backup is being cancelled");
        let (name, uid) = (
            self.backup.name_any(),
            self.backup.uid().unwrap_or_default(),
        );
        let api = self.context.api::<Backup>();
        let told = crate::status::update(&api, &name, &uid, |backup| {
            backup.status.get_or_insert_default().phase = Some(BackupPhase::Canceling);
        });
        if let Err(error) = told.await {
            tracing::warn!(backup = name, %error, "a phase cannot be written");
        }
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
