//! All directories of some snapshots as a graph: which are in which, what lies directly in each.
//!
//! Does: read each directory once, on several threads, and keep what counting needs of it. The
//! blobs of files are kept as long as there is room; those of other directories are read again when
//! they are asked for. Positions in the index stand for ids. Does not: count what many paths lead
//! to by going along each of them; a directory's sum is made once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use super::{
    problems::Problems,
    reading::{Reading, State},
};
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{index::BlobKind, nodes},
    index::{Bits, Index, compact::PREFIX},
    repo::{
        Repository,
        blobs::BlobReader,
        walk::{self, Walk},
    },
    storage::Store,
};

/// Bytes of an id that the index does not keep.
const REST: usize = 32 - PREFIX;
/// What a walk takes for reading, unless a directory is larger.
const WALK: u64 = 32 << 20;
/// What reading takes, at least.
pub(super) const READING: u64 = WALK + WALK / 2;

/// A directory: its position, and what the index does not know of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dir {
    pub(super) position: u32,
    rest: [u8; REST],
}

/// A file with several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) inode: u64,
    pub(super) device: u64,
    pub(super) size: u64,
}

/// How much there is, counting a file with several names once, where that shows within the
/// directory's own entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Entries of all kinds.
    pub(super) entries: u64,
    /// Of these, files.
    pub(super) files: u64,
    /// Bytes they say they have.
    pub(super) bytes: u64,
    /// There are files with several names, which are not in `bytes`.
    pub(super) links: bool,
}

/// What is kept of a directory.
#[derive(Debug, Default)]
pub(super) struct Local {
    pub(super) own: Sum,
    pub(super) links: Box<[Link]>,
    pub(super) dirs: Box<[Dir]>,
    /// Blobs of its files; `None` if there was no room.
    pub(super) data: Option<Box<[u32]>>,
}

/// See the module.
pub(super) struct Graph<'a> {
    repo: &'a Repository,
    store: &'a Store,
    pub(super) index: &'a Index,
    /// Of each snapshot; `None` if it has none that the index knows.
    pub(super) roots: Vec<Option<Dir>>,
    locals: HashMap<u32, Local>,
    sums: HashMap<u32, Sum>,
}

impl Dir {
    pub(super) fn of(index: &Index, id: &Id) -> Option<Self> {
        let position = index.position(BlobKind::Tree, id)?;
        let rest = id.0.last_chunk().copied()?;
        Some(Self { position, rest })
    }

    fn id(self, index: &Index) -> Option<Id> {
        let mut id = [0; 32];
        id[..PREFIX].copy_from_slice(&index.record(self.position)?.prefix);
        id[PREFIX..].copy_from_slice(&self.rest);
        Some(Id(id))
    }
}

impl<'a> Graph<'a> {
    /// Reads all that the roots lead to. `data`: also the blobs of files are of interest.
    pub(super) fn read(
        (repo, store, index): (&'a Repository, &'a Store, &'a Index),
        roots: &[Id],
        data: bool,
        memory: u64,
        problems: &Problems,
        cancel: &Cancel,
    ) -> Result<Self> {
        // A walk has what directories take that wait, too.
        let waiting = 16 * index.trees() as u64 + Bits::memory(index.len());
        let rest = memory.saturating_sub(waiting);
        if rest < READING {
            return Err(Error::MemoryLimit {
                what: "going through the directories".to_owned(),
                needed: waiting + READING,
                limit: memory,
            });
        }
        // What an index claims of its largest directory need not be true, so that has no more than
        // half.
        let walk = walk::needed(index).clamp(WALK, WALK.max(rest / 2));
        let seen = Bits::new(index.len());
        let visitor = Reading {
            index,
            problems,
            data,
            limit: rest - walk,
            waiting,
            memory,
            state: Mutex::<State>::default(),
        };
        Walk {
            repo,
            store,
            index,
            seen: &seen,
            memory: walk + waiting,
            cancel,
        }
        .run(roots, &visitor)?;
        let state = visitor
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut graph = Self {
            repo,
            store,
            index,
            roots: roots.iter().map(|id| Dir::of(index, id)).collect(),
            locals: state.locals,
            sums: HashMap::new(),
        };
        for root in graph.roots.clone().into_iter().flatten() {
            graph.sum(root.position);
        }
        Ok(graph)
    }

    /// Makes the sum of a directory and all below it. There is no way round: an id is the hash of
    /// what is in it.
    fn sum(&mut self, top: u32) {
        let mut stack = vec![top];
        while let Some(&position) = stack.last() {
            if self.sums.contains_key(&position) {
                stack.pop();
                continue;
            }
            // One that could not be read has nothing in it.
            let Some(local) = self.locals.get(&position) else {
                self.sums.insert(position, Sum::default());
                stack.pop();
                continue;
            };
            let before = stack.len();
            let unknown = local.dirs.iter().map(|dir| dir.position);
            stack.extend(unknown.filter(|dir| !self.sums.contains_key(dir)));
            if stack.len() > before {
                continue;
            }
            let mut sum = local.own;
            for below in local
                .dirs
                .iter()
                .filter_map(|dir| self.sums.get(&dir.position))
            {
                sum.entries = sum.entries.saturating_add(below.entries);
                sum.files = sum.files.saturating_add(below.files);
                sum.bytes = sum.bytes.saturating_add(below.bytes);
                sum.links |= below.links;
            }
            self.sums.insert(position, sum);
            stack.pop();
        }
    }

    /// How much restoring a snapshot makes, a file with several names counted once.
    pub(super) fn restored(&self, root: Dir) -> Sum {
        let mut sum = self.sums.get(&root.position).copied().unwrap_or_default();
        if !sum.links {
            return sum;
        }
        let (mut visited, mut known) = (HashSet::new(), HashSet::new());
        let mut stack = vec![root.position];
        while let Some(position) = stack.pop() {
            let has_links = self.sums.get(&position).is_some_and(|sum| sum.links);
            // A file in a directory that is met again was met before, too.
            if !has_links || !visited.insert(position) {
                continue;
            }
            let Some(local) = self.locals.get(&position) else {
                continue;
            };
            for link in &local.links {
                if known.insert((link.inode, link.device)) {
                    sum.bytes = sum.bytes.saturating_add(link.size);
                }
            }
            stack.extend(local.dirs.iter().rev().map(|dir| dir.position));
        }
        sum
    }

    /// Goes through the directories below and including `root` for which `enter` says so, and hands
    /// it the blobs of files in each.
    pub(super) fn each(
        &self,
        root: Dir,
        cancel: &Cancel,
        mut enter: impl FnMut(u32) -> bool,
        mut blob: impl FnMut(u32),
    ) -> Result<()> {
        let mut blobs = BlobReader::new(self.repo, self.store, self.index);
        let mut stack = vec![root];
        while let Some(dir) = stack.pop() {
            if !enter(dir.position) {
                continue;
            }
            let Some(local) = self.locals.get(&dir.position) else {
                continue;
            };
            stack.extend(local.dirs.iter().rev());
            if let Some(data) = &local.data {
                data.iter().for_each(|position| blob(*position));
            } else {
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                self.again(&mut blobs, dir, &mut blob)?;
            }
        }
        Ok(())
    }

    /// Reads a directory once more for its blobs. What is wrong with it was told when it was read
    /// first.
    fn again(
        &self,
        blobs: &mut BlobReader<'_>,
        dir: Dir,
        blob: &mut impl FnMut(u32),
    ) -> Result<()> {
        let Some(id) = dir.id(self.index) else {
            return Ok(());
        };
        let json = match blobs.read(BlobKind::Tree, &id) {
            Err(error) if error.is_of_one_object() => return Ok(()),
            json => json?,
        };
        let read: Result<_> = nodes::each(&json, |node| {
            if let Ok(node) = node
                && node.kind == "file"
            {
                let ids = node.blobs().map_while(Result::ok);
                ids.filter_map(|id| self.index.position(BlobKind::Data, &id))
                    .for_each(&mut *blob);
            }
            Ok(())
        });
        // It was a directory before.
        read.map(|_| ())
    }
}
