//! Which files' times can be believed although programs write to them through memory.
//!
//! A store into a mapped page changes a file's times only if it is the first since the page was
//! written out. Pages that wait to be written when a file is read hide later stores. So a file that
//! is cut at fixed places, as those of databases are, is synced before it is read, on file systems
//! that show stores in that way: from then on whatever changes its content changes its times. The
//! snapshot keeps for which devices that was done, and when the machine was booted.
//!
//! A snapshot's list names a device if of every file of fixed chunks on it one of these holds: it
//! was synced and then read, it was unchanged since a parent for which the same is known, or its
//! stored ctime is one that no later run finds. After another boot nothing of the list is believed:
//! a crash may keep stores and lose the times they set. Without a list, as in snapshots of other
//! programs and of earlier versions, such files are read.
//!
//! Order for a file, all after the run's look at the clock: its metadata, sync, its metadata again,
//! its content, its metadata a third time. A page that a program dirtied after the sync had begun
//! makes its ctime later than that look, or different between the first two; then the file is read
//! again by the next run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::{Run, node};
use crate::{
    files::{filesystem, meta::Meta},
    format::snapshot::Synced,
    host,
};

/// What is known of the devices of one run.
pub(in crate::archive) struct Devices {
    boot: Option<String>,
    /// Of the parent, and of this boot.
    known: BTreeSet<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Mounts, and whether stores show on them.
    mounts: BTreeMap<u64, bool>,
    /// Devices for the new snapshot's list.
    synced: BTreeSet<u64>,
}

impl Devices {
    /// `parent`: what the parent says, if this program wrote it.
    pub(super) fn new(parent: Option<&Synced>) -> Self {
        let boot = host::boot_id();
        let known = parent.filter(|parent| boot.as_ref() == Some(&parent.boot));
        Self {
            known: known
                .map(|parent| parent.devices.iter().copied().collect())
                .unwrap_or_default(),
            boot,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file of fixed chunks that has the same metadata as in the parent is the same.
    pub(super) fn trusts(&self, meta: &Meta) -> bool {
        let trusted = self.known.contains(&meta.device);
        if trusted {
            self.state().synced.insert(meta.device);
        }
        trusted
    }

    /// Whether stores into the file show, so that it is worth a sync.
    fn shows(&self, file: &File, meta: &Meta) -> bool {
        if self.boot.is_none() {
            return false;
        }
        let mut state = self.state();
        let known = state.mounts.get(&meta.mount).copied();
        let shows = known.unwrap_or_else(|| filesystem::shows_mapped_stores(file, meta.mount));
        state.mounts.insert(meta.mount, shows);
        if shows {
            state.synced.insert(meta.device);
        }
        shows
    }

    /// The list for the snapshot.
    pub(in crate::archive) fn list(self) -> Option<Synced> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let devices: Vec<u64> = state.synced.into_iter().collect();
        let boot = self.boot.filter(|_| !devices.is_empty())?;
        Some(Synced { boot, devices })
    }
}

/// Syncs a file of fixed chunks that is about to be read, opened and described after `now`. Returns
/// its metadata after that, and whether the next run has to read it whatever its times say.
pub(super) fn sync(run: &Run<'_>, file: &File, meta: Meta, now: Timestamp) -> (Meta, bool) {
    // One that changed just now is read again anyway.
    if !run.synced.shows(file, &meta) || node::is_recent(&meta, now) {
        return (meta, false);
    }
    let synced = file.sync_data().and_then(|()| Ok(Meta::of(file)?));
    match synced {
        Ok(after) => {
            let doubted = after.ctime != meta.ctime;
            (after, doubted)
        }
        Err(error) => {
            tracing::debug!(%error, "a file could not be synced: the next backup reads it again");
            (meta, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(device: u64) -> Meta {
        Meta {
            device,
            ..Meta::of(File::open("/proc/self/status").unwrap()).unwrap()
        }
    }

    #[test]
    fn a_list_of_another_boot_says_nothing_and_one_of_this_boot_is_handed_on() {
        let of = |boot: &str| Synced {
            boot: boot.to_owned(),
            devices: vec![7, 8],
        };
        let here = of(&host::boot_id().unwrap());
        for (parent, trusted) in [
            (None, false),
            (Some(of("another")), false),
            (Some(here), true),
        ] {
            let devices = Devices::new(parent.as_ref());
            assert_eq!(devices.trusts(&meta(7)), trusted, "{parent:?}");
            assert!(!devices.trusts(&meta(9)));
            let list = devices.list().map(|list| list.devices);
            assert_eq!(list, trusted.then(|| vec![7]), "only what this run met");
        }
    }

    #[test]
    fn a_device_whose_stores_do_not_show_is_not_listed() {
        let devices = Devices::new(None);
        let file = File::open("/proc/self/status").unwrap();
        assert!(!devices.shows(&file, &Meta::of(&file).unwrap()));
        assert_eq!(devices.list(), None);
    }
}
