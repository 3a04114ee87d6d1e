//! Reading snapshots and index while a lock settles.
//!
//! What is read before the lock is held may be from before somebody else's changes. So it is prepared early, and once the
//! lock is held the index files are listed again: if they are others, all is prepared anew. Nothing is told before that.

use crate::{
    Cancel,
    ceiling::{Beside, Ceiling},
    error::Result,
    index::{self, Copies, Index, Packs},
    repo::{Locked, Repository, Snapshot, SnapshotFilter},
    storage::Store,
};

/// What preparing may use.
pub(crate) struct Reader<'a> {
    repo: &'a Repository,
    /// Its requests end with the operation.
    pub(crate) store: Store,
}

impl Reader<'_> {
    /// The snapshots named, in the order of their names, or all that the filter lets through, oldest first. To be read
    /// before the index, which is right beside running backups.
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

    /// The index, with packs that are marked for deletion and so many places of each blob; and what there is of so many
    /// bytes of memory beside it.
    pub(crate) fn index_within(
        &self,
        memory: u64,
        copies: Copies,
        beside: Beside,
    ) -> Result<(Index, Ceiling)> {
        let mut ceiling = Ceiling::new(memory);
        let parts = (self.repo, &self.store);
        let index = ceiling.index(parts, Packs::All, copies, beside);
        let index = self.repo.block_on(index)?;
        Ok((index, ceiling))
    }
}

/// What an operation that reads a few blobs has for them.
const BLOBS: u64 = 32 << 20;

/// The index, for an operation that reads a few blobs.
pub(super) fn index_for_blobs(repo: &Repository, store: &Store) -> Result<Index> {
    let beside = Beside {
        bytes: BLOBS,
        bits: 0,
    };
    let mut ceiling = repo.ceiling();
    repo.block_on(ceiling.index((repo, store), Packs::All, Copies::First, beside))
}

/// Runs an operation that only reads, under a shared lock: `prepare` early, then `finish` once the lock is held.
pub(crate) fn reading<P, T>(
    repo: &Repository,
    cancel: &Cancel,
    prepare: impl Fn(&Reader<'_>) -> Result<P>,
    index_of: impl Fn(&P) -> &Index,
    finish: impl FnOnce(P) -> Result<T>,
) -> Result<T> {
    let reader = Reader {
        repo,
        store: repo.store().with_cancel(cancel.clone()),
    };
    let lock = repo.block_on(repo.lock_early(Locked::Shared, cancel))?;
    let done = (|| {
        let early = lock.outcome(prepare(&reader))?;
        repo.block_on(lock.held())?;
        let now = repo.block_on(index::files(&reader.store))?;
        if now.keys().eq(index_of(&early).files()) {
            return finish(early);
        }
        drop(early);
        finish(prepare(&reader)?)
    })();
    repo.runtime().block_on(lock.release(cancel));
    done
}
