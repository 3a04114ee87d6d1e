//! Has volumes filled: watches pods, claims, agents and PodVolumeRestores, and takes each volume's
//! next step ([`super::fill`]) whenever something changed.
//!
//! Order: a PodVolumeRestore is created only when its pod is scheduled, its claim is bound and the
//! node has an agent. Fails only if the API server refuses to be asked; what fails of one volume is
//! its [`Finished`]. Idempotent: names are deterministic, and an object of that name is trusted
//! only if it belongs to this restore.

use std::collections::BTreeMap;
use std::time::Duration;

use ark_api::condition::reason;
use ark_api::pod_volume_backup::{ClaimReference, PodReference};
use ark_api::pod_volume_restore::{PodVolumeRestoreSpec, WhenNotEmpty};
use ark_api::restore::RestoreVolumeCounts;
use ark_api::results::ItemAction;
use ark_api::{PodVolumeRestore, Restore, label, naming};
use futures::StreamExt;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use tokio::time::Instant;

use super::fill::{Deadlines, Finished, Job, Step, step};
use super::gates;
use super::report::Report;
use super::world::{self, Seen, World};
use crate::context::Context;
use crate::error::{Class, Error, Result, describe, is_conflict};
use crate::list;
use crate::run::Stop;
use crate::status::FIELD_MANAGER;

/// How often deadlines are looked at when nothing changes.
const TICK: Duration = Duration::from_secs(1);
/// How long changes are gathered before they are acted on.
const BURST: Duration = Duration::from_millis(50);
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
    /// Ends the restore.
    pub(crate) stop: &'a Stop,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its PodVolumeRestore is not created.
    Binding,
    /// Created, but not seen in the watch yet.
    Created,
    /// Seen; the agent has not started yet.
    Waiting,
    /// The agent fills the volume.
    Filling,
}

impl Work {
    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.since = Instant::now();
    }
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
    let (mut world, mut seen) = world::watch(common.context, &uid);
    let mut unsynced = 4;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // When what was seen is acted on: changes come in bursts, and one look serves them all.
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            event = seen.next() => {
                match event {
                    Some(Seen::Synced) => unsynced -= 1,
                    Some(Seen::Changed) => {}
                    None => return Err(Error::Bug("the watches of a restore ended".to_owned())),
                }
                due.get_or_insert_with(|| Instant::now() + BURST);
                continue;
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            _ = tick.tick() => {}
        }
        due = None;
        if unsynced > 0 {
            continue;
        }
        let open: Vec<&Job> = works
            .iter()
            .filter(|work| work.stage == Stage::Binding && work.finished.is_none())
            .map(|work| &work.job)
            .collect();
        world.ask(common.context, &open).await?;
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
    let view = world.view(&work.job, &work.name);
    let running = (
        reason::VOLUMES_RUNNING,
        "volumes are being restored".to_owned(),
    );
    let stage = view.fill.as_ref().map(|fill| {
        if fill.started {
            Stage::Filling
        } else {
            Stage::Waiting
        }
    });
    if let Some(stage) = stage.filter(|stage| work.stage < *stage) {
        work.enter(stage);
    }
    if view.fill.is_none() && work.stage == Stage::Created {
        return Ok(Some(running));
    }
    if let Some(fill) = &view.fill {
        let more = fill.bytes - work.bytes;
        work.bytes = fill.bytes;
        common.report.live(|live| live.volumes.bytes += more);
    }
    let next = if view.fill.is_none() && work.stage > Stage::Created {
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
            Err(error) if error.class() == Class::Transient => return Err(error),
            Err(error) => Finished::failed(error.sentence()),
        },
        Step::GiveUp(finished) => {
            if view.fill.is_some() {
                cancel(common.context, &work.name).await;
            }
            finished
        }
        Step::Done(finished) => finished,
    };
    // An agent that failed has told the gates itself; there may be none, or it may never have
    // begun.
    if !finished.usable {
        for pod in [&work.job.reference].into_iter().chain(&work.job.gates) {
            gates::tell(&common.context.client, pod, &finished.message).await;
        }
    }
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
    let action = match finished {
        Finished { ok: false, .. } => ItemAction::Failed,
        Finished { kept: true, .. } => ItemAction::Kept,
        Finished { .. } => ItemAction::Created,
    };
    let message = if finished.kept {
        format!(
            "{}; nothing of the backup was written into it",
            finished.message
        )
    } else if finished.ok {
        format!("volume restored, {}", finished.message)
    } else {
        format!(
            "volume {volume} of pod {namespace}/{pod} was not restored: {}",
            finished.message
        )
    };
    report.row(RESOURCE, namespace, &name, action, &message, finished.kept);
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
    let mut object = object(common, work, node, claim);
    common.context.pace.ask(1, object.annotations_mut());
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
    // Half of the files are there, from an attempt of this restore whose object is another one.
    let begun = claim
        .as_ref()
        .is_some_and(|claim| job.begun.as_ref() == Some(&claim.uid));
    let when_not_empty = if begun {
        WhenNotEmpty::Fill
    } else {
        job.when_not_empty
    };
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
            when_not_empty,
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
    list::all(
        &context.api::<PodVolumeRestore>(),
        &params,
        "the restore's PodVolumeRestores",
    )
    .await
}
