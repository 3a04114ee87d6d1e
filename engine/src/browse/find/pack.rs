//! Which blobs are in some packs.
//!
//! As `restic find --pack` does: each pack's own list of blobs counts; where a pack is gone, what
//! the index says of it.

use super::wanted::Wanted;
use crate::{
    crypto::{Id, OVERHEAD},
    error::{Error, Result},
    format::{Invalid, index::BlobKind, pack},
    index::{self, Index},
    repo::Repository,
    storage::Store,
};

/// Data and directories in the packs with these ids, or beginnings of ids.
pub(super) fn blobs(
    repo: &Repository,
    store: &Store,
    index: &Index,
    texts: &[String],
) -> Result<(Wanted, Wanted)> {
    let there = repo.block_on(index::pack_sizes(store))?;
    let (mut data, mut trees) = (Vec::new(), Vec::new());
    for text in texts {
        let wanted = Wanted::parse(std::slice::from_ref(text))?;
        let mut found = false;
        for (id, size) in there.iter().filter(|(id, _)| wanted.contains(id)) {
            found = true;
            let list = match list(repo, store, id, *size) {
                // Damaged: the index knows what should be there.
                Err(error) if error.is_content() => Vec::new(),
                list => list?,
            };
            for blob in list {
                match blob.kind {
                    BlobKind::Data => data.push(blob.id),
                    BlobKind::Tree => trees.push(blob.id),
                }
            }
        }
        found |= index.pack_ids().any(|id| wanted.contains(&id));
        if !found {
            return Err(Error::ObjectMissing {
                location: repo.location(),
                path: format!("data/{text}"),
            });
        }
    }
    let packs = Wanted::parse(texts)?;
    let known = index
        .records()
        .filter(|(_, record)| packs.contains(&index.pack(record.place.pack).0));
    // The index keeps most of an id: enough to tell one from another.
    let (mut data_starts, mut tree_starts) = (Vec::new(), Vec::new());
    for (_, record) in known {
        match record.kind {
            BlobKind::Data => data_starts.push(record.prefix),
            BlobKind::Tree => tree_starts.push(record.prefix),
        }
    }
    let of =
        |ids: Vec<Id>, starts: &[[u8; 24]]| Wanted::ids(ids.into_iter()).with_beginnings(starts);
    Ok((of(data, &data_starts), of(trees, &tree_starts)))
}

/// A pack's own list.
fn list(repo: &Repository, store: &Store, id: &Id, size: u64) -> Result<Vec<pack::Blob>> {
    let damaged = |why: Invalid| repo.damaged(format!("pack {id}"), &why);
    let short = || damaged(Invalid::new("it is too short"));
    let path = pack::path(id);
    let read = |from: u64, length: u64| repo.block_on(store.read_range(&path, from, length));
    let at = size.checked_sub(pack::TRAILER as u64).ok_or_else(short)?;
    let trailer = read(at, pack::TRAILER as u64)?;
    let trailer = *trailer.first_chunk().ok_or_else(short)?;
    let length = pack::header_length(trailer, size).map_err(damaged)?;
    let from = at.checked_sub(u64::from(length)).ok_or_else(short)?;
    let sealed = read(from, u64::from(length))?;
    debug_assert!(sealed.len() >= OVERHEAD);
    let plain = repo
        .key()
        .open(&sealed)
        .map_err(|_| damaged(Invalid::new("its list of blobs is not authentic")))?;
    pack::decode_header(&plain, size).map_err(damaged)
}
