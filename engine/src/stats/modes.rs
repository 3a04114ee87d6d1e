//! Counting as `restic stats` does: the same numbers in each of its modes.
//!
//! Where restic goes through every snapshot in full, a directory that several share is read once
//! here; the numbers are made so that it makes no difference.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{StatsRequest, graph::Graph, overview::root, per_file::content, problems::Problems};
use crate::{
    Cancel,
    browse::early::{Reader, reading_all},
    ceiling::{Beside, times},
    crypto::{Id, OVERHEAD},
    error::{Error, Result},
    format::{Invalid, index::BlobKind},
    index::{Bits, Copies, Index, Packs},
    repo::{
        Repository, Snapshot,
        walk::{Node, Tree, Visitor, Walk},
    },
};

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatsMode {
    /// What restoring each snapshot would make.
    #[default]
    RestoreSize,
    /// Files that differ in content.
    FilesByContents,
    /// Blobs of files that differ in content, by path.
    BlobsPerFile,
    /// Blobs in the repository.
    RawData,
}

/// What was counted. A number that a mode does not count is 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// Snapshots that were asked for.
    pub snapshots: u64,
    /// Files, or entries of all kinds for what a restore makes.
    pub files: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes; of blobs in packs, sealed ones.
    pub bytes: u64,
    /// Raw data: bytes without compression, in repositories that may have it.
    pub uncompressed: u64,
    /// Raw data: bytes of blobs that are compressed.
    pub compressed: u64,
    /// Raw data: bytes of these without compression.
    pub compressed_plain: u64,
    /// What could not be read, so that the numbers are too small.
    pub problems: Vec<String>,
    /// How many more of these there were.
    pub problems_dropped: u64,
}

/// What an entry of a set takes, with the room that sets keep.
pub(super) const ENTRY: u64 = 48;
/// What reading takes.
pub(super) const READING: u64 = 64 << 20;
/// What all that takes beside the index: sets of positions, and of directories one for a few
/// hundred blobs.
const BESIDE: Beside = Beside {
    bytes: READING + (2 << 20),
    bits: 10,
};

/// Counts in one mode. Blocks: call it on a thread of its own.
///
/// # Errors
/// `SnapshotNotFound`, `SnapshotAmbiguous`, `MemoryLimit`, `Locked`, `Cancelled`, and what the store says.
pub fn count(
    repo: &Repository,
    request: &StatsRequest,
    mode: StatsMode,
    cancel: &Cancel,
) -> Result<Totals> {
    let totals = |reader: &Reader<'_>| {
        let snapshots = reader.snapshots(&request.snapshots, &request.filter)?;
        let packs = match mode {
            StatsMode::RestoreSize => Packs::Trees,
            _ => Packs::All,
        };
        let (index, ceiling) = reader.index_within(request.memory, (packs, Copies::All), BESIDE)?;
        let counting = Counting {
            repo,
            reader,
            index: &index,
            memory: ceiling.left(),
            problems: Problems::default(),
            cancel: &reader.cancel,
        };
        let mut totals = match mode {
            StatsMode::RestoreSize => counting.restore_size(&snapshots),
            StatsMode::FilesByContents => counting.files_by_contents(&snapshots),
            StatsMode::BlobsPerFile => counting.blobs_per_file(&snapshots),
            StatsMode::RawData => counting.raw_data(&snapshots),
        }
        .map_err(|error| ceiling.in_all(error))?;
        totals.snapshots = snapshots.len() as u64;
        (totals.problems, totals.problems_dropped) = counting.problems.take();
        Ok(totals)
    };
    reading_all(repo, cancel, totals)
}

pub(super) struct Counting<'a> {
    pub(super) repo: &'a Repository,
    pub(super) reader: &'a Reader<'a>,
    pub(super) index: &'a Index,
    pub(super) memory: u64,
    pub(super) problems: Problems,
    pub(super) cancel: &'a Cancel,
}

impl Counting<'_> {
    pub(super) fn roots(&self, snapshots: &[Snapshot]) -> Result<Vec<Id>> {
        snapshots
            .iter()
            .map(|snapshot| root(self.repo, snapshot))
            .collect()
    }

    fn restore_size(&self, snapshots: &[Snapshot]) -> Result<Totals> {
        let parts = (self.repo, &self.reader.store, self.index);
        let roots = self.roots(snapshots)?;
        let graph = Graph::read(
            parts,
            &roots,
            false,
            self.memory,
            &self.problems,
            self.cancel,
        )?;
        let mut totals = Totals::default();
        for root in graph.roots.iter().flatten() {
            let sum = graph.restored(*root);
            totals.files = totals.files.saturating_add(sum.entries);
            totals.bytes = totals.bytes.saturating_add(sum.bytes);
        }
        Ok(totals)
    }

    /// Goes through every directory once.
    fn walk(&self, snapshots: &[Snapshot], seen: &Bits, visitor: &impl Visitor) -> Result<()> {
        let roots = self.roots(snapshots)?;
        Walk {
            repo: self.repo,
            store: &self.reader.store,
            index: self.index,
            seen,
            memory: self.memory / 2,
            cancel: self.cancel,
        }
        .run(&roots, visitor)
        .map_err(|error| times(2, error))
    }

    /// A set of positions.
    pub(super) fn bits(&self) -> Result<Bits> {
        let needed = 2 * Bits::memory(self.index.len()) + READING;
        if needed > self.memory {
            return Err(self.too_much(needed));
        }
        Ok(Bits::new(self.index.len()))
    }

    pub(super) fn too_much(&self, needed: u64) -> Error {
        Error::MemoryLimit {
            what: "counting".to_owned(),
            needed,
            limit: self.memory,
        }
    }

    fn raw_data(&self, snapshots: &[Snapshot]) -> Result<Totals> {
        let visitor = Used {
            counting: self,
            data: self.bits()?,
        };
        let seen = self.bits()?;
        self.walk(snapshots, &seen, &visitor)?;
        let mut totals = Totals::default();
        for (position, record) in self.index.records() {
            if !seen.contains(position) && !visitor.data.contains(position) {
                continue;
            }
            let place = record.place;
            let sealed = u64::from(place.plain_length()) + OVERHEAD as u64;
            totals.blobs += 1;
            totals.bytes += u64::from(place.length);
            if self.repo.version() >= 2 {
                totals.uncompressed += sealed;
                if place.plain != 0 {
                    totals.compressed += u64::from(place.length);
                    totals.compressed_plain += sealed;
                }
            }
        }
        Ok(totals)
    }

    fn files_by_contents(&self, snapshots: &[Snapshot]) -> Result<Totals> {
        let visitor = Contents {
            counting: self,
            one: self.bits()?,
            known: Mutex::default(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        let seen = self.bits()?;
        self.walk(snapshots, &seen, &visitor)?;
        Ok(Totals {
            files: visitor.files.into_inner(),
            bytes: visitor.bytes.into_inner(),
            ..Totals::default()
        })
    }
}

/// Which blobs there are.
struct Used<'a> {
    counting: &'a Counting<'a>,
    data: Bits,
}

impl Visitor for Used<'_> {
    type Dir = u64;

    fn enter(&self, _tree: &Tree) -> Result<u64> {
        Ok(0)
    }

    fn node(&self, tree: &Tree, unknown: &mut u64, node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let done = node.and_then(|node| {
            if node.kind == "file" {
                for id in node.blobs() {
                    match self.counting.index.position(BlobKind::Data, &id?) {
                        Some(position) => {
                            self.data.insert(position);
                        }
                        None => *unknown += 1,
                    }
                }
            }
            Ok(())
        });
        if let Err(why) = done {
            let problems = &self.counting.problems;
            problems.add(format_args!("an entry of tree {}: {why}", tree.id));
        }
        Ok(())
    }

    fn leave(&self, tree: &Tree, unknown: u64) -> Result<()> {
        if unknown > 0 {
            let problems = &self.counting.problems;
            problems.add(format_args!(
                "tree {}: {unknown} blobs of files in it are in no index",
                tree.id
            ));
        }
        Ok(())
    }

    fn unreadable(&self, _tree: &Tree, error: Error) -> Result<()> {
        self.counting.problems.add(error);
        Ok(())
    }
}

/// Which contents there are.
struct Contents<'a> {
    counting: &'a Counting<'a>,
    /// Of one blob: most.
    one: Bits,
    /// Of none, and of several.
    known: Mutex<HashSet<u128>>,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Contents<'_> {
    fn is_new(&self, ids: &[Id]) -> Result<bool> {
        if let [id] = ids
            && let Some(position) = self.counting.index.position(BlobKind::Data, id)
        {
            return Ok(self.one.insert(position));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let held = ENTRY * known.len() as u64;
        if held > self.counting.memory / 4 {
            return Err(self.counting.too_much(8 * held));
        }
        Ok(known.insert(content(ids)))
    }
}

impl Visitor for Contents<'_> {
    type Dir = ();

    fn enter(&self, _tree: &Tree) -> Result<()> {
        Ok(())
    }

    fn node(&self, tree: &Tree, _dir: &mut (), node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let read =
            node.and_then(|node| Ok((node.size, node.blobs().collect::<Result<Vec<_>, _>>()?)));
        match read {
            Ok((size, ids)) => {
                if self.is_new(&ids)? {
                    self.files.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(size, Ordering::Relaxed);
                }
            }
            Err(why) => {
                let problems = &self.counting.problems;
                problems.add(format_args!("an entry of tree {}: {why}", tree.id));
            }
        }
        Ok(())
    }

    fn leave(&self, _tree: &Tree, _dir: ()) -> Result<()> {
        Ok(())
    }

    fn unreadable(&self, _tree: &Tree, error: Error) -> Result<()> {
        self.counting.problems.add(error);
        Ok(())
    }
}
