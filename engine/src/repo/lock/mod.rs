//! Locks in restic's format: who may work on a repository at the same time.
//!
//! Order of acquiring: look for conflicts; write the own lock file; wait a moment; look again, and
//! step back if somebody was faster. Of two rivals the one whose file is written last sees the
//! other's, if listings show what was written before them: then nobody waits
//! ([`LockTiming::settle`]). Then a task writes a new file every few minutes and removes the old
//! one. Who only reads at first need not wait for the second look ([`Repository::lock_early`]): the
//! first write does. Order of releasing: stop the task, remove the files. A guard that is dropped
//! instead removes them in the background.
//!
//! A foreign lock is judged dead ([`judge`]), and removed, only if the caller's [`HolderLiveness`]
//! says its holder is, if a predecessor with exactly our identity left it, or if the **store's own
//! clock** shows that it was not refreshed for half an hour. Clocks of two machines are never
//! compared. The own lock is lost when its file is gone or its refresh is overdue; then nothing may
//! be written any more ([`Guard::checker`]).
//!
//! [`HolderLiveness`]: super::HolderLiveness

mod hold;
mod judge;
mod own;
mod retry;
mod unlock;

#[cfg(test)]
mod race_tests;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, task::JoinHandle};

pub use self::hold::Hold;
use self::own::{Settled, Shared, State, held, path, since_boot};
use super::Repository;
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{lock::Lock, unpacked},
    storage::Store,
};

/// For listings that show a little late what was written. As restic waits.
const SETTLE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_CANCELLED: Duration = Duration::from_millis(500);

/// When locks are refreshed and given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockTiming {
    /// Time between refreshes.
    pub refresh: Duration,
    /// Without a successful refresh for this long the own lock counts as lost.
    pub overdue: Duration,
    /// A foreign lock not refreshed for this long, by the store's clock, is dead.
    pub stale: Duration,
    /// Wait between writing the own lock and looking for faster rivals. Unless said otherwise none
    /// where a listing shows for certain what was written before it, and restic's 200 ms elsewhere.
    pub settle: Option<Duration>,
}

impl Default for LockTiming {
    fn default() -> Self {
        Self {
            refresh: Duration::from_mins(5),
            overdue: Duration::from_mins(20),
            stale: Duration::from_mins(30),
            settle: None,
        }
    }
}

impl LockTiming {
    /// How long to wait in this store.
    async fn settling(&self, store: &Store) -> Duration {
        match self.settle {
            Some(settle) => settle,
            None if store.is_coherent("locks").await => Duration::ZERO,
            None => SETTLE,
        }
    }
}

/// Whether a lock allows others beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// Beside other shared locks: backup, restore, check.
    Shared,
    /// Alone: whatever removes or rewrites data.
    Exclusive,
}

/// A held lock.
#[derive(Debug)]
pub(crate) struct Guard {
    shared: Arc<Shared>,
    cancel: Cancel,
    /// Ends the task between two requests that change anything.
    stop: Cancel,
    task: Option<JoinHandle<()>>,
    runtime: tokio::runtime::Handle,
    /// The kept lock under which this one is, which has to live as long.
    _under: Option<Arc<Guard>>,
}

impl Guard {
    /// Something that waits until the lock is held for certain, and fails with `LockLost` once it
    /// can no longer be relied on. Blocks: not for a worker of a runtime.
    pub(crate) fn checker(&self) -> impl Fn() -> Result<()> + Clone + Send + Sync + use<> {
        let (shared, runtime) = (Arc::clone(&self.shared), self.runtime.clone());
        move || {
            if *shared.settled.borrow() == Settled::Waiting {
                runtime.block_on(shared.settled());
            }
            shared.check()
        }
    }

    /// Waits until the lock is held for certain.
    pub(crate) async fn held(&self) -> Result<()> {
        self.shared.settled().await;
        if let Some(error) = self.shared.state().refused.take() {
            return Err(error);
        }
        match *self.shared.settled.borrow() {
            Settled::Refused => self.shared.check(),
            Settled::Held | Settled::Waiting => Ok(()),
        }
    }

    /// Cancelled with the operation, and when the lock turns out not to be had: what was begun
    /// early is in vain then.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The time in the newest lock file, by our clock, and when the store saw it written, by its
    /// own. `None` if there is no file, or the store tells no times.
    pub(crate) async fn written(&self) -> Result<Option<(Timestamp, Timestamp)>> {
        let newest = self.shared.state().newest;
        let Some((id, ours)) = newest else {
            return Ok(None);
        };
        let meta = self.shared.store.stat(&path(id)).await?;
        let stores = meta.and_then(|meta| meta.modified);
        Ok(stores.map(|stores| (ours, stores)))
    }

    /// What came of an operation: that somebody else was faster explains whatever else failed.
    pub(crate) fn outcome<T>(&self, done: Result<T>) -> Result<T> {
        done.map_err(|error| self.shared.state().refused.take().unwrap_or(error))
    }

    /// Removes the lock, and waits for that only so long: after a cancel hardly at all, for the
    /// store may not answer. The removal goes on in the background; a lock it cannot remove goes
    /// stale by itself.
    pub(crate) async fn release(mut self, cancel: &Cancel) {
        if let Some(removal) = self.start_removal() {
            drop(tokio::time::timeout(patience(cancel), removal).await);
        }
    }

    fn start_removal(&mut self) -> Option<JoinHandle<()>> {
        let task = self.task.take()?;
        // What is being written is waited for: it could arrive after its removal.
        self.stop.cancel();
        let shared = Arc::clone(&self.shared);
        shared.settle(Err(Error::Cancelled));
        Some(self.runtime.spawn(async move {
            drop(task.await);
            shared.remove_all().await;
        }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.start_removal());
    }
}

impl Repository {
    /// Takes a lock, or says `Locked` at once.
    async fn try_lock(&self, kind: Locked, cancel: &Cancel) -> Result<Guard> {
        let guard = self.try_lock_early(kind, cancel).await?;
        match guard.held().await {
            Ok(()) => Ok(guard),
            Err(error) => {
                guard.release(cancel).await;
                Err(error)
            }
        }
    }

    /// The same, before the second look.
    async fn try_lock_early(&self, kind: Locked, cancel: &Cancel) -> Result<Guard> {
        let timing = self.options().lock_timing;
        if self.options().no_lock {
            return self.unlocked(kind, cancel);
        }
        let store = self.store().with_cancel(cancel.clone());
        self.conflict(&store, kind, None).await?;
        let (mut guard, shared) = self.guard(Settled::Waiting, None, cancel);
        let (id, sealed) = self.new_lock(kind)?;
        let written = Arc::clone(&shared);
        let mut writing = self
            .runtime()
            .spawn(async move { written.write(id, sealed).await });
        let written = tokio::select! {
            () = cancel.cancelled() => Err(Error::Cancelled),
            written = &mut writing => written.unwrap_or_else(|error| Err(Error::Bug(error.to_string()))),
        };
        if let Err(error) = written {
            // What is on its way may still arrive.
            let removal = self.runtime().spawn(async move {
                if !writing.is_finished() {
                    drop(writing.await);
                }
                shared.remove_all().await;
            });
            drop(tokio::time::timeout(patience(cancel), removal).await);
            return Err(error);
        }
        let (repo, cancel, early) = (self.clone(), cancel.clone(), guard.cancel.clone());
        let stop = guard.stop.clone();
        guard.task = Some(self.runtime().spawn(async move {
            let look = async {
                tokio::time::sleep(timing.settling(repo.store()).await).await;
                repo.conflict(repo.store(), kind, Some(id)).await
            };
            let look = tokio::select! {
                () = cancel.cancelled() => Err(Error::Cancelled),
                () = stop.cancelled() => Err(Error::Cancelled),
                looked = look => looked,
            };
            let held = look.is_ok();
            shared.settle(look);
            if held {
                keep(repo, shared, kind, timing, &stop).await;
            } else {
                early.cancel();
                // At once: until then it stands in the way of others.
                shared.remove_all().await;
            }
        }));
        Ok(guard)
    }

    /// Not the store with the caller's cancel: a cancelled operation still removes its lock.
    fn guard(
        &self,
        settled: Settled,
        lost: Option<String>,
        cancel: &Cancel,
    ) -> (Guard, Arc<Shared>) {
        let shared = Arc::new(Shared {
            store: self.store().clone(),
            overdue: self.options().lock_timing.overdue,
            state: Mutex::new(State {
                files: Vec::new(),
                newest: None,
                refreshed: since_boot(),
                lost,
                refused: None,
            }),
            settled: watch::Sender::new(settled),
        });
        let guard = Guard {
            shared: Arc::clone(&shared),
            cancel: cancel.child_token(),
            stop: Cancel::new(),
            task: None,
            runtime: self.runtime().clone(),
            _under: None,
        };
        (guard, shared)
    }

    /// For who may not or cannot write: allows reading, and nothing else.
    fn unlocked(&self, kind: Locked, cancel: &Cancel) -> Result<Guard> {
        let lost = "the repository was opened without locks, for reading only".to_owned();
        if kind == Locked::Exclusive {
            return Err(Error::Refused {
                location: self.location(),
                what: "a change",
                message: lost,
                hint: "allow locks",
            });
        }
        Ok(self.guard(Settled::Held, Some(lost), cancel).0)
    }

    fn new_lock(&self, kind: Locked) -> Result<(Id, Vec<u8>)> {
        let holder = &self.options().holder;
        Lock {
            time: String::new(),
            exclusive: kind == Locked::Exclusive,
            hostname: holder.host_name.clone(),
            username: holder.user_name.clone(),
            pid: i64::from(holder.pid),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
        .at(Timestamp::now())
        .encode()
        .and_then(|json| unpacked::encode(self.key(), &json, self.version()))
        .map_err(|why| self.damaged("new lock", &why))
    }
}

/// Refreshes until stopped or lost.
async fn keep(
    repo: Repository,
    shared: Arc<Shared>,
    kind: Locked,
    timing: LockTiming,
    stop: &Cancel,
) {
    let mut wait = timing.refresh;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let refreshed = match repo.new_lock(kind) {
            Ok((id, sealed)) => shared.refresh(id, sealed).await,
            Err(error) => Err(error),
        };
        wait = match refreshed {
            Ok(()) if shared.check().is_err() => return,
            Ok(()) => timing.refresh,
            Err(error) => {
                tracing::warn!(%error, "a lock could not be refreshed");
                timing.refresh.min(Duration::from_secs(20))
            }
        };
    }
}

/// How long the end of an operation waits for its lock to be removed.
fn patience(cancel: &Cancel) -> Duration {
    if cancel.is_cancelled() {
        PATIENCE_CANCELLED
    } else {
        PATIENCE
    }
}
