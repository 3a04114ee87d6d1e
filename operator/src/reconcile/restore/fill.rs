//! The next step for one volume that is to be filled. Pure.
//!
//! A volume is filled once its pod has a node, its claim is bound and the node has an agent. Each of
//! these is waited for with a deadline, and what was missing at the deadline is the reason given.

use std::time::Duration;

use ark_api::condition::reason;
use ark_api::pod_volume_backup::{ClaimReference, PodReference, VolumePhase};

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
    /// Stop the agent and give the volume up.
    GiveUp(Finished),
    /// It is over.
    Done(Finished),
}

/// Deadlines of a volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// To be scheduled and bound.
    pub(crate) bind: Duration,
    /// To be filled.
    pub(crate) fill: Duration,
}

/// Decides, `waited` after the present stage (binding, or filling) began.
pub(crate) fn step(job: &Job, view: &View, waited: Duration, deadlines: Deadlines) -> Step {
    if let Some(fill) = &view.fill {
        return filling(fill, waited, deadlines.fill);
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
            Step::Done(Finished::failed(format!(
                "{reason}: gave up after {seconds} seconds: {message}"
            )))
        } else {
            Step::Wait(reason, message)
        };
    }
    if !view.agent {
        return Step::Done(Finished::failed(format!(
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
pub(crate) fn filling(fill: &FillView, waited: Duration, deadline: Duration) -> Step {
    let said = fill
        .message
        .as_ref()
        .filter(|message| !message.is_empty())
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    let finished = |ok: bool, message: String| Finished {
        ok,
        usable: ok || (fill.phase == VolumePhase::PartiallyFailed && fill.only_metadata),
        message,
        bytes: fill.bytes,
    };
    match fill.phase {
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
        _ if waited >= deadline => {
            let seconds = deadline.as_secs();
            let message = format!("Timeout: not restored within {seconds} seconds{said}");
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
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        bind: Duration::from_secs(10),
        fill: Duration::from_secs(100),
    };

    fn job(claim: Option<&str>) -> Job {
        Job {
            pod: 0,
            reference: PodReference {
                kind: None,
                namespace: "web".into(),
                name: "p".into(),
                uid: "u".into(),
            },
            volume: "data".into(),
            claim: claim.map(str::to_owned),
            stored: Stored {
                namespace: "web".into(),
                snapshot: "a".repeat(64),
                partial: false,
            },
            gates: Vec::new(),
        }
    }

    fn pod(node: &str, scheduler: Option<&str>) -> PodView {
        PodView {
            uid: "u".into(),
            node: node.into(),
            unschedulable: scheduler.map(str::to_owned),
            ..PodView::default()
        }
    }

    fn claim(phase: &str) -> ClaimView {
        ClaimView {
            uid: "c".into(),
            phase: phase.into(),
            volume: Some("pv".into()),
            class: Some("fast".into()),
        }
    }

    fn view(pod: PodView, claim: Option<ClaimView>) -> View {
        View {
            pod: Some(pod),
            claim,
            fill: None,
            agent: true,
        }
    }

    fn run(claim: Option<&str>, view: &View, seconds: u64) -> Step {
        step(&job(claim), view, Duration::from_secs(seconds), DEADLINES)
    }

    #[test]
    fn waits_with_a_reason_until_the_deadline() {
        let cases = [
            (
                None,
                view(pod("", None), None),
                reason::POD_NOT_SCHEDULED,
                "not scheduled",
            ),
            (
                None,
                view(pod("", Some("0/1 nodes: taint")), None),
                reason::POD_NOT_SCHEDULED,
                "taint",
            ),
            (
                Some("c"),
                view(pod("", None), Some(claim("Pending"))),
                reason::CLAIM_NOT_BOUND,
                "class fast",
            ),
            (
                Some("c"),
                view(
                    pod("", Some("pod has unbound immediate PersistentVolumeClaims")),
                    Some(claim("Pending")),
                ),
                reason::CLAIM_NOT_BOUND,
                "unbound immediate",
            ),
            // The claim waits for the pod, and the pod for a node.
            (
                Some("c"),
                view(pod("", Some("0/1 nodes: taint")), Some(claim("Pending"))),
                reason::POD_NOT_SCHEDULED,
                "taint",
            ),
            (
                Some("c"),
                view(pod("", None), Some(claim("Bound"))),
                reason::POD_NOT_SCHEDULED,
                "not scheduled",
            ),
            (
                Some("c"),
                view(pod("n", None), Some(claim("Pending"))),
                reason::CLAIM_NOT_BOUND,
                "Pending",
            ),
            (
                Some("c"),
                view(pod("n", None), Some(claim("Lost"))),
                reason::CLAIM_NOT_BOUND,
                "Lost",
            ),
            (
                Some("c"),
                view(pod("n", None), None),
                reason::CLAIM_NOT_BOUND,
                "does not exist",
            ),
        ];
        for (name, view, reason, text) in cases {
            match run(name, &view, 9) {
                Step::Wait(said, message) => {
                    assert_eq!(said, reason, "{message}");
                    assert!(message.contains(text), "{message}");
                }
                other => panic!("{other:?}"),
            }
            match run(name, &view, 10) {
                Step::Done(Finished {
                    ok: false, message, ..
                }) => {
                    assert!(
                        message.contains(reason) && message.contains(text),
                        "{message}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn creates_when_all_is_there() {
        assert_eq!(
            run(None, &view(pod("n", None), None), 0),
            Step::Create("n".into(), None)
        );
        let Step::Create(node, Some(reference)) =
            run(Some("c"), &view(pod("n", None), Some(claim("Bound"))), 99)
        else {
            panic!("not created");
        };
        assert_eq!((node.as_str(), reference.uid.as_str()), ("n", "c"));
        assert_eq!(reference.volume_name.as_deref(), Some("pv"));
    }

    #[test]
    fn pods_that_are_gone_and_nodes_without_agent_fail_at_once() {
        let other = PodView {
            uid: "another".into(),
            ..pod("n", None)
        };
        let leaving = PodView {
            leaving: true,
            ..pod("n", None)
        };
        let ended = PodView {
            ended: Some("Evicted".into()),
            ..pod("n", None)
        };
        let no_agent = View {
            agent: false,
            ..view(pod("n", None), None)
        };
        for (view, text) in [
            (View::default(), "deleted"),
            (view(other, None), "deleted"),
            (view(leaving, None), "being deleted"),
            (view(ended, None), "Evicted"),
            (no_agent, "NoAgentOnNode: node n"),
        ] {
            match run(None, &view, 0) {
                Step::Done(Finished {
                    ok: false, message, ..
                }) => assert!(message.contains(text), "{message}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_running_fill_is_followed_to_its_end() {
        let with = |phase, message: &str| View {
            // The pod may be gone by then: a finished volume stays finished.
            fill: Some(FillView {
                phase,
                message: Some(message.into()),
                bytes: 7,
                file_errors: 2,
                only_metadata: false,
            }),
            ..View::default()
        };
        assert!(matches!(
            run(None, &with(VolumePhase::New, ""), 50),
            Step::Wait(reason::VOLUMES_RUNNING, _)
        ));
        assert!(
            matches!(run(None, &with(VolumePhase::InProgress, ""), 100), Step::GiveUp(f) if f.message.contains("Timeout"))
        );
        assert!(matches!(
            run(None, &with(VolumePhase::Completed, ""), 100),
            Step::Done(Finished {
                ok: true,
                bytes: 7,
                ..
            })
        ));
        for (phase, text) in [
            (VolumePhase::PartiallyFailed, "2 files are not back: why"),
            (VolumePhase::Failed, "the agent failed: why"),
            (VolumePhase::Canceled, "cancelled"),
        ] {
            assert!(
                matches!(run(None, &with(phase, "why"), 0), Step::Done(f) if !f.ok && f.message.contains(text))
            );
        }
    }

    #[test]
    fn a_volume_that_lacks_only_metadata_is_usable() {
        let run = |only_metadata| {
            let fill = FillView {
                phase: VolumePhase::PartiallyFailed,
                file_errors: 2,
                only_metadata,
                ..FillView::default()
            };
            match filling(&fill, Duration::ZERO, Duration::MAX) {
                Step::Done(finished) => (finished.ok, finished.usable),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(run(true), (false, true));
        assert_eq!(run(false), (false, false));
    }
}
