//! The last look before a snapshot is written: is everything it needs really there?
//!
//! Does: compare the sizes of the packs this run wrote with what the store has, then read the index anew
//! and walk the new tree, making sure that every directory and every piece of every file is in a pack of a
//! live index. That catches a maintenance that ignored the lock, a damaged parent, and mistakes of the
//! library. Does not: read file content. Fails with `RepositoryChanged`, or
//! `Damaged` where a directory is there and cannot be read.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::index::BlobKind,
    index::{Index, Packs},
    repo::{Repository, blobs::BlobReader},
    storage::Store,
};

/// Packs asked for at the same time.
const PARALLEL: usize = 8;
/// With more packs than this a listing is cheaper.
const LIST_FROM: usize = 200;

pub(super) fn verify(
    repo: &Repository,
    store: &Store,
    tree: Id,
    written: &BTreeMap<Id, u64>,
    cancel: &Cancel,
) -> Result<()> {
    repo.block_on(packs(repo, store, written))?;
    let index = repo.block_on(Index::load(repo, store, Packs::Live))?;
    let mut reader = BlobReader::new(repo, store, &index);
    let changed = |message: String| Error::RepositoryChanged {
        location: repo.location(),
        message,
    };
    let mut seen = HashSet::new();
    let mut todo = vec![tree];
    while let Some(id) = todo.pop() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if !seen.insert(id) {
            continue;
        }
        if index.find(BlobKind::Tree, &id).is_none() {
            return Err(changed(format!("tree blob {id} is in no live index")));
        }
        // Damage here is that of an older directory with the same content: another run would meet it again.
        let nodes = reader.read_tree(&id)?;
        // In reverse, so that directories are read in the order they were written.
        for node in nodes.into_iter().rev() {
            let node = node.map_err(|why| changed(format!("tree {id}: {why}")))?;
            for blob in &node.content {
                let known = Id::parse(blob).and_then(|blob| index.find(BlobKind::Data, &blob));
                if known.is_none() {
                    return Err(changed(format!("data blob {blob} is in no live index")));
                }
            }
            if node.kind == "dir" {
                let subtree = node.subtree.as_deref().and_then(Id::parse);
                todo.push(
                    subtree
                        .ok_or_else(|| changed(format!("tree {id}: a directory has no tree")))?,
                );
            }
        }
    }
    Ok(())
}

/// Compares the packs written with what the store has.
async fn packs(repo: &Repository, store: &Store, written: &BTreeMap<Id, u64>) -> Result<()> {
    let wrong = |id: &Id| Error::RepositoryChanged {
        location: repo.location(),
        message: format!("pack {id}, just written, is gone or has another size"),
    };
    if written.len() >= LIST_FROM {
        let there: BTreeMap<String, u64> = store
            .list_recursive("data")
            .await?
            .into_iter()
            .map(|entry| (entry.name, entry.size))
            .collect();
        for (id, size) in written {
            let id_text = id.to_string();
            if there.get(&format!("{}/{id_text}", &id_text[..2])) != Some(size) {
                return Err(wrong(id));
            }
        }
        return Ok(());
    }
    futures::stream::iter(written)
        .map(|(id, size)| async move {
            let name = id.to_string();
            let found = store.stat(&format!("data/{}/{name}", &name[..2])).await?;
            match found {
                Some(meta) if meta.size == *size => Ok(()),
                _ => Err(wrong(id)),
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await
}
