//! What matters of one directory in one state: what fits in it, the directories to go on in, and
//! what makes no sense.

use std::os::unix::ffi::OsStrExt as _;

use super::{
    query::{Fit, Query, State},
    too_much,
};
use crate::{
    crypto::Id,
    error::Result,
    format::{Invalid, name},
    repo::walk::Node,
};

/// One of them, in the order of the directory.
#[derive(Debug)]
pub(super) enum Item {
    /// Something fits.
    Fit { name: Box<[u8]>, fit: Fit },
    /// A directory in which something may.
    Dir {
        name: Box<[u8]>,
        id: Id,
        state: State,
    },
    /// An entry that makes no sense.
    Problem { name: Box<[u8]>, why: String },
}

/// What the allocator and a list take on top, about.
const OVERHEAD: usize = 48;

impl Item {
    /// Bytes it takes.
    fn memory(&self) -> u64 {
        let inside = match self {
            Self::Dir { name, .. } => name.len(),
            Self::Problem { name, why } => name.len() + why.len(),
            Self::Fit { name, fit } => {
                let inside = match fit {
                    Fit::Blob(_) | Fit::Tree(_) => 0,
                    Fit::Entry { info, stored } => {
                        let target = info
                            .link_target
                            .as_ref()
                            .map_or(0, |path| path.as_os_str().len());
                        size_of_val(&**info) + target + stored.as_ref().map_or(0, String::len)
                    }
                };
                name.len() + inside
            }
        };
        (size_of::<Self>() + OVERHEAD + inside) as u64
    }
}

/// Collects them.
#[derive(Debug)]
pub(super) struct Items<'a> {
    query: &'a Query,
    state: State,
    /// Bytes they may take.
    limit: u64,
    list: Vec<Item>,
    memory: u64,
    /// The entry that was looked at last.
    last: Box<[u8]>,
}

impl<'a> Items<'a> {
    pub(super) fn new(query: &'a Query, state: State, limit: u64) -> Self {
        Self {
            query,
            state,
            limit,
            list: Vec::new(),
            memory: 0,
            last: Box::default(),
        }
    }

    /// An entry, or why the last one or one without a name makes no sense.
    pub(super) fn node(&mut self, node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let node = match node {
            Ok(node) => node,
            Err(why) => {
                let name = match std::mem::take(&mut self.last) {
                    last if last.is_empty() => Box::from(*b"?"),
                    last => last,
                };
                return self.push(Item::Problem {
                    name,
                    why: why.to_string(),
                });
            }
        };
        self.last = Box::default();
        let name: Box<[u8]> = match name::decode(&node.name) {
            Ok(name) => name.as_bytes().into(),
            Err(why) => {
                let shown = node.name.escape_debug().to_string().replace('/', "\\x2f");
                return self.push(Item::Problem {
                    name: shown.into_bytes().into(),
                    why: why.to_string(),
                });
            }
        };
        let query = self.query;
        let state = query.step(self.state, &name, node, |fit| {
            self.push(Item::Fit {
                name: name.clone(),
                fit,
            })
        })?;
        match state {
            Ok(Some(state)) if node.kind == "dir" => {
                if let Ok(Some(id)) = node.directory() {
                    return self.push(Item::Dir { name, id, state });
                }
                // Why not is told next.
                self.last = name;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(why) => self.push(Item::Problem {
                name,
                why: why.to_string(),
            }),
        }
    }

    fn push(&mut self, item: Item) -> Result<()> {
        self.memory += item.memory();
        if self.memory > self.limit {
            return Err(too_much(
                "what was found in one directory",
                self.memory,
                self.limit,
            ));
        }
        self.list.push(item);
        Ok(())
    }

    /// All of them, and the bytes they take.
    pub(super) fn finish(mut self) -> (Vec<Item>, u64) {
        self.list.shrink_to_fit();
        (self.list, self.memory)
    }
}
