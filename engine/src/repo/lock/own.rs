//! The files of a lock that is ours, and whether it can still be relied on.
//!
//! A refresh writes a new file before it removes the old one. A file whose writing failed may be
//! there nevertheless: it is removed with the others.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::time::ClockId;
use tokio::sync::watch;

use crate::{
    crypto::Id,
    error::{Error, Result},
    storage::Store,
};

/// Lock files this process holds: a file with our identity that is not among them was left by a
/// predecessor. Process-wide, because the identity is.
static HELD: LazyLock<Mutex<HashSet<Id>>> = LazyLock::new(Mutex::default);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) overdue: Duration,
    pub(super) state: Mutex<State>,
    pub(super) settled: watch::Sender<Settled>,
}

/// What the second look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Waiting,
    Held,
    /// [`State::refused`] says why.
    Refused,
}

#[derive(Debug)]
pub(super) struct State {
    /// All that were written, or whose writing failed with nobody knowing how far it got.
    pub(super) files: Vec<Id>,
    /// The one that is there for certain, and the time that is written in it.
    pub(super) newest: Option<(Id, Timestamp)>,
    pub(super) refreshed: Duration,
    pub(super) lost: Option<String>,
    /// Why the lock could not be had after all, for whom it belongs to.
    pub(super) refused: Option<Error>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the second look is over.
    pub(super) async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        // It cannot fail: the sender is ours.
        drop(settled.wait_for(|now| *now != Settled::Waiting).await);
    }

    /// Notes what the second look found, unless that is known.
    pub(super) fn settle(&self, look: Result<()>) {
        self.settled.send_if_modified(|settled| {
            if *settled != Settled::Waiting {
                return false;
            }
            *settled = match look {
                Ok(()) => Settled::Held,
                Err(error) => {
                    let mut state = self.state();
                    state.lost = Some("somebody else was faster".to_owned());
                    state.refused = Some(error);
                    Settled::Refused
                }
            };
            true
        });
    }

    pub(super) fn check(&self) -> Result<()> {
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

    pub(super) async fn remove_all(&self) {
        // One by one: who is stopped here leaves the rest to the next who is called.
        loop {
            let Some(id) = self.state().files.last().copied() else {
                return;
            };
            if let Err(error) = self.store.delete(&path(id)).await {
                tracing::warn!(%id, %error, "a lock file could not be removed");
            }
            self.state().files.retain(|file| *file != id);
            held().remove(&id);
        }
    }

    /// Writes a lock file and makes it one of ours.
    pub(super) async fn write(&self, id: Id, sealed: Vec<u8>) -> Result<()> {
        held().insert(id);
        self.state().files.push(id);
        let (started, now) = (since_boot(), Timestamp::now());
        self.store.write(&path(id), Bytes::from(sealed)).await?;
        let mut state = self.state();
        state.refreshed = started;
        state.newest = Some((id, now));
        Ok(())
    }

    pub(super) async fn refresh(&self, id: Id, sealed: Vec<u8>) -> Result<()> {
        let (old, newest) = {
            let state = self.state();
            (state.files.clone(), state.newest)
        };
        // Others may be left of a failed refresh.
        if let Some((newest, _)) = newest
            && self.store.stat(&path(newest)).await?.is_none()
        {
            self.state().lost = Some("its file was removed by somebody".to_owned());
            return Ok(());
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

pub(super) fn held() -> MutexGuard<'static, HashSet<Id>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn path(id: Id) -> String {
    format!("locks/{id}")
}

/// Time since boot, including time asleep: a suspended machine's lock grows old as well.
pub(super) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}
