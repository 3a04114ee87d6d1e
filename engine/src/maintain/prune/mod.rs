//! Freeing the space of what no snapshot needs.
//!
//! Does: have the library plan it and write the packs and index files that replace others, prove that all
//! snapshots can do without the rest, and only then remove the rest. Does not: run beside anybody else. From the
//! first look to the last removal it holds the lock that excludes everybody, because programs that share the format do
//! not know marks for later deletion.
//!
//! Order: lock; refuse what the library would get wrong ([`refuse`]); new packs; new index files; proof from
//! the store alone ([`proof`]); old index files removed; packs removed; unlock. Whatever ends it earlier leaves packs that no
//! index names, or two index files that name the same pack. The next prune removes them.

mod proof;
mod reach;
mod refuse;

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    Cancel, Progress, Repository,
    crypto::Id,
    error::{Error, Result},
    format::pack,
    repo::{
        Locked,
        adapter::{self, PruneCounts, PruneSettings},
        lock::Guard,
    },
    storage::{Removals, Session, Store},
};

/// Files removed at the same time.
const PARALLEL: usize = 8;

/// How much unused data may stay, in packs that are also used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of what remains, below 100.
    Percent(u8),
    /// Any.
    Unlimited,
}

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// How much unused data may stay.
    pub max_unused: Unused,
    /// The most bytes to write anew; no limit when absent.
    pub max_repack: Option<u64>,
    /// Write packs anew that are much smaller than usual.
    pub repack_small: bool,
    /// Write packs anew that hold data without compression; format version 2 only.
    pub repack_uncompressed: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// With `dry_run`: full ids of snapshots that are taken for forgotten.
    pub assume_forgotten: Vec<String>,
}

impl Default for PruneRequest {
    /// As restic prunes: 5 % may stay.
    fn default() -> Self {
        Self {
            max_unused: Unused::Percent(5),
            max_repack: None,
            repack_small: false,
            repack_uncompressed: false,
            dry_run: false,
            assume_forgotten: Vec::new(),
        }
    }
}

/// What a prune did, or would do. Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Blobs in packs that are written anew.
    pub repacked_blobs: u64,
    /// Their size.
    pub repacked_bytes: u64,
    /// Those of them that are left out.
    pub repack_dropped_blobs: u64,
    /// Their size.
    pub repack_dropped_bytes: u64,
    /// Blobs in packs that are removed.
    pub deleted_blobs: u64,
    /// Their size.
    pub deleted_bytes: u64,
    /// Blobs that remain.
    pub remaining_blobs: u64,
    /// Their size.
    pub remaining_bytes: u64,
    /// Size of what remains unused.
    pub unused_bytes: u64,
    /// Packs removed that no index names, or that were marked for removal.
    pub unreferenced_packs: u64,
    /// Their size.
    pub unreferenced_bytes: u64,
}

impl From<PruneCounts> for PruneReport {
    fn from(counts: PruneCounts) -> Self {
        Self {
            repacked_blobs: counts.repack.0,
            repacked_bytes: counts.repack.1,
            repack_dropped_blobs: counts.repack_drops.0,
            repack_dropped_bytes: counts.repack_drops.1,
            deleted_blobs: counts.delete.0,
            deleted_bytes: counts.delete.1,
            remaining_blobs: counts.remaining.0,
            remaining_bytes: counts.remaining.1,
            unused_bytes: counts.unused_after,
            unreferenced_packs: counts.unreferenced.0,
            unreferenced_bytes: counts.unreferenced.1,
        }
    }
}

/// Frees the space of what no snapshot needs. Blocks: call it on a thread of its own.
///
/// # Errors
/// `Locked`; `Refused` for packs that cannot be handled; `Damaged` if a snapshot already lacks something: nothing is
/// removed then; `LockLost`, `Cancelled`, and what the store says.
pub fn prune(
    repo: &Repository,
    request: &PruneRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<PruneReport> {
    let settings = settings(repo, request)?;
    let kind = if request.dry_run {
        Locked::Shared
    } else {
        Locked::Exclusive
    };
    let lock = repo.block_on(repo.lock(kind, cancel))?;
    let done = locked(repo, request, &settings, progress, cancel, &lock);
    repo.runtime().block_on(lock.release(cancel));
    done
}

fn settings(repo: &Repository, request: &PruneRequest) -> Result<PruneSettings> {
    let invalid = |message: &str| Error::InvalidConfig {
        what: "prune setting",
        message: message.to_owned(),
    };
    if request.repack_uncompressed && repo.version() < 2 {
        return Err(invalid(
            "repositories of format version 1 are never compressed",
        ));
    }
    let max_unused = match request.max_unused {
        Unused::Bytes(bytes) => bytes.to_string(),
        Unused::Percent(percent @ 0..100) => format!("{percent}%"),
        Unused::Percent(_) => return Err(invalid("the unused share must be below 100 %")),
        Unused::Unlimited => "unlimited".to_owned(),
    };
    if !request.dry_run && !request.assume_forgotten.is_empty() {
        return Err(invalid(
            "only a dry run can take snapshots for forgotten; forget them first, or make it a dry run",
        ));
    }
    let parse = |id: &String| {
        Id::parse(id).ok_or_else(|| invalid(&format!("{id:?} is not the full id of a snapshot")))
    };
    let ignore = request.assume_forgotten.iter().map(parse);
    Ok(PruneSettings {
        ignore: ignore.collect::<Result<_>>()?,
        max_unused,
        max_repack: request.max_repack,
        repack_small: request.repack_small,
        repack_uncompressed: request.repack_uncompressed,
    })
}

fn locked(
    repo: &Repository,
    request: &PruneRequest,
    settings: &PruneSettings,
    progress: &Progress,
    cancel: &Cancel,
    lock: &Guard,
) -> Result<PruneReport> {
    let store = repo.store().with_cancel(cancel.clone());
    repo.block_on(refuse::unsuitable(repo, &store))?;
    let allowed = {
        let (held, cancel) = (lock.checker(), cancel.clone());
        move || {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            held()
        }
    };
    let session = Arc::new(Session::putting_off(allowed.clone(), progress.clone()));
    let counts = adapter::prune(repo, store.clone(), &session, settings, request.dry_run);
    // What went wrong first is why the rest did.
    if let Some(error) = session.take_failure() {
        return Err(error);
    }
    let report = counts?.into();
    if request.dry_run {
        return Ok(report);
    }
    let (removals, written) = session.take();
    if removals.indexes.is_empty() && removals.packs.is_empty() {
        return Ok(report);
    }
    proof::nothing_is_missed(repo, &store, &removals, &written, cancel)?;
    repo.block_on(remove(&store, &removals, &allowed))?;
    Ok(report)
}

/// Index files first: packs that are gone must not be named by any.
async fn remove(
    store: &Store,
    removals: &Removals,
    allowed: &(impl Fn() -> Result<()> + Sync),
) -> Result<()> {
    let indexes = removals.indexes.iter().map(|id| format!("index/{id}"));
    delete(store, indexes, allowed).await?;
    let packs = removals.packs.iter().map(pack::path);
    delete(store, packs, allowed).await
}

async fn delete(
    store: &Store,
    paths: impl Iterator<Item = String>,
    allowed: &(impl Fn() -> Result<()> + Sync),
) -> Result<()> {
    futures::stream::iter(paths)
        .map(|path| async move {
            allowed()?;
            store.delete(&path).await
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await
}
