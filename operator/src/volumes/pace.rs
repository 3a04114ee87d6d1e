//! How often agents tell how far they are: bounded for the whole cluster, however many volumes run
//! on however many nodes.
//!
//! Each agent bounds its own writes, which bounds nothing when there are two hundred agents. So the
//! operator, which knows how many volumes have not ended, asks each new volume object's agent for a
//! pause ([`ark_api::annotation::TELL_EVERY`]). The pause stays as it was when the object was made:
//! volumes that were made while few ran keep their short one. The sum stays bounded all the same,
//! for the n-th volume adds one n-th of the bound (see the test). Starts, ends and reasons to wait
//! are written at once and are not counted here: they are a few for each volume.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use ark_api::{PodVolumeBackup, PodVolumeRestore, annotation};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;

use crate::reconcile::unattended::VolumeObject;

/// Writes a second that tell how far volumes are, when all that run were made at once.
const RATE: usize = 5;
/// Shortest pause, the agent's own.
const SHORTEST: usize = 2;
/// Longest pause: a volume that says nothing for longer looks stuck.
const LONGEST: usize = 120;

/// The volume objects, as the watches of their controllers show them.
#[derive(Default)]
pub(crate) struct Pace {
    /// Of backups.
    pub(crate) backups: OnceLock<Store<DeserializeGuard<PodVolumeBackup>>>,
    /// Of restores.
    pub(crate) restores: OnceLock<Store<DeserializeGuard<PodVolumeRestore>>>,
}

impl Pace {
    /// Asks the agent of an object that is about to be made, one of `more`, to tell how far it is
    /// no more often than all together may.
    pub(crate) fn ask(&self, more: usize, annotations: &mut BTreeMap<String, String>) {
        let seconds = every(open(self.backups.get()) + open(self.restores.get()) + more);
        annotations.insert(annotation::TELL_EVERY.to_owned(), seconds.to_string());
    }
}

/// Objects that have not ended.
fn open<K: VolumeObject>(objects: Option<&Store<DeserializeGuard<K>>>) -> usize {
    let objects = objects.map(Store::state).unwrap_or_default();
    objects
        .iter()
        .filter_map(|object| object.0.as_ref().ok())
        .filter(|object| !object.is_imported() && !object.phase().is_terminal())
        .count()
}

/// Seconds between two words about a volume that is one of `running`.
fn every(running: usize) -> usize {
    running.div_ceil(RATE).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a second of volumes with these pauses.
    fn rate(pauses: impl Iterator<Item = usize>) -> f64 {
        pauses
            .map(|pause| 1.0 / f64::from(u32::try_from(pause).unwrap()))
            .sum()
    }

    #[test]
    fn few_volumes_are_told_of_as_often_as_ever_and_no_volume_falls_silent() {
        for (running, pause) in [(0, 2), (1, 2), (10, 2), (11, 3), (200, 40), (100_000, 120)] {
            assert_eq!(every(running), pause, "{running}");
        }
    }

    #[test]
    fn two_hundred_volumes_write_five_times_a_second_and_not_a_hundred() {
        // All of one backup.
        assert!(rate(std::iter::repeat_n(every(200), 200)) < 5.1);
        // One after the other, each with the pause of its time.
        let grown = |volumes: usize| rate((1..=volumes).map(every));
        assert!(grown(200) < 20.0, "{}", grown(200));
        assert!(grown(2000) < 40.0, "{}", grown(2000));
    }
}
