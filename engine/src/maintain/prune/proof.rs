//! The last look before anything is removed: can every snapshot do without it?
//!
//! Trusts neither the plan nor what was reported of its execution: reads the index files that will stay, looks at the
//! sizes of the packs they name, and goes through all snapshots. Fails with `RepositoryChanged` or `Damaged`, and
//! then nothing has been removed.

use std::collections::{BTreeMap, HashSet};

use super::reach;
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{
        Invalid,
        index::{BlobKind, IndexFile},
        unpacked,
    },
    index::{self, Index, Packs},
    repo::{Repository, blobs::BlobReader},
    storage::{Removals, Store},
};

/// Larger index files are refused.
const LIMIT: u64 = 512 << 20;

/// An index file; `None` if it is gone.
pub(super) async fn read_index(
    repo: &Repository,
    store: &Store,
    id: Id,
) -> Result<Option<IndexFile>> {
    let Some(sealed) = store.read(&format!("index/{id}"), LIMIT).await? else {
        return Ok(None);
    };
    unpacked::decode(repo.key(), &sealed, unpacked::MAX_INDEX)
        .and_then(|json| IndexFile::decode(&json))
        .map(Some)
        .map_err(|why| repo.damaged(format!("index {id}"), &why))
}

/// Whether all snapshots can be read when these are gone.
pub(super) fn nothing_is_missed(
    repo: &Repository,
    store: &Store,
    removals: &Removals,
    written: &BTreeMap<Id, u64>,
    cancel: &Cancel,
) -> Result<()> {
    let changed = |message: String| Error::RepositoryChanged {
        location: repo.location(),
        message,
    };
    let sizes = repo.block_on(sizes(store))?;
    if let Some((id, _)) = written
        .iter()
        .find(|(id, size)| sizes.get(id) != Some(size))
    {
        return Err(changed(format!(
            "pack {id}, just written, is gone or has another size"
        )));
    }
    let stays = repo.block_on(blobs_that_stay(repo, store, removals, &sizes))?;
    let mut roots = Vec::new();
    for snapshot in repo.snapshots()? {
        let why = Invalid::new("its tree is not an id");
        let root = Id::parse(&snapshot.tree);
        roots.push(root.ok_or_else(|| repo.damaged(format!("snapshot {}", snapshot.id), &why))?);
    }
    // Old and new index files: directories are read from where they are found.
    let index = repo.block_on(Index::load(repo, store, Packs::All))?;
    let mut reader = BlobReader::new(repo, store, &index);
    reach::all(repo, &mut reader, roots, cancel, |kind, id| {
        if stays.contains(&(kind, id)) {
            Ok(())
        } else {
            Err(changed(format!(
                "blob {id}, which a snapshot needs, would be lost; nothing was removed"
            )))
        }
    })
}

async fn sizes(store: &Store) -> Result<BTreeMap<Id, u64>> {
    let entries = store.list_recursive("data").await?;
    let named = entries.into_iter().filter_map(|entry| {
        let (_, name) = entry.name.split_once('/')?;
        Some((Id::parse(name)?, entry.size))
    });
    Ok(named.collect())
}

/// The blobs in the packs that the remaining index files name.
async fn blobs_that_stay(
    repo: &Repository,
    store: &Store,
    removals: &Removals,
    sizes: &BTreeMap<Id, u64>,
) -> Result<HashSet<(BlobKind, Id)>> {
    let mut stay = HashSet::new();
    let files = index::files(store).await?;
    for file in files.difference(&removals.indexes) {
        let Some(index) = read_index(repo, store, *file).await? else {
            continue;
        };
        let damaged = |why: &str| repo.damaged(format!("index {file}"), &Invalid::new(why));
        for pack in &index.packs {
            let id = Id::parse(&pack.id).ok_or_else(|| damaged("it names a pack without an id"))?;
            if removals.packs.contains(&id) {
                return Err(damaged("it names a pack that would be removed"));
            }
            let size = sizes.get(&id).copied().unwrap_or(0);
            for blob in &pack.blobs {
                if u64::from(blob.offset) + u64::from(blob.length) > size {
                    return Err(damaged("it names a pack that is missing or too short"));
                }
                let id =
                    Id::parse(&blob.id).ok_or_else(|| damaged("it names a blob without an id"))?;
                stay.insert((blob.kind, id));
            }
        }
    }
    Ok(stay)
}
