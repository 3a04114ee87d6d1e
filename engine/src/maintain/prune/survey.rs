//! What is there, and what is needed of it: snapshots, index, packs, and a bit for each blob.
//!
//! Snapshots are listed first: whatever one of them needs is in an index file that is there by
//! then. Packs are listed last. Reads, and writes nothing. Fails with `Damaged` if a snapshot needs
//! what cannot be found or read.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;

use super::plan::{Limits, PackUse, Tally};
use crate::{
    Cancel,
    ceiling::{Beside, Ceiling},
    crypto::{Id, OVERHEAD},
    error::{Error, Result},
    format::{Invalid, index::BlobKind, pack},
    index::{Bits, Copies, Index, Packs, Record},
    repo::{
        Repository,
        walk::{Node, Tree, Visitor, Walk},
    },
    storage::Store,
};

/// Bytes for a pack: its name and size as listed, twice for a moment, what is used of it, and its
/// place among the others.
const PACK: u64 = 400;
/// What there has to be beside the index: what going through directories takes, a bit for each
/// blob, and packs of some 200 blobs.
const BESIDE: Beside = Beside {
    bytes: 24 << 20,
    bits: 16,
};

/// A pack as the store lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) size: u64,
    /// By the store's clock.
    pub(super) modified: Option<Timestamp>,
}

/// The packs there are.
pub(super) async fn packs(store: &Store) -> Result<BTreeMap<Id, Listed>> {
    let entries = store.list_recursive("data").await?;
    let named = entries.into_iter().filter_map(|entry| {
        let (_, name) = entry.name.split_once('/')?;
        let listed = Listed {
            size: entry.size,
            modified: entry.modified,
        };
        // Only what lies where a pack of that name does.
        let id = Id::parse(name)?;
        (pack::path(&id) == format!("data/{}", entry.name)).then_some((id, listed))
    });
    Ok(named.collect())
}

/// Whether a pack can hold a blob that ends there, and its list.
pub(super) fn is_whole(listed: Option<&Listed>, end: u32) -> bool {
    let least = u64::from(end) + (OVERHEAD + pack::TRAILER) as u64;
    listed.is_some_and(|listed| listed.size >= least)
}

/// The ids of snapshots and of their root directories. All of them must be readable, and the
/// directory they are in must be there: what a snapshot needs that cannot be listed is not known.
pub(super) fn roots(
    repo: &Repository,
    store: &Store,
    without: &BTreeSet<String>,
) -> Result<BTreeMap<String, Id>> {
    let mut roots = BTreeMap::new();
    let snapshots = repo.all_snapshots_in(store)?;
    if snapshots.is_empty() {
        repo.block_on(are_really_none(repo, store))?;
    }
    for snapshot in snapshots {
        if without.contains(&snapshot.id) {
            continue;
        }
        let why = Invalid::new("its tree is not an id");
        let root = Id::parse(&snapshot.tree);
        let root = root.ok_or_else(|| repo.damaged(format!("snapshot {}", snapshot.id), &why))?;
        roots.insert(snapshot.id, root);
    }
    Ok(roots)
}

/// Fails if snapshots were not listed because their directory is lost.
async fn are_really_none(repo: &Repository, store: &Store) -> Result<()> {
    if store.has_dir("snapshots").await? || store.list("data").await?.is_empty() {
        return Ok(());
    }
    Err(Error::Refused {
        location: repo.location(),
        what: "removing anything",
        message: "there is data, but no directory \"snapshots\"".to_owned(),
        hint: "bring the directory back; if there never was a snapshot, make an empty one",
    })
}

/// What is there, and what is needed.
pub(super) struct Survey {
    pub(super) snapshots: BTreeMap<String, Id>,
    pub(super) index: Index,
    /// Bytes of memory that all this takes, and the program.
    pub(super) taken: u64,
    /// Of the positions of blobs that snapshots need.
    pub(super) used: Bits,
    pub(super) listed: BTreeMap<Id, Listed>,
    /// By their numbers in the index.
    pub(super) packs: Vec<PackUse>,
    /// By their numbers: of several copies of a blob the one in the pack with the lowest rank
    /// counts.
    rank: Vec<u32>,
}

impl Survey {
    /// Looks at everything. Snapshots in `without` do not count.
    pub(super) fn take(
        repo: &Repository,
        store: &Store,
        without: &BTreeSet<String>,
        limits: &Limits,
        memory: u64,
        cancel: &Cancel,
    ) -> Result<Self> {
        let snapshots = roots(repo, store, without)?;
        let mut ceiling = Ceiling::new(memory);
        let index = ceiling.index((repo, store), Packs::All, Copies::All, BESIDE);
        let index = repo.block_on(index)?;
        let used = Bits::new(index.len());
        let first = First {
            repo,
            index: &index,
            used: &used,
        };
        ceiling.take(Bits::memory(index.len()) + index.pack_count() as u64 * PACK);
        let walk = Walk {
            repo,
            store,
            index: &index,
            // A directory that was visited is one that is needed.
            seen: &used,
            memory: ceiling.left(),
            cancel,
        };
        let roots: Vec<Id> = snapshots.values().copied().collect();
        let done = walk.run(&roots, &first);
        done.map_err(|error| ceiling.in_all(error))?;
        let listed = repo.block_on(packs(store))?;
        let mut survey = Self {
            snapshots,
            index,
            taken: ceiling.taken(),
            used,
            listed,
            packs: Vec::new(),
            rank: Vec::new(),
        };
        survey.count(limits);
        survey.all_is_there(repo)?;
        Ok(survey)
    }

    /// Whether the store has a pack whole.
    pub(super) fn is_whole(&self, number: u32) -> bool {
        let (id, end) = self.index.pack(number);
        is_whole(self.listed.get(&id), end)
    }

    /// All blobs, each with its copies and whether it is needed.
    pub(super) fn blobs(&self, mut each: impl FnMut(bool, &[Record])) {
        let mut copies: Vec<Record> = Vec::new();
        let mut first = 0;
        for (position, record) in self.index.records() {
            if copies.first().is_some_and(|one| !one.is_copy_of(&record)) {
                each(self.used.contains(first), &copies);
                copies.clear();
            }
            if copies.is_empty() {
                first = position;
            }
            copies.push(record);
        }
        if !copies.is_empty() {
            each(self.used.contains(first), &copies);
        }
    }

    /// Of the copies of a needed blob the one that counts.
    pub(super) fn chosen(&self, copies: &[Record]) -> usize {
        let rank = |n: &usize| self.rank[copies[*n].place.pack as usize];
        (0..copies.len()).min_by_key(rank).unwrap_or(0)
    }

    /// Counts what is used of each pack.
    pub(super) fn count(&mut self, limits: &Limits) {
        let marked = self.index.marked();
        let new = |id| PackUse {
            id,
            used: Tally::default(),
            unused: Tally::default(),
            trees: false,
            data: false,
            uncompressed: false,
            marked: marked.contains(&id),
        };
        let mut packs: Vec<PackUse> = self.index.pack_ids().map(new).collect();
        // First all copies count, to see which packs are worth keeping.
        self.blobs(|used, copies| {
            for record in copies {
                let pack = &mut packs[record.place.pack as usize];
                let tally = if used {
                    &mut pack.used
                } else {
                    &mut pack.unused
                };
                tally.add(u64::from(record.place.length));
                match record.kind {
                    BlobKind::Data => pack.data = true,
                    BlobKind::Tree => pack.trees = true,
                }
                pack.uncompressed |= record.place.plain == 0;
            }
        });
        self.rank = self.ranks(&packs, limits);
        for pack in &mut packs {
            (pack.used, pack.unused) = <(Tally, Tally)>::default();
        }
        self.blobs(|used, copies| {
            let chosen = used.then(|| self.chosen(copies));
            for (n, record) in copies.iter().enumerate() {
                let pack = &mut packs[record.place.pack as usize];
                let tally = if chosen == Some(n) {
                    &mut pack.used
                } else {
                    &mut pack.unused
                };
                tally.add(u64::from(record.place.length));
            }
        });
        self.packs = packs;
    }

    /// The best pack first: one that is there, is not to go, need not be written anew, of which
    /// little is unused.
    fn ranks(&self, packs: &[PackUse], limits: &Limits) -> Vec<u32> {
        let share = |pack: &PackUse| {
            u128::from(pack.unused.bytes) * (1 << 32) / u128::from(pack.size().max(1))
        };
        let mut order: Vec<u32> = (0..).take(packs.len()).collect();
        order.sort_by_cached_key(|n| {
            let pack = &packs[*n as usize];
            (
                !self.is_whole(*n),
                pack.marked,
                limits.dislikes(pack),
                share(pack),
                Reverse(pack.size()),
                pack.id,
            )
        });
        let mut rank = vec![0; packs.len()];
        for (place, n) in (0..).zip(order) {
            rank[n as usize] = place;
        }
        rank
    }

    /// Fails if what is needed lies only in packs that are missing or cut off.
    fn all_is_there(&self, repo: &Repository) -> Result<()> {
        for (n, pack) in (0..).zip(&self.packs) {
            if pack.used.blobs > 0 && !self.is_whole(n) {
                return Err(missing(repo, &pack.id));
            }
        }
        Ok(())
    }
}

/// The error for a needed pack that is not there.
pub(super) fn missing(repo: &Repository, pack: &Id) -> Error {
    let why = Invalid::new(
        "snapshots need what the index says it holds, and it is missing or too short; nothing was removed",
    );
    repo.damaged(format!("pack {pack}"), &why)
}

/// The error for a blob that snapshots need and no index knows.
pub(super) fn in_no_index(repo: &Repository, id: &Id) -> Error {
    repo.damaged(format!("blob {id}"), &Invalid::new("it is in no index"))
}

/// The first walk: of all snapshots, with one index.
struct First<'a> {
    repo: &'a Repository,
    index: &'a Index,
    used: &'a Bits,
}

impl Visitor for First<'_> {
    type Dir = ();

    fn enter(&self, _: &Tree) -> Result<()> {
        Ok(())
    }

    fn node(&self, tree: &Tree, (): &mut (), node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let damaged = |why: Invalid| self.repo.damaged(format!("tree {}", tree.id), &why);
        for id in node.map_err(damaged)?.blobs() {
            let id = id.map_err(damaged)?;
            let position = self.index.position(BlobKind::Data, &id);
            self.used
                .insert(position.ok_or_else(|| in_no_index(self.repo, &id))?);
        }
        Ok(())
    }

    fn leave(&self, _: &Tree, (): ()) -> Result<()> {
        Ok(())
    }

    fn unreadable(&self, _: &Tree, error: Error) -> Result<()> {
        // What it needs is not known.
        Err(error)
    }
}
