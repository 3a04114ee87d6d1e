//! One restore, shared by its threads: what was asked for, what was counted, and why it ends.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Failure, PlannedChange, RestoreAction, RestoreReport, RestoreRequest, deletion::Deletion,
    dirs::OpenDirs, file::File, plan::Limits, queue::Queue, worker::Worker,
};
use crate::{
    Cancel, Progress,
    error::{Error, Result},
    files::beneath::Root,
    index::Index,
    panics::caught,
    repo::Repository,
    rows::{FileOperation, MAX_ROWS, Rows, show_path},
    seal::Sealer,
    storage::Store,
};

/// A restore in progress.
pub(super) struct Run<'a> {
    pub(super) repo: &'a Repository,
    pub(super) store: &'a Store,
    pub(super) index: &'a Index,
    pub(super) sealer: Sealer,
    pub(super) request: &'a RestoreRequest,
    pub(super) deletion: Deletion,
    pub(super) limits: Limits,
    pub(super) root: &'a Root,
    /// The mount the target is on.
    pub(super) mount: u64,
    /// Root need not ask before it sets owners.
    pub(super) is_root: bool,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) rows: Rows,
    pub(super) notes: Rows,
    pub(super) counts: Counts,
    pub(super) dirs: OpenDirs,
    /// Paths that the snapshot is of, below the target; none if it is of one directory, which is
    /// the target.
    pub(super) ways: Vec<PathBuf>,
    /// Other file systems that something is restored into, by their devices: a directory of each.
    pub(super) mounts: Mutex<BTreeMap<u64, OwnedFd>>,
    pub(super) queue: Arc<Queue>,
    /// Tells what this restore makes under other names from what others do.
    pub(super) token: u64,
    /// How many there were.
    pub(super) temporaries: AtomicU64,
    /// Files that were made and are not complete.
    pub(super) unfinished: Mutex<Vec<Arc<File>>>,
    /// Held while a blob larger than a worker's buffer is open.
    pub(super) large: Mutex<()>,
    pub(super) plan: Mutex<Plan>,
    pub(super) failure: Mutex<Option<Error>>,
}

/// What was counted.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) unchanged: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) dirs: AtomicU64,
    pub(super) deleted: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) bytes_fetched: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What a dry run would do.
#[derive(Default)]
pub(super) struct Plan {
    changes: Vec<PlannedChange>,
    dropped: u64,
}

impl Run<'_> {
    /// Whether to go on.
    pub(super) fn go(&self) -> Result<()> {
        if self.cancel.is_cancelled() || self.queue.is_stopped() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// Ends the run; the first error says why.
    pub(super) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        drop(failure);
        self.queue.stop();
    }

    /// Notes a change, if this is a dry run.
    pub(super) fn change(&self, path: &Path, action: RestoreAction) {
        if !self.request.dry_run {
            return;
        }
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if plan.changes.len() < MAX_ROWS {
            let path = show_path(path);
            plan.changes.push(PlannedChange { path, action });
        } else {
            plan.dropped += 1;
        }
    }

    /// A write-like step: a full or read-only target ends the restore.
    pub(super) fn step<T>(
        &self,
        operation: FileOperation,
        result: rustix::io::Result<T>,
    ) -> std::result::Result<T, Failure> {
        use rustix::io::Errno;
        result.map_err(|error| match error {
            Errno::NOSPC | Errno::DQUOT | Errno::ROFS => Failure::Fatal(Error::Target {
                path: self.request.target.clone(),
                source: error.into(),
            }),
            error => Failure::new(operation, error),
        })
    }

    /// Runs `walk` on this thread, and the workers beside it.
    ///
    /// # Errors
    /// What ended the run. Files that were made and are not complete are gone then.
    pub(super) fn threads(&self, walk: impl FnOnce() -> Result<()>) -> Result<()> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.limits.workers)
                .map(|_| {
                    scope.spawn(|| {
                        self.part("a worker of the restore", || {
                            Worker::new(self)?.work();
                            Ok(())
                        });
                    })
                })
                .collect();
            self.part("the walk", walk);
            self.queue.close();
            for worker in workers {
                if worker.join().is_err() {
                    self.fail(Error::Bug("a worker of the restore is gone".to_owned()));
                }
            }
        });
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if failure.is_some() || self.cancel.is_cancelled() {
            self.remove_unfinished();
        }
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Does one thread's part. Whatever ends it, a panic as well, the others hear of it: they wait
    /// for what it would have done.
    fn part(&self, what: &str, work: impl FnOnce() -> Result<()>) {
        if let Err(error) = caught(what, work) {
            self.fail(error);
        }
    }

    /// The report, but for the duration.
    pub(super) fn report(self, snapshot_id: String) -> RestoreReport {
        let Counts {
            unchanged,
            written,
            dirs,
            deleted,
            bytes,
            bytes_written,
            bytes_fetched,
        } = self.counts;
        let mut plan = self
            .plan
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        plan.changes.sort();
        let (files_unchanged, files_written) = (unchanged.into_inner(), written.into_inner());
        let (errors, errors_dropped) = self.rows.take();
        RestoreReport {
            snapshot_id,
            files: files_unchanged + files_written,
            files_unchanged,
            files_written,
            dirs: dirs.into_inner(),
            deleted: deleted.into_inner(),
            bytes: bytes.into_inner(),
            bytes_written: bytes_written.into_inner(),
            bytes_fetched: bytes_fetched.into_inner(),
            plan: plan.changes,
            plan_dropped: plan.dropped,
            errors,
            errors_dropped,
            notes: self.notes.take().0,
            duration: std::time::Duration::ZERO,
        }
    }
}
