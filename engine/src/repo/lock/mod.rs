//! Locks in restic's format: who may work on a repository at the same time.
//!
//! Order of acquiring: look for conflicts; write the own lock file; wait a moment; look again, and step
//! back if somebody was faster. Then a task writes a new file every few minutes and removes the old one.
//! Order of releasing: stop the task, remove the files. A guard that is dropped instead removes them in
//! the background.
//!
//! A foreign lock is judged dead ([`judge`]), and removed, only if the caller's [`HolderLiveness`] says its holder
//! is, if a predecessor with exactly our identity left it, or if the **store's own clock** shows that it was not
//! refreshed for half an hour. Clocks of two machines are never compared. The own lock is lost when its
//! file is gone or its refresh is overdue; then nothing may be written any more ([`Guard::checker`]).
//!
//! [`HolderLiveness`]: super::HolderLiveness

mod judge;
mod retry;
mod unlock;

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::time::ClockId;
use tokio::task::JoinHandle;

use super::Repository;
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{lock::Lock, unpacked},
    storage::Store,
};

/// How long the end of an operation waits for its lock to be removed.
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
    /// Wait between writing the own lock and looking for faster rivals.
    pub settle: Duration,
}

impl Default for LockTiming {
    fn default() -> Self {
        Self {
            refresh: Duration::from_mins(5),
            overdue: Duration::from_mins(20),
            stale: Duration::from_mins(30),
            settle: Duration::from_millis(200),
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

/// Lock files this process holds: a file with our identity that is not among them was left by a
/// predecessor. Process-wide, because the identity is.
static HELD: LazyLock<Mutex<HashSet<Id>>> = LazyLock::new(Mutex::default);

/// A held lock.
#[derive(Debug)]
pub(crate) struct Guard {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
    runtime: tokio::runtime::Handle,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    overdue: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files: Vec<Id>,
    refreshed: Duration,
    lost: Option<String>,
}

impl Guard {
    /// Something that fails with `LockLost` once the lock can no longer be relied on.
    pub(crate) fn checker(&self) -> impl Fn() -> Result<()> + Clone + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.check()
    }

    /// Removes the lock, and waits for that only so long: after a cancel hardly at all, for the store may
    /// not answer. The removal goes on in the background; a lock it cannot remove goes stale by itself.
    pub(crate) async fn release(mut self, cancel: &Cancel) {
        let patience = if cancel.is_cancelled() {
            PATIENCE_CANCELLED
        } else {
            PATIENCE
        };
        if let Some(removal) = self.start_removal() {
            drop(tokio::time::timeout(patience, removal).await);
        }
    }

    fn start_removal(&mut self) -> Option<JoinHandle<()>> {
        let task = self.task.take()?;
        task.abort();
        let shared = Arc::clone(&self.shared);
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

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<()> {
        let state = self.state();
        let message = match &state.lost {
            Some(lost) => lost.clone(),
            None if since_boot().saturating_sub(state.refreshed) > self.overdue => {
                "it could not be refreshed in time".to_owned()
            }
            None => return Ok(()),
        };
        Err(Error::LockLost {
            location: self.store.location(),
            message,
        })
    }

    async fn remove_all(&self) {
        let files = std::mem::take(&mut self.state().files);
        for id in files {
            if let Err(error) = self.store.delete(&path(id)).await {
                tracing::warn!(%id, %error, "a lock file could not be removed");
            }
            held().remove(&id);
        }
    }

    /// Writes a lock file and makes it one of ours.
    async fn write(&self, id: Id, sealed: Vec<u8>) -> Result<()> {
        held().insert(id);
        self.state().files.push(id);
        let started = since_boot();
        self.store.write(&path(id), Bytes::from(sealed)).await?;
        self.state().refreshed = started;
        Ok(())
    }

    async fn refresh(&self, id: Id, sealed: Vec<u8>) -> Result<()> {
        let old: Vec<Id> = self.state().files.clone();
        for id in &old {
            // Only the newest must be there; older ones may be left of a failed refresh.
            if Some(id) == old.last() && self.store.stat(&path(*id)).await?.is_none() {
                self.state().lost = Some("its file was removed by somebody".to_owned());
                return Ok(());
            }
        }
        self.write(id, sealed).await?;
        for id in old {
            self.store.delete(&path(id)).await?;
            self.state().files.retain(|file| *file != id);
            held().remove(&id);
        }
        Ok(())
    }
}

impl Repository {
    /// Takes a lock, or says `Locked` at once.
    async fn try_lock(&self, kind: Locked, cancel: &Cancel) -> Result<Guard> {
        let timing = self.options().lock_timing;
        if self.options().no_lock {
            return self.unlocked(kind);
        }
        // Not the store with the caller's cancel: a cancelled operation still removes its lock.
        let shared = Arc::new(Shared {
            store: self.store().clone(),
            overdue: timing.overdue,
            state: Mutex::new(State {
                files: Vec::new(),
                refreshed: since_boot(),
                lost: None,
            }),
        });
        self.conflict(kind, None).await?;
        let mut guard = Guard {
            shared: Arc::clone(&shared),
            task: None,
            runtime: self.runtime().clone(),
        };
        let acquired = async {
            let (id, sealed) = self.new_lock(kind)?;
            shared.write(id, sealed).await?;
            tokio::select! {
                () = cancel.cancelled() => return Err(Error::Cancelled),
                () = tokio::time::sleep(timing.settle) => {}
            }
            self.conflict(kind, Some(id)).await
        };
        if let Err(error) = acquired.await {
            shared.remove_all().await;
            return Err(error);
        }
        guard.task = Some(
            self.runtime()
                .spawn(keep(self.clone(), shared, kind, timing)),
        );
        Ok(guard)
    }

    /// For who may not or cannot write: allows reading, and nothing else.
    fn unlocked(&self, kind: Locked) -> Result<Guard> {
        let lost = "the repository was opened without locks, for reading only".to_owned();
        if kind == Locked::Exclusive {
            return Err(Error::Refused {
                location: self.location(),
                what: "a change",
                message: lost,
                hint: "allow locks",
            });
        }
        Ok(Guard {
            shared: Arc::new(Shared {
                store: self.store().clone(),
                overdue: Duration::ZERO,
                state: Mutex::new(State {
                    files: Vec::new(),
                    refreshed: since_boot(),
                    lost: Some(lost),
                }),
            }),
            task: None,
            runtime: self.runtime().clone(),
        })
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

/// Refreshes until aborted or lost.
async fn keep(repo: Repository, shared: Arc<Shared>, kind: Locked, timing: LockTiming) {
    let mut wait = timing.refresh;
    loop {
        tokio::time::sleep(wait).await;
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

fn held() -> MutexGuard<'static, HashSet<Id>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(id: Id) -> String {
    format!("locks/{id}")
}

/// Time since boot, including time asleep: a suspended machine's lock grows old as well.
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}
