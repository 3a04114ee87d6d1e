//! Directories being put together: their entries arrive in any order, their trees are written in order.
//!
//! A directory has slots in the order of its names; a slot holds one part or, where the end of a large file
//! is awaited, several. When the last part is there, whoever brought it writes the tree and brings the
//! directory's own node to the one above. Cost: the JSON of each entry until its directory is written.

use std::{
    mem,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::format::node::{Node, TREE_END, TREE_START};

/// A directory that is not written yet.
pub(super) struct Directory {
    /// The directory above and the slot there; `None` for the root.
    pub(super) parent: Option<(Arc<Directory>, usize)>,
    /// Its own entry, without the tree's id.
    pub(super) node: Mutex<Option<Node>>,
    pub(super) path: PathBuf,
    /// Bytes of its files together, when somebody asked.
    pub(super) bytes: OnceLock<u64>,
    slots: Mutex<Slots>,
}

struct Slots {
    parts: Vec<Vec<Option<Vec<u8>>>>,
    /// Parts that are awaited, and one for the listing.
    awaited: usize,
}

impl Directory {
    pub(super) fn new(
        parent: Option<(Arc<Directory>, usize)>,
        node: Option<Node>,
        path: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            parent,
            node: Mutex::new(node),
            path,
            bytes: OnceLock::new(),
            slots: Mutex::new(Slots {
                parts: Vec::new(),
                awaited: 1,
            }),
        })
    }

    fn change<T>(&self, with: impl FnOnce(&mut Slots) -> T) -> T {
        with(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new slot behind all others, of one awaited part.
    pub(super) fn slot(&self) -> usize {
        self.change(|slots| {
            slots.parts.push(vec![None]);
            slots.awaited += 1;
            slots.parts.len() - 1
        })
    }

    /// Fills a slot with parts, of which those that are `None` are still awaited. True if that was all.
    pub(super) fn split(&self, slot: usize, parts: Vec<Option<Vec<u8>>>) -> bool {
        self.change(|slots| {
            slots.awaited += parts.iter().filter(|part| part.is_none()).count();
            slots.parts[slot] = parts;
            slots.awaited -= 1;
            slots.awaited == 0
        })
    }

    /// Fills one part. True if it was the last.
    pub(super) fn fill(&self, slot: usize, part: usize, json: Vec<u8>) -> bool {
        self.change(|slots| {
            slots.parts[slot][part] = Some(json);
            slots.awaited -= 1;
            slots.awaited == 0
        })
    }

    /// Says that there will be no more slots. True if nothing is awaited.
    pub(super) fn listed(&self) -> bool {
        self.change(|slots| {
            slots.awaited -= 1;
            slots.awaited == 0
        })
    }

    /// The tree.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let parts = self.change(|slots| mem::take(&mut slots.parts));
        out.clear();
        out.extend_from_slice(TREE_START);
        for part in parts
            .into_iter()
            .flatten()
            .flatten()
            .filter(|part| !part.is_empty())
        {
            if out.len() > TREE_START.len() {
                out.push(b',');
            }
            out.extend_from_slice(&part);
        }
        out.extend_from_slice(TREE_END);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_any_order() {
        let dir = Directory::new(None, None, PathBuf::new());
        let (a, b, c) = (dir.slot(), dir.slot(), dir.slot());
        assert!(!dir.split(b, vec![Some(b"2".to_vec()), None, Some(b"4".to_vec())]));
        assert!(!dir.fill(c, 0, Vec::new()));
        assert!(!dir.fill(a, 0, b"1".to_vec()));
        assert!(!dir.listed());
        assert!(dir.fill(b, 1, b"3".to_vec()));
        let mut out = Vec::new();
        dir.encode(&mut out);
        assert_eq!(out, b"{\"nodes\":[1,2,3,4]}\n");
    }

    #[test]
    fn an_empty_directory_is_complete_when_listed() {
        assert!(Directory::new(None, None, PathBuf::new()).listed());
    }
}
