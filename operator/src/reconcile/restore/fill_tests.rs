//! Views of a volume, and the step that follows from each.

use super::*;

const DEADLINES: Deadlines = Deadlines {
    bind: Duration::from_secs(10),
    queue: Duration::from_secs(500),
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
        when_not_empty: WhenNotEmpty::Fail,
        begun: None,
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
            Step::GiveUp(Finished {
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
            })
            | Step::GiveUp(Finished {
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
            started: phase == VolumePhase::InProgress,
            file_errors: 2,
            ..FillView::default()
        }),
        ..View::default()
    };
    assert!(matches!(
        run(None, &with(VolumePhase::New, ""), 50),
        Step::Wait(reason::VOLUMES_RUNNING, _)
    ));
    // Waiting for the agent does not count as filling.
    assert!(matches!(
        run(None, &with(VolumePhase::Accepted, ""), 499),
        Step::Wait(..)
    ));
    assert!(
        matches!(run(None, &with(VolumePhase::Accepted, "queued"), 500), Step::GiveUp(f) if f.message.contains("not started") && f.message.contains("queued"))
    );
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
        match filling(&fill, Duration::ZERO, DEADLINES) {
            Step::Done(finished) => (finished.ok, finished.usable),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run(true), (false, true));
    assert_eq!(run(false), (false, false));
}

#[test]
fn a_volume_that_was_kept_is_usable_and_said() {
    let fill = FillView {
        phase: VolumePhase::Completed,
        kept: true,
        message: Some("it held files".into()),
        ..FillView::default()
    };
    let Step::Done(finished) = filling(&fill, Duration::ZERO, DEADLINES) else {
        panic!("not done");
    };
    assert!(finished.ok && finished.usable && finished.kept);
    assert!(finished.message.contains("held files"));
}
