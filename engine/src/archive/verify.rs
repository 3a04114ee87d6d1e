//! The last look before a snapshot is written: is everything it needs really there?
//!
//! Does: compare the sizes of the packs with what the store has, both of those this run wrote and of older ones
//! it counts on; then, unless all index files that were read or written are still there (they never change),
//! read the index files anew and make sure that every pack the snapshot needs is in a live one. That catches a
//! maintenance that ignored the lock, and packs that were lost. Does not: read content. Fails with
//! `RepositoryChanged`, or `Damaged` where an older pack is not what the index says.

use std::{
    collections::{BTreeMap, HashSet},
    pin::pin,
};

use futures::{StreamExt as _, TryStreamExt as _};

use super::native::Done;
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::pack,
    index,
    repo::Repository,
    storage::Store,
};

/// Packs asked for at the same time.
const PARALLEL: usize = 8;
/// With more packs than this a listing is cheaper.
const LIST_FROM: usize = 200;

pub(super) fn verify(repo: &Repository, store: &Store, done: &Done) -> Result<()> {
    let used: BTreeMap<Id, u32> = done.index.used_packs().collect();
    repo.block_on(packs(repo, store, &done.packs, &used))?;
    let there = repo.block_on(index::files(store))?;
    let mut needed = done.index.files().iter().chain(&done.indexes);
    if needed.all(|id| there.contains_key(id)) {
        return Ok(());
    }
    // Only packs count, so that no second index is needed beside the first.
    let mut missing: HashSet<Id> = used.keys().chain(done.packs.keys()).copied().collect();
    let mut reading = pin!(index::read_all(repo, store, there));
    while let Some((id, file)) = repo.runtime().block_on(reading.next()) {
        let file = match file {
            Err(error) => {
                repo.leave_out(&format!("index {id}"), error)?;
                None
            }
            Ok(file) => file,
        };
        if let Some(file) = file {
            for pack in file.packs.iter().filter_map(|pack| pack.id.id()) {
                missing.remove(&pack);
            }
        }
    }
    match missing.iter().min() {
        Some(pack) => Err(Error::RepositoryChanged {
            location: repo.location(),
            message: format!("pack {pack}, which the new snapshot needs, is in no live index"),
        }),
        None => Ok(()),
    }
}

/// Compares the packs written, and those counted on, with what the store has.
async fn packs(
    repo: &Repository,
    store: &Store,
    written: &BTreeMap<Id, u64>,
    used: &BTreeMap<Id, u32>,
) -> Result<()> {
    let sizes = sizes(store, written.keys().chain(used.keys())).await?;
    if let Some((id, _)) = written
        .iter()
        .find(|(id, size)| sizes.get(*id) != Some(*size))
    {
        return Err(Error::RepositoryChanged {
            location: repo.location(),
            message: format!("pack {id}, just written, is gone or has another size"),
        });
    }
    let whole = |id: &Id, end: u32| sizes.get(id).is_some_and(|size| *size >= u64::from(end));
    match used.iter().find(|(id, end)| !whole(id, **end)) {
        Some((id, _)) => Err(Error::Damaged {
            location: repo.location(),
            what: format!("pack {id}"),
            message: "the index names it, and it is missing or too short".to_owned(),
        }),
        None => Ok(()),
    }
}

/// Sizes of those packs that are there.
async fn sizes(store: &Store, ids: impl Iterator<Item = &Id>) -> Result<BTreeMap<Id, u64>> {
    let ids: Vec<Id> = ids.copied().collect();
    if ids.len() >= LIST_FROM {
        return index::pack_sizes(store).await;
    }
    futures::stream::iter(ids)
        .map(|id| async move {
            let found = store.stat(&pack::path(&id)).await?;
            Ok(found.map(|meta| (id, meta.size)))
        })
        .buffer_unordered(PARALLEL)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await
}
