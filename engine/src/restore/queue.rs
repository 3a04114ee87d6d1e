//! What there is to do, and what is on its way from the store.
//!
//! Ranges are asked for in order, several at a time and within a bound of bytes, before a worker
//! needs them. Whoever plans waits while there is enough to do. Nobody waits longer than a moment
//! without looking whether the run was stopped or cancelled.

use std::{
    collections::VecDeque,
    mem,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use tokio::runtime::Handle;

use super::{
    buffers::Buffers,
    compare::Comparison,
    file::File,
    plan::{Limits, Range, Want},
};
use crate::{Cancel, crypto::Id, error::Result, format::pack, panics, storage::Store};

/// Ranges asked for at the same time.
const PARALLEL: usize = 8;
/// Jobs waiting that are enough.
const JOBS: usize = 64;
const LOOK: Duration = Duration::from_millis(50);

/// One thing to do.
pub(super) enum Job {
    /// Make files without content.
    Files(Vec<Arc<File>>),
    /// Compare what is there.
    Compare(Comparison),
    /// Write what was fetched.
    Range(Range, Result<Vec<u8>>),
}

/// Jobs, and ranges to be fetched. See the module.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
    store: Store,
    runtime: Handle,
    cancel: Cancel,
    limits: Limits,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    ready: VecDeque<(Range, Result<Vec<u8>>)>,
    /// Memory for ranges.
    buffers: Buffers,
    ranges: VecDeque<(Id, Range)>,
    /// Blobs in `ranges`.
    waiting: usize,
    /// Asked for and not there yet.
    asked: usize,
    /// Asked for or there, and not written yet.
    flying: usize,
    flying_bytes: u64,
    /// Comparisons not done yet.
    comparing: usize,
    /// What the comparisons found missing.
    found: Vec<Want>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(store: Store, runtime: Handle, cancel: Cancel, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            store,
            runtime,
            cancel,
            limits,
        })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Nothing more is done.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Nothing more will be added.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn over(&self) -> bool {
        self.is_stopped() || self.cancel.is_cancelled()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, LOOK)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
    }

    /// Adds files without content. Waits while there is enough to do.
    pub(super) fn files(&self, files: Vec<Arc<File>>) {
        let mut state = self.lock();
        while state.jobs.len() > JOBS && !self.over() {
            state = self.wait(state);
        }
        state.jobs.push_back(Job::Files(files));
        drop(state);
        self.changed.notify_all();
    }

    /// Has everything compared, and returns what is missing.
    pub(super) fn compare(&self, all: Vec<Comparison>) -> Vec<Want> {
        let mut state = self.lock();
        state.comparing += all.len();
        state.jobs.extend(all.into_iter().map(Job::Compare));
        self.changed.notify_all();
        while state.comparing > 0 && !self.over() {
            state = self.wait(state);
        }
        mem::take(&mut state.found)
    }

    /// One comparison is done.
    pub(super) fn compared(&self, missing: Vec<Want>) {
        let mut state = self.lock();
        state.comparing = state.comparing.saturating_sub(1);
        state.found.extend(missing);
        drop(state);
        self.changed.notify_all();
    }

    /// Adds ranges with the names of their packs. Waits while there is enough to do.
    pub(super) fn ranges(self: &Arc<Self>, ranges: Vec<(Id, Range)>) {
        let mut state = self.lock();
        while state.waiting > self.limits.window && !self.over() {
            state = self.wait(state);
        }
        for (pack, range) in ranges {
            state.waiting += range.wants.len();
            state.ranges.push_back((pack, range));
        }
        self.ask(&mut state);
        drop(state);
        self.changed.notify_all();
    }

    /// The next thing to do; `None` if there is nothing and will not be.
    pub(super) fn next(self: &Arc<Self>) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if self.over() {
                return None;
            }
            self.ask(&mut state);
            if let Some(job) = state.jobs.pop_front() {
                if state.jobs.len() == JOBS {
                    self.changed.notify_all();
                }
                return Some(job);
            }
            if let Some((range, data)) = state.ready.pop_front() {
                return Some(Job::Range(range, data));
            }
            if state.closed && state.ranges.is_empty() && state.asked == 0 {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// A range was written; its memory is for the next one.
    pub(super) fn written(self: &Arc<Self>, bytes: u32, buffer: Vec<u8>) {
        let mut state = self.lock();
        let most = usize::try_from(self.limits.in_flight).unwrap_or(usize::MAX);
        state.buffers.give(buffer, most);
        state.flying -= 1;
        state.flying_bytes -= u64::from(bytes);
        self.ask(&mut state);
    }

    /// Asks for ranges as far as the bounds allow.
    fn ask(self: &Arc<Self>, state: &mut State) {
        while let Some((_, range)) = state.ranges.front() {
            let bytes = u64::from(range.length);
            let fits =
                state.flying < PARALLEL && state.flying_bytes + bytes <= self.limits.in_flight;
            if !fits && state.flying > 0 {
                return;
            }
            let Some((pack, range)) = state.ranges.pop_front() else {
                return;
            };
            state.waiting -= range.wants.len();
            state.asked += 1;
            state.flying += 1;
            state.flying_bytes += bytes;
            let queue = Arc::clone(self);
            let buffer = state.buffers.take(range.length as usize);
            let capacity = buffer.capacity();
            drop(self.runtime.spawn(async move {
                let path = pack::path(&pack);
                let (start, length) = (u64::from(range.start), u64::from(range.length));
                let read = queue.store.read_range_into(&path, start, length, buffer);
                // A worker waits for it, whatever becomes of it.
                let data = AssertUnwindSafe(read)
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|panic| Err(panics::error("a read", panic.as_ref())));
                let mut state = queue.lock();
                state.asked -= 1;
                let came = data.as_ref().map_or(0, Vec::capacity);
                state.buffers.changed(capacity, came);
                state.ready.push_back((range, data));
                drop(state);
                queue.changed.notify_all();
            }));
            // Whoever plans may go on.
            self.changed.notify_all();
        }
    }
}
