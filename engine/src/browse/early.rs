//! Reading while a lock settles.
//!
//! A list that is read before the lock is held may be from before somebody else's changes. So it is
//! read early, and once the lock is held the index files are listed again: if one that was read is
//! gone, all is done anew. New ones do not matter: what was read is what there was a moment ago.
//! Nothing is told before that.
//!
//! An operation that tells as it goes is divided: preparing is early, the rest is not
//! ([`reading`]). One whose result is told at its end runs as a whole beside the wait
//! ([`reading_all`]).

use std::{collections::BTreeSet, sync::mpsc};

use crate::{
    Cancel,
    ceiling::{Beside, Ceiling},
    crypto::Id,
    error::{Error, Result},
    index::{self, Copies, Index, Packs},
    repo::{Locked, Repository, Snapshot, SnapshotFilter, lock::Guard},
    storage::Store,
};

/// What reading may use.
pub(crate) struct Reader<'a> {
    repo: &'a Repository,
    /// Its requests end with the operation.
    pub(crate) store: Store,
    /// Ends the operation, or this attempt at it.
    pub(crate) cancel: Cancel,
    /// Who wants to know what was read.
    listed: Option<mpsc::Sender<BTreeSet<Id>>>,
}

impl Reader<'_> {
    /// The snapshots named, in the order of their names, or all that the filter lets through,
    /// oldest first. To be read before the index, which is right beside running backups.
    pub(crate) fn snapshots(
        &self,
        names: &[String],
        filter: &SnapshotFilter,
    ) -> Result<Vec<Snapshot>> {
        let all = |latest: bool| -> Result<Vec<Snapshot>> {
            let mut snapshots = self.repo.snapshots_in(&self.store)?;
            snapshots.retain(|snapshot| filter.matches(snapshot));
            Ok(if latest {
                snapshots.split_off(snapshots.len().saturating_sub(1))
            } else {
                snapshots
            })
        };
        if names.is_empty() {
            return all(false);
        }
        let mut found: Vec<Snapshot> = Vec::new();
        for name in names {
            let snapshots = match name.as_str() {
                "latest" => all(true)?,
                _ => Vec::new(),
            };
            let snapshots = if snapshots.is_empty() {
                vec![self.repo.find_snapshot_in(&self.store, name)?]
            } else {
                snapshots
            };
            for snapshot in snapshots {
                // Named twice, it counts once.
                if found.iter().all(|other| other.id != snapshot.id) {
                    found.push(snapshot);
                }
            }
        }
        found.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    /// The index of these packs, with so many places of each blob; and what there is of so many
    /// bytes of memory beside it.
    pub(crate) fn index_within(
        &self,
        memory: u64,
        (which, copies): (Packs, Copies),
        beside: Beside,
    ) -> Result<(Index, Ceiling)> {
        let mut ceiling = Ceiling::new(memory);
        let index = self.index(&mut ceiling, (which, copies), beside)?;
        Ok((index, ceiling))
    }

    /// The index of these packs, for an operation that reads a few blobs.
    pub(crate) fn index_for_blobs(&self, which: Packs) -> Result<Index> {
        let beside = Beside {
            bytes: BLOBS,
            bits: 0,
        };
        self.index(&mut self.repo.ceiling(), (which, Copies::All), beside)
    }

    fn index(
        &self,
        ceiling: &mut Ceiling,
        (which, copies): (Packs, Copies),
        beside: Beside,
    ) -> Result<Index> {
        let parts = (self.repo, &self.store);
        let index = ceiling.readable_index(parts, which, copies, beside);
        let index = self.repo.block_on(index)?;
        self.read(&index);
        Ok(index)
    }

    /// An index was read that everything else follows from.
    pub(crate) fn read(&self, index: &Index) {
        if let Some(listed) = &self.listed {
            // Nobody listens any more when it is settled that this attempt is in vain.
            drop(listed.send(index.files().clone()));
        }
    }
}

/// What an operation that reads a few blobs has for them.
const BLOBS: u64 = 32 << 20;

/// Runs an operation that only reads, under a shared lock: `prepare` early, then `finish` once the
/// lock is held.
pub(crate) fn reading<P, T>(
    repo: &Repository,
    cancel: &Cancel,
    prepare: impl Fn(&Reader<'_>) -> Result<P>,
    index_of: impl Fn(&P) -> &Index,
    finish: impl FnOnce(P) -> Result<T>,
) -> Result<T> {
    let lock = repo.block_on(repo.lock_early(Locked::Shared, cancel))?;
    let reader = Reader {
        repo,
        store: repo.store().with_cancel(lock.cancel().clone()),
        cancel: lock.cancel().clone(),
        listed: None,
    };
    let done = (|| {
        let early = prepare(&reader);
        repo.block_on(lock.held())?;
        match early {
            Ok(early) if are_there(repo, &reader.store, index_of(&early).files())? => {
                return finish(early);
            }
            // What could not be read may have been somebody else's doing.
            Err(error) if !error.is_content() => return Err(error),
            early => drop(early),
        }
        finish(prepare(&reader)?)
    })();
    repo.runtime().block_on(lock.release(cancel));
    done
}

/// Runs an operation that only reads, and whose result is told afterwards, under a shared lock, all
/// of it early. If an index file that it read is gone when the lock is held, it is stopped and runs
/// once more.
pub(crate) fn reading_all<T>(
    repo: &Repository,
    cancel: &Cancel,
    work: impl Fn(&Reader<'_>) -> Result<T>,
) -> Result<T> {
    let lock = repo.block_on(repo.lock_early(Locked::Shared, cancel))?;
    let done = match beside(repo, &lock, cancel, &work) {
        Ok(Some(Err(error))) if error.is_content() => None,
        Ok(done) => done,
        Err(error) => Some(Err(error)),
    };
    // What could not be read may have been somebody else's doing.
    let done = done.unwrap_or_else(|| {
        work(&Reader {
            repo,
            store: repo.store().with_cancel(cancel.clone()),
            cancel: cancel.clone(),
            listed: None,
        })
    });
    repo.runtime().block_on(lock.release(cancel));
    done
}

/// What came of the operation, done while the lock settles; `None` if it has to be done again. An
/// error: of the lock.
fn beside<T>(
    repo: &Repository,
    lock: &Guard,
    cancel: &Cancel,
    work: impl Fn(&Reader<'_>) -> Result<T>,
) -> Result<Option<Result<T>>> {
    let (listed, read) = mpsc::channel();
    let early = cancel.child_token();
    let reader = Reader {
        repo,
        store: repo.store().with_cancel(early.clone()),
        cancel: early.clone(),
        listed: Some(listed),
    };
    let settling = move || {
        let valid = is_valid(repo, lock, cancel, &read);
        if !matches!(valid, Ok(true)) {
            early.cancel();
        }
        valid
    };
    let (done, valid) = std::thread::scope(|scope| {
        let settling = std::thread::Builder::new()
            .name("settling".to_owned())
            .spawn_scoped(scope, settling)
            .map_err(|error| Error::Bug(format!("no thread could be started: {error}")))?;
        let done = work(&reader);
        // Whoever has read no index by now will not.
        drop(reader);
        let gone = || Error::Bug("who waited for the lock is gone".to_owned());
        let valid = settling.join().unwrap_or_else(|_| Err(gone()))?;
        Ok::<_, Error>((done, valid))
    })?;
    Ok(valid.then_some(done))
}

/// Waits until the lock is held, and says whether what was read by then is still true.
fn is_valid(
    repo: &Repository,
    lock: &Guard,
    cancel: &Cancel,
    read: &mpsc::Receiver<BTreeSet<Id>>,
) -> Result<bool> {
    repo.block_on(lock.held())?;
    match read.recv() {
        Ok(files) => are_there(repo, &repo.store().with_cancel(cancel.clone()), &files),
        // It came to its end without.
        Err(mpsc::RecvError) => Ok(true),
    }
}

/// Whether index files are still there.
fn are_there(repo: &Repository, store: &Store, files: &BTreeSet<Id>) -> Result<bool> {
    let now = repo.block_on(index::files(store))?;
    Ok(files.iter().all(|id| now.contains_key(id)))
}
