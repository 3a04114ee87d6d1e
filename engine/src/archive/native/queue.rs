//! What is to be done next, for any number of workers.
//!
//! Work comes in four kinds, and those that hold the most are finished first: chunks of a stream,
//! large files being read (any number of workers on one), large files waiting, batches of entries.
//! Whoever brings work waits when there is enough.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    Run,
    large::{Active, Large},
    packer::LOOK,
    stream::Chunk,
    worker::Batch,
};
use crate::error::Result;

/// Batches that wait at most, for each worker.
const AHEAD: usize = 4;
/// Large files that wait at most before the walk does.
const LARGE: usize = 256;

/// The queue of one run.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    workers: usize,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    batches: VecDeque<Batch>,
    large: VecDeque<Large>,
    active: Vec<Arc<Active>>,
    /// Workers that may still add work.
    busy: usize,
    walked: bool,
}

/// One thing to do.
pub(super) enum Work {
    Chunk(Chunk),
    Batch(Batch),
    Open(Large),
    Join(Arc<Active>),
}

impl Queue {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            workers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, LOOK)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
    }

    /// Adds a batch, when there is room.
    pub(super) fn push(&self, run: &Run<'_>, batch: Batch) -> Result<()> {
        let mut state = self.lock();
        while state.batches.len() >= AHEAD * self.workers || state.large.len() >= LARGE {
            run.go()?;
            state = self.wait(state);
        }
        state.batches.push_back(batch);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Adds a chunk, when there is room.
    pub(super) fn push_chunk(&self, run: &Run<'_>, chunk: Chunk) -> Result<()> {
        let mut state = self.lock();
        while state.chunks.len() >= self.workers {
            run.go()?;
            state = self.wait(state);
        }
        state.chunks.push_back(chunk);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until all work that was brought is done.
    pub(super) fn drained(&self, run: &Run<'_>) -> Result<()> {
        let mut state = self.lock();
        while state.busy > 0 || !state.chunks.is_empty() {
            run.go()?;
            state = self.wait(state);
        }
        Ok(())
    }

    /// Adds a large file.
    pub(super) fn push_large(&self, large: Large) {
        self.lock().large.push_back(large);
        self.changed.notify_all();
    }

    /// Lets other workers join a large file.
    pub(super) fn activate(&self, active: Arc<Active>) {
        self.lock().active.push(active);
        self.changed.notify_all();
    }

    /// Says that nobody else needs to join.
    pub(super) fn deactivate(&self, active: &Arc<Active>) {
        self.lock()
            .active
            .retain(|other| !Arc::ptr_eq(other, active));
    }

    /// Says that the walk is over.
    pub(super) fn walked(&self) {
        self.lock().walked = true;
        self.changed.notify_all();
    }

    /// The next thing to do, or `None` when all is done. `was_busy`: the caller just finished
    /// something.
    pub(super) fn next(&self, run: &Run<'_>, was_busy: bool) -> Result<Option<Work>> {
        let mut state = self.lock();
        if was_busy {
            state.busy -= 1;
            if state.busy == 0 {
                self.changed.notify_all();
            }
        }
        loop {
            run.go()?;
            let work = if let Some(chunk) = state.chunks.pop_front() {
                Some(Work::Chunk(chunk))
            } else if let Some(active) = state.active.first() {
                Some(Work::Join(Arc::clone(active)))
            } else if let Some(large) = state.large.pop_front() {
                Some(Work::Open(large))
            } else {
                state.batches.pop_front().map(Work::Batch)
            };
            if work.is_some() {
                state.busy += 1;
                drop(state);
                self.changed.notify_all();
                return Ok(work);
            }
            if state.walked && state.busy == 0 {
                drop(state);
                self.changed.notify_all();
                return Ok(None);
            }
            state = self.wait(state);
        }
    }
}
