//! Whose lock it is, whether it stands in the way, and whether its holder lives.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::{Locked, held, path};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, lock::Lock, unpacked},
    repo::Repository,
    storage::{Entry, Store},
};

/// A lock file has a few hundred bytes.
pub(super) const LIMIT: u64 = 64 << 10;

/// What is known of a lock's holder.
pub(super) enum Verdict {
    Alive,
    Dead,
    Unknown,
}

impl Repository {
    /// Fails with `Locked` if a live foreign lock conflicts; removes dead ones. Without an own lock
    /// file the store's clock is not known, and a lock that only it could judge is left for the
    /// second look.
    pub(super) async fn conflict(
        &self,
        store: &Store,
        kind: Locked,
        own: Option<Id>,
    ) -> Result<()> {
        let entries = store.list("locks").await?;
        let find = |id: Id| entries.iter().find(|entry| entry.name == id.to_string());
        let now = own.and_then(find).and_then(|entry| entry.modified);
        if own.is_some_and(|id| find(id).is_none()) {
            return Err(Error::LockLost {
                location: self.location(),
                message: "its file was removed at once".to_owned(),
            });
        }
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let Some(id) = Id::parse(&entry.name).filter(|id| Some(*id) != own) else {
                continue;
            };
            let Some(lock) = self.read_lock(store, id).await? else {
                continue;
            };
            let conflicts = match &lock {
                Ok(lock) => lock.exclusive || kind == Locked::Exclusive,
                Err(_) => true,
            };
            if lock
                .as_ref()
                .is_ok_and(|lock| self.is_predecessors(id, lock))
            {
                // It would hold up others, even where it does not conflict with us.
                store.delete(&path(id)).await?;
                continue;
            }
            if !conflicts {
                continue;
            }
            match self.judge(id, entry, lock.as_ref().ok(), now) {
                Verdict::Dead => {
                    tracing::info!(%id, "removing the lock of a dead holder");
                    store.delete(&path(id)).await?;
                }
                Verdict::Unknown if own.is_none() => {}
                Verdict::Alive | Verdict::Unknown => {
                    return Err(match lock {
                        Ok(lock) => Error::Locked {
                            location: self.location(),
                            holder: lock.holder(),
                            since: lock.time.escape_debug().to_string(),
                        },
                        Err(why) => Error::Locked {
                            location: self.location(),
                            holder: format!("an unreadable lock file ({why})"),
                            since: entry
                                .modified
                                .map_or("an unknown time".to_owned(), |t| t.to_string()),
                        },
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether it was left by a process with exactly our identity, which we have taken over.
    pub(super) fn is_predecessors(&self, id: Id, lock: &Lock) -> bool {
        let holder = &self.options().holder;
        let same = lock.hostname == holder.host_name && lock.pid == i64::from(holder.pid);
        same && !held().contains(&id)
    }

    /// `now` is the store's time.
    pub(super) fn judge(
        &self,
        id: Id,
        entry: &Entry,
        lock: Option<&Lock>,
        now: Option<Timestamp>,
    ) -> Verdict {
        let options = self.options();
        if held().contains(&id) {
            return Verdict::Alive;
        }
        // Another process beside us, under our name: only time can tell.
        let other = lock.filter(|lock| lock.hostname != options.holder.host_name);
        if let Some((lock, liveness)) = other.zip(options.liveness.as_ref()) {
            match liveness.is_alive(&lock.hostname) {
                Some(false) => return Verdict::Dead,
                Some(true) => return Verdict::Alive,
                None => {}
            }
        }
        let stale =
            SignedDuration::try_from(options.lock_timing.stale).unwrap_or(SignedDuration::MAX);
        match now.zip(entry.modified) {
            Some((now, then)) if now.duration_since(then) > stale => Verdict::Dead,
            _ => Verdict::Unknown,
        }
    }

    /// `None` if it is gone or still being written.
    pub(super) async fn read_lock(
        &self,
        store: &Store,
        id: Id,
    ) -> Result<Option<Result<Lock, Invalid>>> {
        let sealed = match store.read(&path(id), LIMIT).await {
            Ok(Some(sealed)) if sealed.is_empty() => return Ok(None),
            Ok(Some(sealed)) => sealed,
            Ok(None) => return Ok(None),
            Err(Error::ObjectTooLarge { .. }) => Bytes::new(),
            Err(error) => return Err(error),
        };
        Ok(Some(
            unpacked::decode(self.key(), &sealed, unpacked::MAX_DOCUMENT)
                .and_then(|json| Lock::decode(&json)),
        ))
    }
}
