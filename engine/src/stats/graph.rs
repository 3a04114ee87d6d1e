//! All directories of some snapshots as a graph: which are in which, what lies directly in each.
//!
//! Does: read each directory once, on several threads, and keep what counting needs of it. The blobs of files are kept as
//! long as there is room; those of other directories are read again when they are asked for. Positions in the index stand
//! for ids. Does not: count what many paths lead to by going along each of them; a directory's sum is made once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use super::problems::Problems;
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind, nodes},
    index::{Bits, Index, compact::PREFIX},
    repo::{
        Repository,
        blobs::{BlobReader, is_content},
        walk::{Node, Tree, Visitor, Walk},
    },
    storage::Store,
};

/// Bytes of an id that the index does not keep.
const REST: usize = 32 - PREFIX;
/// What a directory takes, with its place in a table and its sum.
const DIRECTORY: u64 = 192;
/// What reading takes, at least.
const READING: u64 = 32 << 20;

/// A directory: its position, and what the index does not know of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dir {
    pub(super) position: u32,
    rest: [u8; REST],
}

/// A file with several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    inode: u64,
    device: u64,
    size: u64,
}

/// How much there is, counting a file with several names once, where that shows within the directory's own entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Entries of all kinds.
    pub(super) entries: u64,
    /// Of these, files.
    pub(super) files: u64,
    /// Bytes they say they have.
    pub(super) bytes: u64,
    /// There are files with several names, which are not in `bytes`.
    links: bool,
}

/// What is kept of a directory.
#[derive(Debug, Default)]
struct Local {
    own: Sum,
    links: Box<[Link]>,
    dirs: Box<[Dir]>,
    /// Blobs of its files; `None` if there was no room.
    data: Option<Box<[u32]>>,
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

/// Reads the directories.
struct Reading<'a> {
    index: &'a Index,
    problems: &'a Problems,
    /// Keep blobs of files.
    data: bool,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    locals: HashMap<u32, Local>,
    /// Bytes without blobs, and with them.
    needed: u64,
    memory: u64,
}

/// A directory being read.
#[derive(Default)]
struct Open {
    own: Sum,
    links: Vec<Link>,
    dirs: Vec<Dir>,
    data: Vec<u32>,
    unknown: u64,
}

impl Open {
    fn memory(&self) -> (u64, u64) {
        let fixed = size_of_val(&self.links[..]) + size_of_val(&self.dirs[..]);
        (DIRECTORY + fixed as u64, size_of_val(&self.data[..]) as u64)
    }

    fn node(&mut self, index: &Index, node: &Node<'_>, data: bool) -> Result<(), Invalid> {
        self.own.entries += 1;
        if node.kind == "file" {
            self.own.files += 1;
        }
        if node.links == 1 || node.kind == "dir" || node.inode == 0 {
            self.own.bytes = self.own.bytes.saturating_add(node.size);
        } else {
            self.own.links = true;
            self.links.push(Link {
                inode: node.inode,
                device: node.device,
                size: node.size,
            });
        }
        match &*node.kind {
            "dir" => {
                // Why there is none is told by whoever reads.
                let id = node.directory().ok().flatten();
                let dir = id.and_then(|id| Dir::of(index, &id));
                self.dirs.extend(dir);
            }
            "file" if data => {
                for id in node.blobs() {
                    match index.position(BlobKind::Data, &id?) {
                        Some(position) => self.data.push(position),
                        None => self.unknown += 1,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Dir {
    fn of(index: &Index, id: &Id) -> Option<Self> {
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

impl Visitor for Reading<'_> {
    type Dir = Open;

    fn enter(&self, _tree: &Tree) -> Result<Open> {
        Ok(Open::default())
    }

    fn node(&self, tree: &Tree, dir: &mut Open, node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let done = node.and_then(|node| dir.node(self.index, node, self.data));
        if let Err(why) = done {
            self.problems
                .add(format_args!("an entry of tree {}: {why}", tree.id));
        }
        let (fixed, data) = dir.memory();
        if fixed + data > self.limit {
            return Err(self.too_much(fixed));
        }
        Ok(())
    }

    fn leave(&self, tree: &Tree, dir: Open) -> Result<()> {
        let Some(position) = tree.position else {
            return Ok(());
        };
        if dir.unknown > 0 {
            self.problems.add(format_args!(
                "tree {}: {} blobs of files in it are in no index",
                tree.id, dir.unknown
            ));
        }
        let (fixed, more) = dir.memory();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.needed += fixed;
        if state.needed > self.limit {
            return Err(self.too_much(state.needed));
        }
        let room = self.data && state.memory + fixed + more <= self.limit;
        state.memory += if room { fixed + more } else { fixed };
        if state.memory > self.limit {
            // Blobs that were kept are in the way.
            state
                .locals
                .values_mut()
                .for_each(|local| local.data = None);
            state.memory = state.needed;
        }
        let Open {
            own,
            links,
            dirs,
            data,
            unknown: _,
        } = dir;
        let local = Local {
            own,
            links: links.into(),
            dirs: dirs.into(),
            data: room.then(|| data.into()),
        };
        state.locals.insert(position, local);
        Ok(())
    }

    fn unreadable(&self, _tree: &Tree, error: Error) -> Result<()> {
        self.problems.add(error);
        Ok(())
    }
}

impl Reading<'_> {
    fn too_much(&self, needed: u64) -> Error {
        Error::MemoryLimit {
            what: "keeping which directories are in which".to_owned(),
            needed: needed + self.limit,
            limit: self.limit,
        }
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
        let reading = READING + waiting;
        let limit = memory
            .checked_sub(reading + READING / 2)
            .ok_or(Error::MemoryLimit {
                what: "going through the directories".to_owned(),
                needed: reading + READING,
                limit: memory,
            })?;
        let seen = Bits::new(index.len());
        let visitor = Reading {
            index,
            problems,
            data,
            limit,
            state: Mutex::default(),
        };
        Walk {
            repo,
            store,
            index,
            seen: &seen,
            memory: reading,
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

    /// Makes the sum of a directory and all below it. There is no way round: an id is the hash of what is in it.
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

    /// Goes through the directories below and including `root` for which `enter` says so, and hands it the blobs of files
    /// in each.
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

    /// Reads a directory once more for its blobs. What is wrong with it was told when it was read first.
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
            Err(error) if is_content(&error) => return Ok(()),
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
