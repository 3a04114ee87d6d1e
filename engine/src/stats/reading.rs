//! What is kept of each directory while all are read.
//!
//! Blobs of files are kept as long as there is room. When there is none for the rest any more,
//! those that were kept go first.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{
    graph::{Dir, Link, Local, READING, Sum},
    problems::Problems,
};
use crate::{
    error::{Error, Result},
    format::{Invalid, index::BlobKind},
    index::Index,
    repo::walk::{Node, Tree, Visitor},
};

/// What a directory takes, with its place in a table and its sum.
const DIRECTORY: u64 = 192;

/// Reads the directories.
pub(super) struct Reading<'a> {
    pub(super) index: &'a Index,
    pub(super) problems: &'a Problems,
    /// Keep blobs of files.
    pub(super) data: bool,
    /// Bytes for what is kept.
    pub(super) limit: u64,
    /// Bytes that directories take which wait.
    pub(super) waiting: u64,
    /// Bytes in all.
    pub(super) memory: u64,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) locals: HashMap<u32, Local>,
    /// Bytes without blobs, and with them.
    needed: u64,
    memory: u64,
}

/// A directory being read.
#[derive(Default)]
pub(super) struct Open {
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
            return Err(self.too_much(fixed + data));
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

    fn too_large(&self, _tree: &Tree, error: Error) -> Result<()> {
        Err(match error {
            Error::MemoryLimit { what, needed, .. } => {
                self.short(what, needed.saturating_sub(self.waiting))
            }
            error => error,
        })
    }
}

impl Reading<'_> {
    fn too_much(&self, needed: u64) -> Error {
        // It is known only of what was read so far.
        let needed = needed + self.limit;
        self.short("keeping which directories are in which".to_owned(), needed)
    }

    /// The walk, and what is kept, have half of it each at least.
    fn short(&self, what: String, half: u64) -> Error {
        Error::MemoryLimit {
            what,
            needed: self.waiting + (2 * half).max(READING),
            limit: self.memory,
        }
    }
}
