//! Counters of a running operation.
//!
//! Does: let any number of threads count, and any number of observers read. Does not: print, notify
//! or keep time. Never fails.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Shared counters of one operation. Clones are cheap and count together.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    files_done: AtomicU64,
    files_total: AtomicU64,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_uploaded: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgressCounts {
    /// Files finished.
    pub files_done: u64,
    /// Files known so far; grows while the source is still being scanned.
    pub files_total: u64,
    /// Bytes of file content finished, whether read or known to be unchanged.
    pub bytes_done: u64,
    /// Bytes of file content known so far.
    pub bytes_total: u64,
    /// Bytes written to the store.
    pub bytes_uploaded: u64,
}

impl Progress {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counters now. Each is exact; together they may be of slightly different moments.
    pub fn snapshot(&self) -> ProgressCounts {
        ProgressCounts {
            files_done: self.0.files_done.load(Ordering::Relaxed),
            files_total: self.0.files_total.load(Ordering::Relaxed),
            bytes_done: self.0.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.0.bytes_total.load(Ordering::Relaxed),
            bytes_uploaded: self.0.bytes_uploaded.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn file_done(&self) {
        self.0.files_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bytes_done(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn found(&self, files: u64, bytes: u64) {
        self.0.files_total.fetch_add(files, Ordering::Relaxed);
        self.0.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Starts counting anew; what was uploaded stays so.
    pub(crate) fn reset(&self) {
        let counters = &self.0;
        for counter in [
            &counters.files_done,
            &counters.files_total,
            &counters.bytes_done,
            &counters.bytes_total,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// At the end nothing is left: what was found but not done has vanished or failed, and is a
    /// row.
    pub(crate) fn settle(&self) {
        let counts = self.snapshot();
        self.0
            .files_total
            .store(counts.files_done, Ordering::Relaxed);
        self.0
            .bytes_total
            .store(counts.bytes_done, Ordering::Relaxed);
    }

    pub(crate) fn uploaded(&self, bytes: u64) {
        self.0.bytes_uploaded.fetch_add(bytes, Ordering::Relaxed);
    }
}
