//! One shared lock for several operations on an open repository.
//!
//! As long as any [`Hold`] lives, operations that need a shared lock work under its lock instead of
//! taking one of their own, which costs a few requests each. The lock is refreshed as any other,
//! and removed when the last hold and the last operation under it are over. Once it is lost,
//! operations under it fail as they would with a lock of their own, and whoever comes later takes
//! another.

use std::sync::{Arc, PoisonError};

use super::{Guard, Locked, Settled};
use crate::{
    Cancel, crypto,
    error::{Error, Result},
    repo::{CONFIG_LIMIT, Repository},
};

/// A shared lock that is kept. Clones share it; the last one removes it when it is dropped, in the
/// background.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Guard>);

impl Hold {
    /// Removes the lock if nobody else needs it, and waits for that. Blocks; see the module of [`Repository`].
    pub fn release(self) {
        if let Ok(guard) = Arc::try_unwrap(self.0) {
            let runtime = guard.runtime.clone();
            runtime.block_on(guard.release(&Cancel::new()));
        }
    }
}

impl Repository {
    /// Keeps a shared lock for this repository and its clones, the one that is kept already if
    /// there is one. Makes sure that it is still the repository that was opened: it may have been
    /// made anew at its place meanwhile, with another key. Blocks.
    ///
    /// # Errors
    /// `Locked`, `Cancelled`, `RepositoryChanged`, `NoRepository`, and what the store says.
    pub fn hold(&self, cancel: &Cancel) -> Result<Hold> {
        self.block_on(self.still_the_same(cancel))?;
        if let Some(guard) = self.held_guard() {
            return Ok(Hold(guard));
        }
        let guard = Arc::new(self.block_on(self.lock(Locked::Shared, cancel))?);
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Of two that came at the same time one is enough; the other is removed.
        if let Some(other) = held.upgrade().filter(|guard| guard.is_held()) {
            return Ok(Hold(other));
        }
        *held = Arc::downgrade(&guard);
        Ok(Hold(guard))
    }

    fn held_guard(&self) -> Option<Arc<Guard>> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.upgrade().filter(|guard| guard.is_held())
    }

    /// A lock for one operation under the one that is kept, if one is.
    pub(super) fn under_hold(&self, kind: Locked, cancel: &Cancel) -> Option<Guard> {
        let held = self.held_guard().filter(|_| kind == Locked::Shared)?;
        Some(Guard {
            shared: Arc::clone(&held.shared),
            cancel: cancel.child_token(),
            stop: Cancel::new(),
            task: None,
            runtime: held.runtime.clone(),
            _under: Some(held),
        })
    }

    async fn still_the_same(&self, cancel: &Cancel) -> Result<()> {
        let store = self.store().with_cancel(cancel.clone());
        let sealed = store.read("config", CONFIG_LIMIT).await?;
        let sealed = sealed.ok_or_else(|| Error::NoRepository {
            location: self.location(),
        })?;
        match self.key().open(&sealed) {
            Ok(_) => Ok(()),
            Err(crypto::Unauthentic) => Err(Error::RepositoryChanged {
                location: self.location(),
                message: "it was made anew with another key".to_owned(),
            }),
        }
    }
}

impl Guard {
    /// Whether it can be relied on now.
    fn is_held(&self) -> bool {
        *self.shared.settled.borrow() == Settled::Held && self.shared.check().is_ok()
    }
}
