//! The directories that wait, and who reads which next.
//!
//! Does: take directories that were not seen, hand out ranges of packs that hold some, know when
//! all is done. Threads wait here for each other's findings. The first failure ends it for all.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Tree, Walk};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::index::BlobKind,
    index::{
        Place,
        compact::PREFIX,
        ranges::{Placed, Range, ranges},
    },
};

/// Bytes of a directory that waits.
pub(super) const PENDING: usize = size_of::<Pending>();
/// Directories put in order together.
const BATCH: usize = 16 << 10;
/// Directories in no index that are remembered, so that they are shown once.
const UNKNOWN: usize = 1 << 15;
/// How often a thread that waits looks whether it still should.
const LOOK: Duration = Duration::from_millis(100);

/// A directory that waits: the index knows the rest of its id.
#[derive(Debug, Clone, Copy)]
struct Pending {
    position: u32,
    rest: [u8; 32 - PREFIX],
}

/// A directory to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) position: u32,
    pub(super) id: Id,
    pub(super) place: Place,
}

impl Wanted {
    pub(super) fn tree(&self) -> Tree {
        Tree {
            id: self.id,
            position: Some(self.position),
            bytes: u64::from(self.place.plain_length()),
        }
    }
}

impl Placed for Wanted {
    fn place(&self) -> Place {
        self.place
    }
}

pub(super) struct Frontier<'a> {
    walk: &'a Walk<'a>,
    stop: &'a AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Pending>,
    ranges: VecDeque<Range<Wanted>>,
    /// Threads that may still find directories.
    busy: usize,
    unknown: HashSet<Id>,
    failed: Option<Error>,
}

impl<'a> Frontier<'a> {
    pub(super) fn new(walk: &'a Walk<'a>, stop: &'a AtomicBool) -> Self {
        Self {
            walk,
            stop,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these directories visited, unless they were. Returns those that are in no index.
    pub(super) fn offer(&self, trees: impl Iterator<Item = Id>) -> Vec<Tree> {
        let (mut new, mut missing) = (Vec::new(), Vec::new());
        for id in trees {
            match self.walk.index.position(BlobKind::Tree, &id) {
                None => missing.push(id),
                Some(position) => {
                    if self.walk.seen.insert(position) {
                        let rest = id.0.last_chunk().copied().unwrap_or_default();
                        new.push(Pending { position, rest });
                    }
                }
            }
        }
        if new.is_empty() && missing.is_empty() {
            return Vec::new();
        }
        let mut state = self.state();
        let some = !new.is_empty();
        state.waiting.append(&mut new);
        missing.retain(|id| {
            let room = state.unknown.len() < UNKNOWN;
            if room {
                state.unknown.insert(*id)
            } else {
                !state.unknown.contains(id)
            }
        });
        drop(state);
        if some {
            self.changed.notify_all();
        }
        let tree = |id| Tree {
            id,
            position: None,
            bytes: 0,
        };
        missing.into_iter().map(tree).collect()
    }

    /// What to read next, of at most `most` bytes; waits until there is something. `None`: all is
    /// done, or has failed.
    pub(super) fn next(&self, most: u32) -> Option<Range<Wanted>> {
        let mut state = self.state();
        loop {
            if state.failed.is_some() || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(range) = state.ranges.pop_front() {
                state.busy += 1;
                return Some(range);
            }
            if !state.waiting.is_empty() {
                // The latest ones: directories below each other lie near each other.
                let from = state.waiting.len().saturating_sub(BATCH);
                let batch = state.waiting.split_off(from);
                let wanted = batch.iter().filter_map(|pending| self.wanted(pending));
                state.ranges = ranges(wanted.collect(), most).into();
                self.changed.notify_all();
                continue;
            }
            if state.busy == 0 {
                return None;
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if self.walk.cancel.is_cancelled() {
                drop(state);
                self.fail(Error::Cancelled);
                return None;
            }
        }
    }

    fn wanted(&self, pending: &Pending) -> Option<Wanted> {
        let record = self.walk.index.record(pending.position)?;
        let mut id = [0; 32];
        id[..PREFIX].copy_from_slice(&record.prefix);
        id[PREFIX..].copy_from_slice(&pending.rest);
        Some(Wanted {
            position: pending.position,
            id: Id(id),
            place: record.place,
        })
    }

    /// A range that was handed out is done.
    pub(super) fn done(&self) {
        let mut state = self.state();
        state.busy -= 1;
        let last = state.busy == 0;
        drop(state);
        if last {
            self.changed.notify_all();
        }
    }

    /// Ends it; the first failure counts.
    pub(super) fn fail(&self, error: Error) {
        self.state().failed.get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Whether to go on.
    pub(super) fn go(&self) -> Result<()> {
        if self.walk.cancel.is_cancelled() || self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// How it ended.
    pub(super) fn result(self) -> Result<()> {
        let state = self.state.into_inner();
        match state.unwrap_or_else(PoisonError::into_inner).failed {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
