//! The index files that take the place of those that name what goes.
//!
//! Does: find the index files that name a pack which goes, that hold marks of another program, that
//! repeat what others say, or that are many and small; and write what is left of them into as few
//! as possible. Entries are copied as they are. All other index files stay as they are. Does not:
//! remove anything. A pack is named by one of the index files that will be left, and by the old
//! ones until those are removed: whatever ends this in between, a pack that is needed is named.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    pin::pin,
};

use futures::StreamExt as _;

use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{
        Invalid,
        index::{self as format, Pack},
        unpacked,
    },
    index,
    repo::Repository,
    storage::Store,
};

/// Blobs of one index file.
const FULL: usize = 50_000;
/// An index file with fewer blobs is small.
const SMALL: usize = 10_000;
/// So many small ones are joined.
const MANY: usize = 10;

/// What is known of an index file.
struct Seen {
    id: Id,
    packs: Vec<Id>,
    /// Names what goes, or what others name.
    stale: bool,
    small: bool,
}

/// The index files whose place others take.
pub(in crate::maintain) struct Stale {
    files: BTreeMap<Id, u64>,
    /// Packs that others name.
    kept: HashSet<Id>,
}

impl Stale {
    /// Finds them among these index files. `going`: the packs that go. Nothing is written.
    pub(in crate::maintain) async fn find(
        (repo, store): (&Repository, &Store),
        files: &BTreeMap<Id, u64>,
        going: &HashSet<Id>,
    ) -> Result<Self> {
        let mut seen = Vec::new();
        let mut named: HashSet<Id> = HashSet::new();
        let mut reading = pin!(index::read_all(repo, store, files.clone()));
        while let Some((id, file)) = reading.next().await {
            let Some(file) = file? else {
                continue;
            };
            let packs = file.packs.iter().map(|pack| pack_id(repo, id, pack));
            let packs = packs.collect::<Result<Vec<Id>>>()?;
            let stale = !file.packs_to_delete.is_empty()
                || packs
                    .iter()
                    .any(|pack| going.contains(pack) || named.contains(pack));
            if !stale {
                named.extend(&packs);
            }
            let blobs: usize = file.packs.iter().map(|pack| pack.blobs.len()).sum();
            seen.push(Seen {
                id,
                packs,
                stale,
                small: blobs < SMALL,
            });
        }
        let stays = |seen: &&Seen| !seen.stale;
        if seen.iter().filter(stays).filter(|seen| seen.small).count() >= MANY {
            for seen in &mut seen {
                seen.stale |= seen.small;
            }
        }
        drop(named);
        let kept = seen.iter().filter(stays).flat_map(|seen| &seen.packs);
        let kept = kept.copied().collect();
        let stale = seen.iter().filter(|seen| seen.stale);
        let files = stale.map(|seen| (seen.id, files.get(&seen.id).copied().unwrap_or(0)));
        Ok(Self {
            files: files.collect(),
            kept,
        })
    }
}

/// Writes index files, if that is allowed.
pub(in crate::maintain) struct Lists<'a> {
    pub(in crate::maintain) repo: &'a Repository,
    pub(in crate::maintain) store: &'a Store,
    /// Whether writing is still allowed.
    pub(in crate::maintain) allowed: &'a (dyn Fn() -> Result<()> + Send + Sync),
    /// The packs that go.
    pub(in crate::maintain) going: &'a HashSet<Id>,
}

impl Lists<'_> {
    /// Writes what takes the place of these index files, and returns them: they may go then.
    pub(in crate::maintain) async fn replace(&self, stale: Stale) -> Result<BTreeSet<Id>> {
        let Stale { files, mut kept } = stale;
        let old = files.keys().copied().collect();
        let mut list = List::default();
        let mut reading = pin!(index::read_all(self.repo, self.store, files));
        while let Some((id, file)) = reading.next().await {
            (self.allowed)()?;
            let Some(file) = file? else {
                continue;
            };
            // What is marked and still needed is not marked any more.
            for pack in file.packs.iter().chain(&file.packs_to_delete) {
                let pack_id = pack_id(self.repo, id, pack)?;
                if self.going.contains(&pack_id) || !kept.insert(pack_id) {
                    continue;
                }
                list.add(pack)?;
                if list.blobs >= FULL {
                    self.write(std::mem::take(&mut list)).await?;
                }
            }
        }
        if list.blobs > 0 {
            self.write(list).await?;
        }
        Ok(old)
    }

    async fn write(&self, list: List) -> Result<()> {
        let mut json = list.json;
        json.extend_from_slice(format::END);
        let (id, sealed) = unpacked::encode(self.repo.key(), &json, self.repo.version())
            .map_err(|why| Error::Bug(format!("an index cannot be encoded: {why}")))?;
        (self.allowed)()?;
        self.store
            .write(&format!("index/{id}"), sealed.into())
            .await
    }
}

fn pack_id(repo: &Repository, file: Id, pack: &Pack) -> Result<Id> {
    let why = Invalid::new("it names a pack without an id");
    let id = pack.id.id();
    id.ok_or_else(|| repo.damaged(format!("index {file}"), &why))
}

/// An index file being made.
struct List {
    json: Vec<u8>,
    blobs: usize,
}

impl Default for List {
    fn default() -> Self {
        Self {
            json: format::START.to_vec(),
            blobs: 0,
        }
    }
}

impl List {
    fn add(&mut self, pack: &Pack) -> Result<()> {
        format::encode_listed(&mut self.json, pack)
            .map_err(|why| Error::Bug(format!("an index cannot be encoded: {why}")))?;
        self.blobs += pack.blobs.len();
        Ok(())
    }
}
