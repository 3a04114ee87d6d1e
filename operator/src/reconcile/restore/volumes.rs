//! Has volumes filled: watches pods, claims, agents and PodVolumeRestores, and takes each volume's next
//! step ([`super::fill`]) whenever something changed.
//!
//! Order: a PodVolumeRestore is created only when its pod is scheduled, its claim is bound and the
//! node has an agent. Fails only if the API server refuses to be asked; what fails of one volume is
//! its [`Finished`]. Idempotent: names are deterministic, and an object of that name is trusted only
//! if it belongs to this restore.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ark_api::pod_volume_backup::{ClaimReference, PodReference, VolumePhase};
use ark_api::pod_volume_restore::{PodVolumeRestoreSpec, PodVolumeRestoreStatus};
use ark_api::restore::RestoreVolumeCounts;
use ark_api::results::ItemAction;
use ark_api::{PodVolumeRestore, Restore, label, naming};
use ark_engine::FileOperation;
use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::reflector::{ObjectRef, Store, reflector, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::fill::{ClaimView, Deadlines, FillView, Finished, Job, PodView, Step, View, step};
use super::report::Report;
use crate::context::Context;
use crate::error::{Error, Result, describe, is_conflict};
use crate::status::FIELD_MANAGER;

/// How often deadlines are looked at when nothing changes.
const TICK: Duration = Duration::from_secs(1);
/// Resource under which volumes appear in a restore's results.
pub(crate) const RESOURCE: &str = "podvolumerestores.ark.heptio.com";

/// What every volume of a restore has in common.
pub(crate) struct Common<'a> {
    /// Shared by all controllers.
    pub(crate) context: &'a Context,
    /// The restore.
    pub(crate) restore: &'a Restore,
    /// Name of the location.
    pub(crate) location: &'a str,
    /// Deadlines.
    pub(crate) deadlines: Deadlines,
    /// Where it is said.
    pub(crate) report: &'a Report,
}

/// A job and where it stands.
struct Work {
    job: Job,
    name: String,
    /// When the present stage began.
    since: Instant,
    stage: Stage,
    bytes: i64,
    finished: Option<Finished>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its PodVolumeRestore is not created.
    Binding,
    /// Created, but not seen in the watch yet.
    Created,
    /// Seen.
    Filling,
}

impl Work {
    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.since = Instant::now();
    }
}

/// The world as the watches show it.
struct World {
    namespace: String,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    fills: Store<PodVolumeRestore>,
    agents: Store<Pod>,
    /// Claims that carry no label of ours, as last asked for.
    others: HashMap<(String, String), ClaimView>,
}

/// Something was seen.
enum Seen {
    /// A watch has its first full list.
    Synced,
    /// Something changed.
    Changed,
}

/// Fills all volumes; returns what became of each.
pub(crate) async fn fill(common: &Common<'_>, jobs: Vec<Job>) -> Result<Vec<(Job, Finished)>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let uid = common.restore.uid().unwrap_or_default();
    let mut works: Vec<Work> = jobs
        .into_iter()
        .map(|job| Work {
            name: naming::pod_volume_restore(
                &common.restore.name_any(),
                &uid,
                &job.reference.uid,
                &job.volume,
            ),
            job,
            since: Instant::now(),
            stage: Stage::Binding,
            bytes: 0,
            finished: None,
        })
        .collect();
    let (mut world, mut seen) = watch(common, &uid);
    let mut unsynced = 4;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = seen.next() => match event {
                Some(Seen::Synced) => unsynced -= 1,
                Some(Seen::Changed) => {}
                None => return Err(Error::Bug("the watches of a restore ended".to_owned())),
            },
            _ = tick.tick() => {}
        }
        if unsynced > 0 {
            continue;
        }
        world.ask(common, &works).await?;
        let mut waiting = None;
        for work in works.iter_mut().filter(|work| work.finished.is_none()) {
            if let Some(reason) = advance(common, &world, work).await? {
                waiting.get_or_insert(reason);
            }
        }
        let left = works.iter().filter(|work| work.finished.is_none()).count();
        common.report.live(|live| {
            live.waiting = waiting.map(|(reason, message)| match left {
                1 => (reason, message),
                _ => (reason, format!("{left} volumes are waited for; {message}")),
            });
        });
        if left == 0 {
            break;
        }
    }
    Ok(works
        .into_iter()
        .filter_map(|work| Some((work.job, work.finished?)))
        .collect())
}

/// Takes a volume's next step; returns what it waits for.
async fn advance(
    common: &Common<'_>,
    world: &World,
    work: &mut Work,
) -> Result<Option<(&'static str, String)>> {
    let view = world.view(work);
    let running = (
        ark_api::condition::reason::VOLUMES_RUNNING,
        "volumes are being restored".to_owned(),
    );
    if view.fill.is_some() && work.stage != Stage::Filling {
        work.enter(Stage::Filling);
    }
    if view.fill.is_none() && work.stage == Stage::Created {
        return Ok(Some(running));
    }
    if let Some(fill) = &view.fill {
        let more = fill.bytes - work.bytes;
        work.bytes = fill.bytes;
        common.report.live(|live| live.volumes.bytes += more);
    }
    let next = if view.fill.is_none() && work.stage == Stage::Filling {
        Step::Done(Finished::failed("its PodVolumeRestore was deleted"))
    } else {
        step(&work.job, &view, work.since.elapsed(), common.deadlines)
    };
    let finished = match next {
        Step::Wait(reason, message) => return Ok(Some((reason, message))),
        Step::Create(node, claim) => match create(common, work, node, claim).await {
            Ok(()) => {
                work.enter(Stage::Created);
                return Ok(Some(running));
            }
            Err(error) if error.class() == crate::error::Class::Transient => return Err(error),
            Err(error) => Finished::failed(error.sentence()),
        },
        Step::GiveUp(finished) => {
            cancel(common.context, &work.name).await;
            finished
        }
        Step::Done(finished) => finished,
    };
    record(
        common.report,
        &work.job.reference,
        &work.job.volume,
        &finished,
    );
    work.finished = Some(finished);
    Ok(None)
}

/// Says what became of a volume.
pub(crate) fn record(report: &Report, pod: &PodReference, volume: &str, finished: &Finished) {
    let PodReference {
        namespace,
        name: pod,
        ..
    } = pod;
    let name = format!("{pod}/{volume}");
    let action = if finished.ok {
        ItemAction::Created
    } else {
        ItemAction::Failed
    };
    let message = if finished.ok {
        format!("volume restored, {}", finished.message)
    } else {
        format!(
            "volume {volume} of pod {namespace}/{pod} was not restored: {}",
            finished.message
        )
    };
    report.row(RESOURCE, namespace, &name, action, &message, false);
    report.live(|live| {
        let RestoreVolumeCounts {
            completed, failed, ..
        } = &mut live.volumes;
        *(if finished.ok { completed } else { failed }) += 1;
    });
}

async fn create(
    common: &Common<'_>,
    work: &Work,
    node: String,
    claim: Option<ClaimReference>,
) -> Result<()> {
    let object = object(common, work, node, claim);
    let api: Api<PodVolumeRestore> = common.context.api();
    let action = || format!("create PodVolumeRestore {}", work.name);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, &object).await {
        Ok(_) => {
            common.report.log.info(format!(
                "{} is restored on node {} by PodVolumeRestore {}",
                work.job.what(),
                object.spec.node,
                work.name
            ));
            Ok(())
        }
        Err(error) if is_conflict(&error) => {
            let existing = api.get(&work.name).await.map_err(Error::kube(action()))?;
            if existing.labels().get(label::RESTORE_UID) == object.labels().get(label::RESTORE_UID)
            {
                Ok(())
            } else {
                Err(Error::Permanent {
                    message: format!(
                        "PodVolumeRestore {} exists and belongs to another restore",
                        work.name
                    ),
                    hint: "delete it and restore again",
                })
            }
        }
        Err(error) => Err(Error::kube(action())(error)),
    }
}

fn object(
    common: &Common<'_>,
    work: &Work,
    node: String,
    claim: Option<ClaimReference>,
) -> PodVolumeRestore {
    let job = &work.job;
    let uid = common.restore.uid().unwrap_or_default();
    let mut labels = BTreeMap::from([
        (
            label::RESTORE_NAME.to_owned(),
            label::value(&common.restore.name_any()),
        ),
        (label::RESTORE_UID.to_owned(), uid),
        (label::POD_UID.to_owned(), job.reference.uid.clone()),
        (label::NODE.to_owned(), label::value(&node)),
    ]);
    if let Some(claim) = &claim {
        labels.insert(label::PVC_UID.to_owned(), claim.uid.clone());
    }
    PodVolumeRestore {
        metadata: ObjectMeta {
            name: Some(work.name.clone()),
            namespace: Some(common.context.namespace.clone()),
            labels: Some(labels),
            owner_references: common
                .restore
                .controller_owner_ref(&())
                .map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: PodVolumeRestoreSpec {
            node,
            pod: job.reference.clone(),
            volume: job.volume.clone(),
            backup_storage_location: common.location.to_owned(),
            repository: naming::repository(&job.stored.namespace, common.location),
            repo_identifier: None,
            uploader_type: Some("restic".to_owned()),
            snapshot_id: job.stored.snapshot.clone(),
            source_namespace: job.stored.namespace.clone(),
            claim,
            gates: job.gates.clone(),
            uploader_settings: BTreeMap::new(),
            cancel: false,
            origin: None,
        },
        status: None,
    }
}

/// Asks the agent to stop. An agent that cannot be asked stops when the object goes away.
async fn cancel(context: &Context, name: &str) {
    let patch = serde_json::json!({ "spec": { "cancel": true } });
    let api: Api<PodVolumeRestore> = context.api();
    if let Err(error) = api
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        tracing::warn!(name, error = %describe(&error), "cannot cancel a PodVolumeRestore");
    }
}

/// Stops everything that still runs for the restore with `uid`.
pub(crate) async fn cancel_all(context: &Context, uid: &str) -> Result<()> {
    for fill in of_restore(context, uid).await? {
        let phase = fill.status.as_ref().and_then(|status| status.phase);
        if !phase.unwrap_or_default().is_terminal() {
            cancel(context, &fill.name_any()).await;
        }
    }
    Ok(())
}

/// The PodVolumeRestores of the restore with `uid`.
pub(crate) async fn of_restore(context: &Context, uid: &str) -> Result<Vec<PodVolumeRestore>> {
    let params = kube::api::ListParams::default().labels(&format!("{}={uid}", label::RESTORE_UID));
    let list = context
        .api::<PodVolumeRestore>()
        .list(&params)
        .await
        .map_err(Error::kube("list the restore's PodVolumeRestores"))?;
    Ok(list.items)
}

fn watch(common: &Common<'_>, uid: &str) -> (World, BoxStream<'static, Seen>) {
    let client = common.context.client.clone();
    let own = watcher::Config::default().labels(&format!("{}={uid}", label::RESTORE_UID));
    let agent = watcher::Config::default().labels(&format!(
        "{}={}",
        label::COMPONENT,
        label::COMPONENT_AGENT
    ));
    let (pods, a) = follow(Api::all(client.clone()), own.clone());
    let (claims, b) = follow(Api::all(client), own.clone());
    let (fills, c) = follow(common.context.api::<PodVolumeRestore>(), own);
    let (agents, d) = follow(common.context.api::<Pod>(), agent);
    let world = World {
        namespace: common.context.namespace.clone(),
        pods,
        claims,
        fills,
        agents,
        others: HashMap::new(),
    };
    (world, select_all([a, b, c, d]).boxed())
}

fn follow<K>(api: Api<K>, config: watcher::Config) -> (Store<K>, BoxStream<'static, Seen>)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = store::<K>();
    let mut synced = false;
    let stream = reflector(writer, watcher(api, config).default_backoff()).map(move |event| {
        match event {
            Ok(watcher::Event::InitDone) if !synced => {
                synced = true;
                Seen::Synced
            }
            Ok(_) => Seen::Changed,
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "watching is disturbed; it is tried again");
                Seen::Changed
            }
        }
    });
    (reader, stream.boxed())
}

impl World {
    /// Asks for claims that no watch shows: those that pods made for ephemeral volumes.
    async fn ask(&mut self, common: &Common<'_>, works: &[Work]) -> Result<()> {
        for work in works {
            let Some(claim) = &work.job.claim else {
                continue;
            };
            let namespace = &work.job.reference.namespace;
            let key = (namespace.clone(), claim.clone());
            let bound = self
                .others
                .get(&key)
                .is_some_and(|claim| claim.phase == "Bound");
            let shown = self.claims.get(&ObjectRef::new(claim).within(namespace));
            if bound || shown.is_some() || work.stage != Stage::Binding || work.finished.is_some() {
                continue;
            }
            let api: Api<PersistentVolumeClaim> =
                Api::namespaced(common.context.client.clone(), namespace);
            let found = api.get_opt(claim).await.map_err(Error::kube(format!(
                "get PersistentVolumeClaim {namespace}/{claim}"
            )))?;
            if let Some(found) = found {
                self.others.insert(key, claim_view(&found));
            }
        }
        Ok(())
    }

    fn view(&self, work: &Work) -> View {
        let reference = &work.job.reference;
        let namespace = reference.namespace.as_str();
        let pod = self
            .pods
            .get(&ObjectRef::new(&reference.name).within(namespace))
            .map(|pod| pod_view(&pod));
        let claim = work.job.claim.as_ref().and_then(|name| {
            let shown = self.claims.get(&ObjectRef::new(name).within(namespace));
            shown.map(|claim| claim_view(&claim)).or_else(|| {
                self.others
                    .get(&(namespace.to_owned(), name.clone()))
                    .cloned()
            })
        });
        let fill = self
            .fills
            .get(&ObjectRef::new(&work.name).within(&self.namespace))
            .map(|fill| fill_view(&fill));
        let agent = pod
            .as_ref()
            .is_some_and(|pod: &PodView| self.has_agent(&pod.node));
        View {
            pod,
            claim,
            fill,
            agent,
        }
    }

    /// An agent that is just starting counts: it takes the volume up when it runs.
    fn has_agent(&self, node: &str) -> bool {
        let on_node = |pod: &Arc<Pod>| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.as_deref()) == Some(node)
                && pod.metadata.deletion_timestamp.is_none()
        };
        self.agents.state().iter().any(on_node)
    }
}

fn pod_view(pod: &Pod) -> PodView {
    let status = pod.status.clone().unwrap_or_default();
    let scheduled = status
        .conditions
        .unwrap_or_default()
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")).then(|| {
        status
            .message
            .or(status.reason)
            .unwrap_or_else(|| "it will not run again".to_owned())
    });
    PodView {
        uid: pod.uid().unwrap_or_default(),
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        unschedulable: scheduled.and_then(|condition| condition.message),
        leaving: pod.metadata.deletion_timestamp.is_some(),
        ended,
    }
}

fn claim_view(claim: &PersistentVolumeClaim) -> ClaimView {
    let spec = claim.spec.clone().unwrap_or_default();
    ClaimView {
        uid: claim.uid().unwrap_or_default(),
        phase: claim
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default(),
        volume: spec.volume_name,
        class: spec.storage_class_name,
    }
}

fn fill_view(fill: &PodVolumeRestore) -> FillView {
    let status = fill.status.clone().unwrap_or_default();
    FillView {
        phase: status.phase.unwrap_or_default(),
        message: status.message.clone(),
        bytes: status
            .progress
            .as_ref()
            .map_or(0, |progress| progress.bytes_done),
        file_errors: status.file_error_count.unwrap_or_default(),
        only_metadata: only_metadata(&status),
    }
}

/// Whether all content is back, as the agent decides it too when it opens the gate. Errors beyond
/// those that are listed may be anything.
fn only_metadata(status: &PodVolumeRestoreStatus) -> bool {
    let metadata = [
        FileOperation::Chown,
        FileOperation::Chmod,
        FileOperation::Times,
        FileOperation::Xattr,
    ];
    let listed = i64::try_from(status.file_errors.len()).ok();
    status.file_error_count == listed
        && status.file_errors.iter().all(|error| {
            metadata
                .iter()
                .any(|known| known.as_str() == error.operation)
        })
}

/// What became of a volume whose restore has ended; `None` while it runs, or if it did not get far
/// enough to be worth anything.
pub(crate) fn ended(fill: &PodVolumeRestore) -> Option<Finished> {
    let view = fill_view(fill);
    let deadline = Duration::MAX;
    match view.phase {
        VolumePhase::Completed | VolumePhase::PartiallyFailed => {
            match super::fill::filling(&view, Duration::ZERO, deadline) {
                Step::Done(finished) => Some(finished),
                _ => None,
            }
        }
        _ => None,
    }
}
