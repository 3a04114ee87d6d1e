//! The next step for one volume that is to be filled. Pure.
//!
//! A volume is filled once its pod has a node, its claim is bound and the node has an agent. Each
//! of these is waited for with a deadline, and what was missing at the deadline is the reason
//! given. Waiting for the agent and filling have deadlines of their own.

use std::time::Duration;

use ark_api::condition::reason;
use ark_api::pod_volume_backup::{ClaimReference, PodReference, VolumePhase};
use ark_api::pod_volume_restore::WhenNotEmpty;

use crate::apply::volumes::stock::Stored;

/// A volume that is to be filled.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Place of its pod in the list of pods.
    pub(crate) pod: usize,
    /// The pod, in the cluster.
    pub(crate) reference: PodReference,
    /// Name of the volume in the pod.
    pub(crate) volume: String,
    /// Name of its claim.
    pub(crate) claim: Option<String>,
    /// Its files.
    pub(crate) stored: Stored,
    /// Other pods whose gates wait for it.
    pub(crate) gates: Vec<PodReference>,
    /// What the agent does if it holds files already.
    pub(crate) when_not_empty: WhenNotEmpty,
    /// Uid of the claim, if this restore began to fill it in an earlier attempt.
    pub(crate) begun: Option<String>,
}

impl Job {
    /// `volume data of pod web/nginx`.
    pub(crate) fn what(&self) -> String {
        let PodReference {
            namespace, name, ..
        } = &self.reference;
        format!("volume {} of pod {namespace}/{name}", self.volume)
    }
}

/// What became of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// All its files are back, with all their metadata.
    pub(crate) ok: bool,
    /// The application may have it as it is.
    pub(crate) usable: bool,
    /// It held files of its own and was left as it is.
    pub(crate) kept: bool,
    /// What happened.
    pub(crate) message: String,
    /// Bytes written.
    pub(crate) bytes: i64,
}

impl Finished {
    /// It is not back.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            ok: false,
            usable: false,
            kept: false,
            message: message.into(),
            bytes: 0,
        }
    }
}

/// What is known of a job's pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodView {
    /// Its uid.
    pub(crate) uid: String,
    /// Its node; empty until it is scheduled.
    pub(crate) node: String,
    /// What the scheduler says.
    pub(crate) unschedulable: Option<String>,
    /// It is going away.
    pub(crate) leaving: bool,
    /// Why it will never run again, if so.
    pub(crate) ended: Option<String>,
}

/// What is known of a job's claim.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimView {
    /// Its uid.
    pub(crate) uid: String,
    /// `Bound`, `Pending`, `Lost`.
    pub(crate) phase: String,
    /// Its volume.
    pub(crate) volume: Option<String>,
    /// Its class.
    pub(crate) class: Option<String>,
}

/// What is known of a job's PodVolumeRestore.
#[derive(Clone, Debug, Default)]
pub(crate) struct FillView {
    /// Where it stands.
    pub(crate) phase: VolumePhase,
    /// What the agent says.
    pub(crate) message: Option<String>,
    /// The agent has started to fill the volume.
    pub(crate) started: bool,
    /// The volume held files of its own, and the agent left it as it is.
    pub(crate) kept: bool,
    /// Bytes written.
    pub(crate) bytes: i64,
    /// Files that are not back as they were.
    pub(crate) file_errors: i64,
    /// All their content is back; only metadata is not.
    pub(crate) only_metadata: bool,
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The pod, if it exists.
    pub(crate) pod: Option<PodView>,
    /// The claim, if the volume has one and it exists.
    pub(crate) claim: Option<ClaimView>,
    /// The restore of the volume, if it was created.
    pub(crate) fill: Option<FillView>,
    /// Whether the pod's node has an agent.
    pub(crate) agent: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Wait: reason and message for the condition.
    Wait(&'static str, String),
    /// Create the PodVolumeRestore on this node, for this claim.
    Create(String, Option<ClaimReference>),
    /// Give the volume up: stop the agent, if there is one, and tell the gates.
    GiveUp(Finished),
    /// It is over, and whoever waits knows it or is gone.
    Done(Finished),
}

/// Deadlines of a volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// To be scheduled and bound.
    pub(crate) bind: Duration,
    /// Until the agent starts to fill it.
    pub(crate) queue: Duration,
    /// To be filled, from then on.
    pub(crate) fill: Duration,
}

/// Decides, `waited` after the present stage (binding, waiting for the agent, or filling) began.
pub(crate) fn step(job: &Job, view: &View, waited: Duration, deadlines: Deadlines) -> Step {
    if let Some(fill) = &view.fill {
        return filling(fill, waited, deadlines);
    }
    let Some(pod) = view.pod.as_ref().filter(|pod| pod.uid == job.reference.uid) else {
        return Step::Done(Finished::failed(
            "the pod was deleted before the volume was restored",
        ));
    };
    if pod.leaving {
        return Step::Done(Finished::failed(
            "the pod is being deleted, so the volume was not restored",
        ));
    }
    if let Some(why) = &pod.ended {
        return Step::Done(Finished::failed(format!(
            "the pod ended before the volume was restored: {why}"
        )));
    }
    if let Some((reason, message)) = missing(job, pod, view.claim.as_ref()) {
        return if waited >= deadlines.bind {
            let seconds = deadlines.bind.as_secs();
            Step::GiveUp(Finished::failed(format!(
                "{reason}: gave up after {seconds} seconds: {message}"
            )))
        } else {
            Step::Wait(reason, message)
        };
    }
    if !view.agent {
        return Step::GiveUp(Finished::failed(format!(
            "NoAgentOnNode: node {} has no agent of Ark; see the agent's DaemonSet and its tolerations",
            pod.node
        )));
    }
    let claim = job.claim.as_ref().zip(view.claim.as_ref());
    Step::Create(
        pod.node.clone(),
        claim.map(|(name, claim)| ClaimReference {
            name: name.clone(),
            uid: claim.uid.clone(),
            volume_name: claim.volume.clone(),
        }),
    )
}

/// What the pod lacks before its volume can be filled.
fn missing(job: &Job, pod: &PodView, claim: Option<&ClaimView>) -> Option<(&'static str, String)> {
    let namespace = &job.reference.namespace;
    let unbound = job.claim.as_ref().and_then(|name| match claim {
        None => Some(format!("claim {namespace}/{name} does not exist")),
        Some(claim) if claim.phase != "Bound" => {
            let phase = if claim.phase.is_empty() {
                "Pending"
            } else {
                &claim.phase
            };
            let class = match claim.class.as_deref() {
                Some("") | None => "no storage class".to_owned(),
                Some(class) => format!("storage class {class}"),
            };
            Some(format!("claim {namespace}/{name} is {phase} ({class})"))
        }
        Some(_) => None,
    });
    let scheduler = pod.unschedulable.as_deref().unwrap_or_default();
    // The scheduler speaks of volumes when it is them it waits for.
    let about_volumes = scheduler.is_empty() || scheduler.to_lowercase().contains("persistent");
    let said = |text: String| {
        if scheduler.is_empty() {
            text
        } else {
            format!("{text}; the scheduler says: {scheduler}")
        }
    };
    match unbound {
        Some(text) if !pod.node.is_empty() || about_volumes => {
            Some((reason::CLAIM_NOT_BOUND, said(text)))
        }
        _ if pod.node.is_empty() => {
            let PodReference { name, .. } = &job.reference;
            let text = format!("pod {namespace}/{name} is not scheduled");
            Some((reason::POD_NOT_SCHEDULED, said(text)))
        }
        _ => None,
    }
}

/// Decides about a volume whose PodVolumeRestore is there.
pub(crate) fn filling(fill: &FillView, waited: Duration, deadlines: Deadlines) -> Step {
    let said = fill
        .message
        .as_ref()
        .filter(|message| !message.is_empty())
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    let finished = |ok: bool, message: String| Finished {
        ok,
        kept: fill.kept,
        usable: ok || (fill.phase == VolumePhase::PartiallyFailed && fill.only_metadata),
        message,
        bytes: fill.bytes,
    };
    match fill.phase {
        VolumePhase::Completed if fill.kept => {
            let message = fill.message.clone().unwrap_or_default();
            Step::Done(finished(true, message))
        }
        VolumePhase::Completed => Step::Done(finished(true, format!("{} bytes", fill.bytes))),
        VolumePhase::PartiallyFailed => {
            let what = if fill.only_metadata {
                "files lack owner, mode, times or attributes"
            } else {
                "files are not back"
            };
            let message = format!("{} {what}{said}", fill.file_errors);
            Step::Done(finished(false, message))
        }
        VolumePhase::Failed => Step::Done(finished(false, format!("the agent failed{said}"))),
        VolumePhase::Canceled => Step::Done(finished(false, format!("it was cancelled{said}"))),
        _ if fill.started && waited >= deadlines.fill => {
            let seconds = deadlines.fill.as_secs();
            let message = format!("Timeout: not restored within {seconds} seconds{said}");
            Step::GiveUp(finished(false, message))
        }
        _ if !fill.started && waited >= deadlines.queue => {
            let seconds = deadlines.queue.as_secs();
            let message = format!("Timeout: not started within {seconds} seconds{said}");
            Step::GiveUp(finished(false, message))
        }
        _ => Step::Wait(
            reason::VOLUMES_RUNNING,
            fill.message
                .clone()
                .unwrap_or_else(|| "volumes are being restored".to_owned()),
        ),
    }
}

#[cfg(test)]
#[path = "fill_tests.rs"]
mod tests;
