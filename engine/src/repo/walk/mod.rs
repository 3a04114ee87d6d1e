//! Every directory below some roots, once.
//!
//! Does: read each directory (tree blob) that the roots lead to, on several threads, verify it, and hand its nodes to a
//! [`Visitor`] while they are parsed. Directories that wait are kept as 12 bytes each, and read in the order of packs and
//! offsets, neighbours together. A directory whose first copy is damaged is read from its others, if the index knows them
//! ([`crate::index::Copies::All`]). Which directories were visited is a bit for each position of the index, which the
//! caller has, so that several walks can share it: what one has seen, the next does not visit.
//!
//! Does not: know paths, or the order of directories. A directory named under two paths is visited
//! once.
//!
//! Memory: [`Walk::memory`] bytes are for the directories that wait, their bytes and one node of
//! each thread; the index and the bits are the caller's. A directory for which that is too little
//! is `MemoryLimit`, unless the visitor can do without it.
//!
//! Fails with `Cancelled` within a second, `MemoryLimit`, what the visitor returns, and what the
//! store says that is not about the repository's content.
//!
//! ```text
//!   roots ─► frontier (positions) ─► batch, sorted by pack ─► ranges ─► threads: read, open, parse ─► visitor
//!                 ▲                                                            │
//!                 └──────────────── subdirectories not seen yet ◄──────────────┘
//! ```

mod frontier;
mod reader;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use crate::format::nodes::Node;

use frontier::{Frontier, PENDING};

use super::Repository;
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind},
    index::{Bits, Index},
    panics::caught,
    permits::Pool,
    storage::Store,
};

/// Bytes fetched at once, unless a directory is larger.
const RANGE: u32 = 4 << 20;
/// What plans, threads and decompressors take.
const BASE: u64 = 8 << 20;
/// The least that a walk needs for reading.
const LEAST: u64 = 12 << 20;

/// What a walk goes over, and how.
pub(crate) struct Walk<'a> {
    pub(crate) repo: &'a Repository,
    /// Where to read. Its requests should end when `cancel` does.
    pub(crate) store: &'a Store,
    pub(crate) index: &'a Index,
    /// Positions of the directories that were visited, or soon will be.
    pub(crate) seen: &'a Bits,
    /// Bytes it may take, beside the index and `seen`.
    pub(crate) memory: u64,
    pub(crate) cancel: &'a Cancel,
}

/// A directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) id: Id,
    /// Its position in the index; `None` if it is in none.
    pub(crate) position: Option<u32>,
    /// Bytes of its document, by the index.
    pub(crate) bytes: u64,
}

/// Who is shown the directories. Called on several threads at once, each with a directory of its
/// own. An error that it returns ends the walk.
pub(crate) trait Visitor: Sync {
    /// What is kept while one directory is gone through.
    type Dir;

    /// A directory was read, and begins.
    fn enter(&self, tree: &Tree) -> Result<Self::Dir>;

    /// One of its nodes, or why something in it cannot be known: a node that makes no sense, or one
    /// that is a directory and names none (which is shown as a node before).
    ///
    /// Ids of content come from [`Node::blobs`], and may be errors themselves.
    fn node(
        &self,
        tree: &Tree,
        dir: &mut Self::Dir,
        node: Result<&Node<'_>, Invalid>,
    ) -> Result<()>;

    /// All nodes were shown.
    fn leave(&self, tree: &Tree, dir: Self::Dir) -> Result<()>;

    /// It could not be read: an error of one object ([`Error::is_of_one_object`]). Only one of
    /// content ([`Error::is_content`]) says that it is damaged. Nodes may have been shown before.
    /// Returning `Ok` goes on without it; then what is below it is not visited.
    ///
    /// What is in no index may be shown more than once.
    fn unreadable(&self, tree: &Tree, error: Error) -> Result<()>;

    /// Its bytes are more than the walk may take: `MemoryLimit`, with what would do. Returning `Ok`
    /// goes on without it.
    fn too_large(&self, _tree: &Tree, error: Error) -> Result<()> {
        Err(error)
    }
}

impl Walk<'_> {
    /// Visits every directory that the roots lead to and that was not seen. Blocks.
    pub(crate) fn run(&self, roots: &[Id], visitor: &impl Visitor) -> Result<()> {
        // All could wait at once.
        let waiting = (self.index.trees() * PENDING) as u64;
        let pool = Pool::new(
            self.memory,
            BASE + waiting,
            LEAST,
            "going through the directories",
        )?;
        let stop = AtomicBool::new(false);
        let frontier = Frontier::new(self, &stop);
        for root in roots {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if let Some(missing) = frontier.offer(std::iter::once(*root)).pop() {
                visitor.unreadable(&missing, self.not_indexed(&missing))?;
            }
        }
        let share = pool.all() / 8;
        let range = u32::try_from(share)
            .unwrap_or(u32::MAX)
            .clamp(256 << 10, RANGE);
        let work = || {
            let done = caught("going through directories", || {
                reader::Reader::new(self, &frontier, &pool, visitor, range)?.run()
            });
            if let Err(error) = done {
                frontier.fail(error);
            }
        };
        std::thread::scope(|scope| -> Result<()> {
            for n in 1..threads() {
                let spawned = std::thread::Builder::new()
                    .name(format!("walk-{n}"))
                    .spawn_scoped(scope, work);
                if n == 1
                    && let Err(error) = spawned
                {
                    stop.store(true, Ordering::Relaxed);
                    return Err(Error::Bug(format!("no thread could be started: {error}")));
                }
            }
            work();
            Ok(())
        })?;
        frontier.result()
    }

    fn not_indexed(&self, tree: &Tree) -> Error {
        let why = Invalid::new("it is in no index");
        self.repo.damaged(format!("tree {}", tree.id), &why)
    }
}

/// Bytes that a walk takes for the largest directory that this index knows, beside those that wait.
pub(crate) fn needed(index: &Index) -> u64 {
    let records = index.records().map(|(_, record)| record);
    let trees = records.filter(|record| record.kind == BlobKind::Tree);
    let bytes = trees.map(|tree| reader::needed(tree.place.length, tree.place.plain_length()));
    BASE + bytes.max().unwrap_or(0)
}

/// Some wait for the store while others work.
fn threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(4, 16)
}
