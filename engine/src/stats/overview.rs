//! What is stored, for which volume and which snapshot.

use std::collections::BTreeMap;

use super::{
    StatsRequest,
    graph::{self, Graph},
    problems::Problems,
};
use crate::{
    Cancel,
    browse::early::{Reader, reading_all},
    ceiling::{Beside, plus},
    crypto::Id,
    error::{Error, Result},
    format::index::BlobKind,
    index::{self, Bits, Copies, Index, Packs, Place},
    maintain::{GroupBy, GroupKey},
    repo::{Repository, Snapshot},
};

/// What counting takes beside the index: of each blob which snapshot was the first to need it, sets
/// of positions, and of directories one for a few hundred blobs.
const BESIDE: Beside = Beside {
    bytes: graph::READING + (2 << 20),
    bits: 32 + 10,
};

/// Blobs, and how much they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// How many.
    pub blobs: u64,
    /// Bytes they take in packs, sealed.
    pub bytes: u64,
    /// Bytes of their content.
    pub plain: u64,
}

impl Stored {
    fn add(&mut self, place: Place) {
        self.blobs += 1;
        self.bytes += u64::from(place.length);
        self.plain += u64::from(place.plain_length());
    }

    fn and(self, other: Self) -> Self {
        Self {
            blobs: self.blobs + other.blobs,
            bytes: self.bytes + other.bytes,
            plain: self.plain + other.plain,
        }
    }

    /// How many times larger the content is than what it takes; 0 if there is nothing.
    pub fn compression(&self) -> f64 {
        ratio(self.plain, self.bytes)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with two digits after the point"
)]
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// The repository as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepositoryStats {
    /// Pack files.
    pub packs: u64,
    /// Bytes of all pack files.
    pub pack_bytes: u64,
    /// Different blobs in the index.
    pub indexed: Stored,
    /// Of these, directories.
    pub trees: Stored,
    /// What some snapshot needs.
    pub needed: Stored,
    /// What none needs: freed by a prune.
    pub unused: Stored,
    /// Further copies of blobs: freed by a prune.
    pub duplicates: Stored,
}

/// A volume: snapshots that have in common what was asked for, host and paths unless said
/// otherwise.
#[derive(Debug, Clone)]
pub struct VolumeStats {
    /// What they have in common.
    pub key: GroupKey,
    /// Its snapshots that were asked for, oldest first.
    pub snapshots: Vec<SnapshotStats>,
    /// What all its snapshots added over those of the volumes before.
    pub added: Stored,
    /// What only its snapshots need: freed if all were forgotten.
    pub unique: Stored,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotStats {
    /// Which.
    pub snapshot: Snapshot,
    /// Entries of all kinds.
    pub entries: u64,
    /// Of these, files.
    pub files: u64,
    /// Bytes that a restore writes, a file with several names counted once.
    pub restored: u64,
    /// What no older snapshot of its volume, and none of a volume before, needs.
    pub added: Stored,
    /// What no other snapshot of the repository needs: freed if it were forgotten.
    pub unique: Stored,
}

/// How much is stored, and for what.
#[derive(Debug, Clone, Default)]
pub struct StatsReport {
    /// All of it.
    pub repository: RepositoryStats,
    /// In the order of what their snapshots have in common.
    pub volumes: Vec<VolumeStats>,
    /// What could not be read, so that the numbers are too small.
    pub problems: Vec<String>,
    /// How many more of these there were.
    pub problems_dropped: u64,
}

impl StatsReport {
    /// Bytes of all snapshots that were asked for, each restored in full.
    pub fn restored(&self) -> u64 {
        let each = self.volumes.iter().flat_map(|volume| &volume.snapshots);
        each.fold(0, |sum, snapshot| sum.saturating_add(snapshot.restored))
    }
}

/// Counts. What is told of a snapshot is true in the whole repository, also if only some snapshots
/// are asked for. Blocks: call it on a thread of its own.
///
/// # Errors
/// `SnapshotNotFound`, `SnapshotAmbiguous`, `MemoryLimit`, `Locked`, `Cancelled`, and what the store says.
pub fn stats(
    repo: &Repository,
    request: &StatsRequest,
    by: GroupBy,
    cancel: &Cancel,
) -> Result<StatsReport> {
    // All while the lock settles: nothing of it is told before that.
    let report = |reader: &Reader<'_>| {
        let all = reader.snapshots(&[], &crate::SnapshotFilter::default())?;
        let shown = reader.snapshots(&request.snapshots, &request.filter)?;
        let (index, ceiling) =
            reader.index_within(request.memory, (Packs::All, Copies::All), BESIDE)?;
        let left = ceiling.left();
        overview(repo, reader, &index, (all, &shown), left, by)
            .map_err(|error| ceiling.in_all(error))
    };
    reading_all(repo, cancel, report)
}

fn overview(
    repo: &Repository,
    reader: &Reader<'_>,
    index: &Index,
    (all, shown): (Vec<Snapshot>, &[Snapshot]),
    memory: u64,
    by: GroupBy,
) -> Result<StatsReport> {
    let cancel = &reader.cancel;
    let mut volumes: BTreeMap<GroupKey, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in all {
        volumes
            .entry(GroupKey::of(&snapshot, by))
            .or_default()
            .push(snapshot);
    }
    let ordered: Vec<&Snapshot> = volumes.values().flatten().collect();
    let volume_of: Vec<usize> = volumes
        .values()
        .enumerate()
        .flat_map(|(number, snapshots)| snapshots.iter().map(move |_| number))
        .collect();
    let roots = ordered.iter().map(|snapshot| root(repo, snapshot));
    let roots = roots.collect::<Result<Vec<Id>>>()?;

    let problems = Problems::default();
    let blobs = 4 * index.len() as u64 + Bits::memory(index.len());
    let left = memory.checked_sub(blobs).ok_or(Error::MemoryLimit {
        what: "counting blobs".to_owned(),
        needed: blobs + graph::READING,
        limit: memory,
    })?;
    let parts = (repo, &reader.store, index);
    let graph = Graph::read(parts, &roots, true, left, &problems, cancel);
    let graph = graph.map_err(|error| plus(blobs, error))?;
    let Shares {
        added,
        unique,
        volumes: of_volumes,
        needed,
    } = shares(&graph, &volume_of, volumes.len(), cancel)?;

    let mut report = StatsReport {
        repository: whole(repo, reader, index, needed)?,
        ..StatsReport::default()
    };
    let mut number = 0;
    for ((key, snapshots), unique_to_all) in volumes.into_iter().zip(of_volumes) {
        let mut volume = VolumeStats {
            key,
            snapshots: Vec::new(),
            added: Stored::default(),
            unique: unique_to_all,
        };
        for snapshot in snapshots {
            let sum =
                graph.roots[number].map_or_else(Default::default, |root| graph.restored(root));
            volume.added = volume.added.and(added[number]);
            if shown.iter().any(|one| one.id == snapshot.id) {
                volume.snapshots.push(SnapshotStats {
                    snapshot,
                    entries: sum.entries,
                    files: sum.files,
                    restored: sum.bytes,
                    added: added[number],
                    unique: unique[number],
                });
            }
            number += 1;
        }
        if !volume.snapshots.is_empty() {
            report.volumes.push(volume);
        }
    }
    drop(graph);
    (report.problems, report.problems_dropped) = problems.take();
    Ok(report)
}

pub(super) fn root(repo: &Repository, snapshot: &Snapshot) -> Result<Id> {
    let why = crate::format::Invalid::new("its tree is not an id");
    Id::parse(&snapshot.tree).ok_or_else(|| repo.damaged(format!("snapshot {}", snapshot.id), &why))
}

/// No snapshot's number.
const NOBODY: u32 = u32::MAX;

/// Who needs what.
struct Shares {
    added: Vec<Stored>,
    unique: Vec<Stored>,
    volumes: Vec<Stored>,
    needed: Stored,
}

/// The first snapshot that leads to a blob added it. Going through them the other way round, the
/// first that leads to it is the last; if both are the same, it is the only one. Snapshots of a
/// volume follow each other, so the same holds for volumes.
fn shares(
    graph: &Graph<'_>,
    volume_of: &[usize],
    volumes: usize,
    cancel: &Cancel,
) -> Result<Shares> {
    let index = graph.index;
    let place = |position: u32| index.record(position).map(|record| record.place);
    let count = graph.roots.len();
    let mut shares = Shares {
        added: vec![Stored::default(); count],
        unique: vec![Stored::default(); count],
        volumes: vec![Stored::default(); volumes],
        needed: Stored::default(),
    };
    let mut first = vec![NOBODY; index.len()];
    for (number, root) in graph.roots.iter().enumerate() {
        let Some(root) = root else { continue };
        let me = u32::try_from(number).unwrap_or(NOBODY - 1);
        let (mut dirs, mut files) = (Stored::default(), Stored::default());
        let first = std::cell::RefCell::new(&mut first);
        let mine = |position: u32| {
            let mut first = first.borrow_mut();
            let before = first
                .get_mut(position as usize)
                .filter(|first| **first == NOBODY);
            before.map(|before| *before = me).is_some()
        };
        let enter = |position| {
            let new = mine(position);
            if new && let Some(place) = place(position) {
                dirs.add(place);
            }
            new
        };
        let blob = |position| {
            if mine(position)
                && let Some(place) = place(position)
            {
                files.add(place);
            }
        };
        graph.each(*root, cancel, enter, blob)?;
        shares.added[number] = dirs.and(files);
        shares.needed = shares.needed.and(shares.added[number]);
    }
    let seen = Bits::new(index.len());
    for (number, root) in graph.roots.iter().enumerate().rev() {
        let Some(root) = root else { continue };
        let (mut dirs, mut files) = (Only::default(), Only::default());
        let owners = |position: u32| {
            let owner = first
                .get(position as usize)
                .map_or(number, |first| *first as usize);
            (
                owner == number,
                volume_of.get(owner) == volume_of.get(number),
            )
        };
        let enter = |position| {
            let new = seen.insert(position);
            if new && let Some(place) = place(position) {
                dirs.add(owners(position), place);
            }
            new
        };
        let blob = |position| {
            if seen.insert(position)
                && let Some(place) = place(position)
            {
                files.add(owners(position), place);
            }
        };
        graph.each(*root, cancel, enter, blob)?;
        shares.unique[number] = dirs.snapshot.and(files.snapshot);
        if let Some(volume) = volume_of
            .get(number)
            .and_then(|volume| shares.volumes.get_mut(*volume))
        {
            *volume = volume.and(dirs.volume).and(files.volume);
        }
    }
    Ok(shares)
}

/// What only one snapshot, and only one volume, needs.
#[derive(Default)]
struct Only {
    snapshot: Stored,
    volume: Stored,
}

impl Only {
    fn add(&mut self, (by_snapshot, by_volume): (bool, bool), place: Place) {
        if by_snapshot {
            self.snapshot.add(place);
        }
        if by_volume {
            self.volume.add(place);
        }
    }
}

/// What the index and the list of packs tell.
fn whole(
    repo: &Repository,
    reader: &Reader<'_>,
    index: &Index,
    needed: Stored,
) -> Result<RepositoryStats> {
    let packs = repo.block_on(index::pack_sizes(&reader.store))?;
    let mut stats = RepositoryStats {
        packs: packs.len() as u64,
        pack_bytes: packs.values().sum(),
        needed,
        ..RepositoryStats::default()
    };
    let mut last: Option<index::Record> = None;
    for (_, record) in index.records() {
        if last.is_some_and(|last| record.is_copy_of(&last)) {
            stats.duplicates.add(record.place);
            continue;
        }
        last = Some(record);
        stats.indexed.add(record.place);
        if record.kind == BlobKind::Tree {
            stats.trees.add(record.place);
        }
    }
    let without = |a: u64, b: u64| a.saturating_sub(b);
    stats.unused = Stored {
        blobs: without(stats.indexed.blobs, needed.blobs),
        bytes: without(stats.indexed.bytes, needed.bytes),
        plain: without(stats.indexed.plain, needed.plain),
    };
    Ok(stats)
}
