//! The last look before anything is removed: can every snapshot do without it?
//!
//! Trusts neither the plan nor what was reported of its execution: reads the index files that will
//! be left from the store, looks at the sizes of the packs they name, and asks for each blob that
//! some snapshot needs whether it is in one of them. Fails with `RepositoryChanged` or `Damaged`,
//! and then nothing has been removed.

use std::{
    collections::{BTreeSet, HashSet},
    pin::pin,
};

use futures::StreamExt as _;

use super::{
    later::Later,
    survey::{self, Survey},
};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::Invalid,
    index::{self, Bits},
    repo::Repository,
    storage::Store,
};

/// What is about to be removed.
pub(super) struct Going {
    pub(super) indexes: BTreeSet<Id>,
    pub(super) packs: HashSet<Id>,
}

/// Whether all snapshots can be read when these are gone.
pub(super) fn nothing_is_missed(
    repo: &Repository,
    store: &Store,
    (first, later): (&Survey, &Later),
    going: &Going,
) -> Result<()> {
    let listed = repo.block_on(survey::packs(store))?;
    let (old, new) = (Bits::new(first.index.len()), Bits::new(later.index.len()));
    let mut files = repo.block_on(index::files(store))?;
    files.retain(|file, _| !going.indexes.contains(file));
    let mut reading = pin!(index::read_all(repo, store, files));
    while let Some((file, list)) = repo.runtime().block_on(reading.next()) {
        let Some(list) = list? else {
            continue;
        };
        let damaged = |why: &str| repo.damaged(format!("index {file}"), &Invalid::new(why));
        for pack in &list.packs {
            let id = pack
                .id
                .id()
                .ok_or_else(|| damaged("it names a pack without an id"))?;
            if going.packs.contains(&id) {
                return Err(damaged("it names a pack that would be removed"));
            }
            for blob in &pack.blobs {
                let end = blob.offset.checked_add(blob.length);
                if !end.is_some_and(|end| survey::is_whole(listed.get(&id), end)) {
                    return Err(damaged("it names a pack that is missing or too short"));
                }
                let id = blob
                    .id
                    .id()
                    .ok_or_else(|| damaged("it names a blob without an id"))?;
                for (index, bits) in [(&first.index, &old), (&later.index, &new)] {
                    if let Some(position) = index.position(blob.kind, &id) {
                        bits.insert(position);
                    }
                }
            }
        }
    }
    let both = [
        (&first.index, &first.used, &old),
        (&later.index, &later.used, &new),
    ];
    for (index, needed, there) in both {
        for position in (0..).take(index.len()) {
            if needed.contains(position) && !there.contains(position) {
                let record = index.record(position);
                let name = record.map(|record| hex::encode(record.prefix));
                return Err(Error::RepositoryChanged {
                    location: repo.location(),
                    message: format!(
                        "blob {}, which a snapshot needs, would be lost; nothing was removed",
                        name.unwrap_or_default()
                    ),
                });
            }
        }
    }
    Ok(())
}
