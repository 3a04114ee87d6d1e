//! Units: the volumes of a backup, each moving through its phases by itself. Pure: which unit may
//! begin, and which one is late.
//!
//! A unit is queued, has its pre-hooks run, its `PodVolumeBackup` created, waits for the agent, has
//! its post-hooks run, and is done. (There are no hooks yet: those two phases pass at once.) Only
//! so many objects exist at a time that have not ended, in all and on each node, so that a backup
//! of thousands of volumes neither floods the API server nor lets one node hold up the others.

use std::collections::HashMap;
use std::time::Duration;

use ark_api::PodVolumeBackup;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::volume::VolumeReason;
use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::time::Instant;

/// Units that are at work at the same time.
const AT_ONCE: usize = 256;
/// Units of one node that are at work at the same time: more than its agent runs, so that it never
/// has to wait.
const PER_NODE: usize = 32;

/// How far a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It waits for its turn.
    Queued,
    /// What is to be run before runs.
    PreHook,
    /// Its object is created.
    Create,
    /// The agent is waited for.
    Wait,
    /// What is to be run afterwards runs, also after a failure.
    PostHook,
    /// Its row is final.
    Done,
}

/// One volume.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Its row.
    pub(super) row: usize,
    /// Its node.
    pub(super) node: String,
    /// Its object, as it is asked for.
    pub(super) wanted: PodVolumeBackup,
    /// How far it is.
    pub(super) phase: Phase,
    /// When its object was created.
    pub(super) created: Option<Timestamp>,
    /// When the agent began with it.
    pub(super) started: Option<Timestamp>,
    /// When it was cancelled, why, and in words.
    pub(super) cancelled: Option<(Instant, VolumeReason, String)>,
    /// Since when its node has no agent.
    pub(super) agentless_since: Option<Instant>,
}

impl Unit {
    /// A unit that waits for its turn.
    pub(super) fn new(row: usize, node: String, wanted: PodVolumeBackup) -> Self {
        Self {
            row,
            node,
            wanted,
            phase: Phase::Queued,
            created: None,
            started: None,
            cancelled: None,
            agentless_since: None,
        }
    }

    /// Name of its object.
    pub(super) fn name(&self) -> String {
        self.wanted.name_any()
    }

    /// Whether it is neither queued nor done.
    fn is_at_work(&self) -> bool {
        !matches!(self.phase, Phase::Queued | Phase::Done)
    }

    /// Takes what its object says.
    pub(super) fn see(&mut self, object: &PodVolumeBackup) {
        self.created = object.creation_timestamp().map(|time| time.0);
        let status = object.status.as_ref();
        let started = status.and_then(|status| status.start_timestamp.as_ref());
        self.started = started.map(|time| time.0);
    }
}

/// Whether nobody works on the object any more.
pub(super) fn has_ended(object: &PodVolumeBackup) -> bool {
    let status = object.status.as_ref();
    status
        .and_then(|status| status.phase)
        .is_some_and(VolumePhase::is_terminal)
}

/// Places of the queued units that may begin now, in their order.
pub(super) fn admit(units: &[Unit]) -> Vec<usize> {
    admit_within(units, AT_ONCE, PER_NODE)
}

fn admit_within(units: &[Unit], at_once: usize, per_node: usize) -> Vec<usize> {
    let mut nodes: HashMap<&str, usize> = HashMap::new();
    let mut total = 0;
    for unit in units.iter().filter(|unit| unit.is_at_work()) {
        *nodes.entry(&unit.node).or_default() += 1;
        total += 1;
    }
    let mut admitted = Vec::new();
    for (at, unit) in units.iter().enumerate() {
        if total >= at_once {
            break;
        }
        let node = nodes.entry(&unit.node).or_default();
        if unit.phase == Phase::Queued && *node < per_node {
            *node += 1;
            total += 1;
            admitted.push(at);
        }
    }
    admitted
}

/// Deadlines of a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// From the moment the agent begins.
    pub(super) work: Duration,
    /// Until the agent begins, from the creation of the object.
    pub(super) queue: Duration,
}

/// Why a unit is late now, in words; nothing if it is not.
pub(super) fn late(unit: &Unit, deadlines: Deadlines, now: Timestamp) -> Option<String> {
    let over = |since: Timestamp, limit: Duration| {
        let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        age >= limit
    };
    let show = ark_api::duration::Duration;
    match (unit.started, unit.created) {
        (Some(started), _) if over(started, deadlines.work) => Some(format!(
            "the agent did not end it within {}",
            show(deadlines.work)
        )),
        (None, Some(created)) if over(created, deadlines.queue) => Some(format!(
            "the agent did not begin with it within {} (spec.volumeQueueTimeout)",
            show(deadlines.queue)
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ark_api::pod_volume_backup::PodVolumeBackupSpec;

    use super::*;

    fn unit(node: &str, phase: Phase) -> Unit {
        let object = PodVolumeBackup::new("o", PodVolumeBackupSpec::default());
        Unit {
            phase,
            ..Unit::new(0, node.to_owned(), object)
        }
    }

    #[test]
    fn a_bounded_number_is_at_work_in_all_and_on_each_node() {
        use Phase::{Create, Done, PostHook, Queued, Wait};
        let units: Vec<Unit> = [
            ("a", Done),
            ("a", Wait),
            ("a", Create),
            ("a", Queued),
            ("b", Queued),
            ("b", Queued),
            ("c", PostHook),
            ("c", Queued),
        ]
        .map(|(node, phase)| unit(node, phase))
        .into();
        for (at_once, per_node, want) in [
            (8, 2, vec![4, 5, 7]),
            (8, 3, vec![3, 4, 5, 7]),
            (5, 2, vec![4, 5]),
            (3, 9, vec![]),
        ] {
            let got = admit_within(&units, at_once, per_node);
            assert_eq!(got, want, "{at_once} {per_node}");
        }
    }

    #[test]
    fn work_is_measured_from_its_start_and_waiting_by_itself() {
        let deadlines = Deadlines {
            work: Duration::from_secs(10),
            queue: Duration::from_secs(100),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        for (created, started, now, want) in [
            (Some(0), None, 99, None),
            (Some(0), None, 100, Some("begin")),
            // A long wait does not shorten the work.
            (Some(0), Some(90), 99, None),
            (Some(0), Some(90), 100, Some("end")),
            (Some(0), Some(90), 1000, Some("end")),
            // The agent's clock is ahead.
            (Some(0), Some(2000), 1000, None),
            (None, None, 1000, None),
        ] {
            let mut unit = unit("n", Phase::Wait);
            (unit.created, unit.started) = (created.map(at), started.map(at));
            let got = late(&unit, deadlines, at(now));
            assert_eq!(
                got.is_some(),
                want.is_some(),
                "{created:?} {started:?} {now}"
            );
            if let (Some(got), Some(want)) = (got, want) {
                assert!(got.contains(want), "{got}");
            }
        }
    }
}
