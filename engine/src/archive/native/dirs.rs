//! Directories being put together: their entries arrive in any order, their trees are written in
//! order.
//!
//! A directory has slots in the order of its names; a slot holds one part or, where the end of a
//! large file is awaited, several. When the last part is there, whoever brought it writes the tree
//! and brings the directory's own node to the one above. Cost: the JSON of each entry until its
//! directory is written, counted in the run's budget. From [`DENSE`] bytes of a directory on,
//! further parts are kept compressed.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::budget::{Budget, Permit};
use crate::{
    error::{Error, Result},
    format::node::{Node, TREE_END, TREE_START},
    index::MAX_BLOB,
};

/// A directory of so many bytes is not held as plain text any longer.
const DENSE: u64 = 1 << 20;
/// Bytes of a tree's entries that the format can hold.
const MOST: u64 = MAX_BLOB as u64 - (TREE_START.len() + TREE_END.len()) as u64;
/// Smaller parts are not worth it.
const SMALLEST: usize = 512;

/// A directory that is not written yet.
pub(super) struct Directory {
    /// The directory above and the slot there; `None` for the root.
    pub(super) parent: Option<(Arc<Directory>, usize)>,
    /// Its own entry, without the tree's id.
    pub(super) node: Mutex<Option<Node>>,
    pub(super) path: PathBuf,
    /// Bytes of its files together, when somebody asked.
    pub(super) bytes: OnceLock<u64>,
    /// Something in it is not in the snapshot.
    lacks: AtomicBool,
    slots: Mutex<Slots>,
    budget: Arc<Budget>,
}

struct Slots {
    parts: Vec<Vec<Part>>,
    /// Parts that are awaited, and one for the listing.
    awaited: usize,
    /// Bytes of the entries so far, with a comma each.
    bytes: u64,
    /// There were entries that did not fit.
    overfull: bool,
    memory: Permit,
}

/// The JSON of some entries.
enum Part {
    Awaited,
    Plain(Vec<u8>),
    Squeezed(Vec<u8>, usize),
}

/// All entries of a directory.
pub(super) struct Entries {
    parts: Vec<Part>,
    /// Bytes of the tree, with beginning and end.
    pub(super) bytes: u64,
    /// There were more, for which the format has no room.
    pub(super) overfull: bool,
    _memory: Permit,
}

impl Directory {
    pub(super) fn new(
        budget: &Arc<Budget>,
        parent: Option<(Arc<Directory>, usize)>,
        node: Option<Node>,
        path: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            parent,
            node: Mutex::new(node),
            path,
            bytes: OnceLock::new(),
            lacks: AtomicBool::new(false),
            slots: Mutex::new(Slots {
                parts: Vec::new(),
                awaited: 1,
                bytes: 0,
                overfull: false,
                memory: Permit::empty(budget),
            }),
            budget: Arc::clone(budget),
        })
    }

    /// Notes that something in it will not be in the snapshot, though the snapshot's patterns do
    /// not say so.
    pub(super) fn leaves_out(&self) {
        self.lacks.store(true, Ordering::Relaxed);
    }

    /// Whether everything in it is in the snapshot, as far as is known.
    pub(super) fn is_whole(&self) -> bool {
        !self.lacks.load(Ordering::Relaxed)
    }

    /// What it takes itself, until its tree is written.
    pub(super) fn hold(&self, memory: Permit) {
        self.change(|slots| slots.memory.join(memory));
    }

    fn change<T>(&self, with: impl FnOnce(&mut Slots) -> T) -> T {
        with(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new slot behind all others, of one awaited part.
    pub(super) fn slot(&self) -> usize {
        self.change(|slots| {
            slots.parts.push(vec![Part::Awaited]);
            slots.awaited += 1;
            slots.parts.len() - 1
        })
    }

    /// Fills a slot with parts, of which those that are `None` are still awaited. True if that was
    /// all.
    pub(super) fn split(&self, slot: usize, parts: Vec<Option<Vec<u8>>>) -> Result<bool> {
        let dense = self.change(|slots| slots.bytes >= DENSE);
        let part = |json: Option<Vec<u8>>| json.map_or(Part::Awaited, |json| Part::of(json, dense));
        let kept: Vec<_> = parts.into_iter().map(part).collect();
        let permit = self.memory(kept.iter().map(Part::memory).sum())?;
        Ok(self.change(|slots| {
            slots.awaited += kept.iter().filter(|part| part.is_awaited()).count();
            let kept = kept.into_iter().map(|part| slots.admit(part)).collect();
            slots.parts[slot] = kept;
            slots.awaited -= 1;
            slots.memory.join(permit);
            slots.awaited == 0
        }))
    }

    /// Fills one part. True if it was the last.
    pub(super) fn fill(&self, slot: usize, part: usize, json: Vec<u8>) -> Result<bool> {
        let dense = self.change(|slots| slots.bytes >= DENSE);
        let kept = Part::of(json, dense);
        let permit = self.memory(kept.memory())?;
        Ok(self.change(|slots| {
            slots.parts[slot][part] = slots.admit(kept);
            slots.awaited -= 1;
            slots.memory.join(permit);
            slots.awaited == 0
        }))
    }

    fn memory(&self, bytes: u64) -> Result<Permit> {
        let what = || format!("the directory {}", self.path.display());
        self.budget
            .try_take(bytes)
            .map_or_else(|| self.budget.take(bytes, &what()), Ok)
    }

    /// Says that there will be no more slots. True if nothing is awaited.
    pub(super) fn listed(&self) -> bool {
        self.change(|slots| {
            slots.awaited -= 1;
            slots.awaited == 0
        })
    }

    /// Everything, when nothing is awaited any more.
    pub(super) fn take(&self) -> Entries {
        self.change(|slots| {
            let parts = std::mem::take(&mut slots.parts).into_iter().flatten();
            let parts: Vec<_> = parts.filter(|part| part.len() > 0).collect();
            let around = (TREE_START.len() + TREE_END.len()) as u64;
            Entries {
                bytes: slots.bytes.saturating_sub(1) + around,
                overfull: slots.overfull,
                parts,
                _memory: std::mem::replace(&mut slots.memory, Permit::empty(&self.budget)),
            }
        })
    }
}

impl Slots {
    /// A part, or nothing in its place if the tree would be larger than the format allows.
    fn admit(&mut self, part: Part) -> Part {
        let bytes = part.len() as u64;
        if bytes == 0 {
            return part;
        }
        // With a comma behind each but the last.
        if self.bytes + bytes > MOST {
            self.overfull = true;
            return Part::Plain(Vec::new());
        }
        self.bytes += bytes + 1;
        part
    }
}

/// One after the other: a deep tree would take a deep stack.
impl Drop for Directory {
    fn drop(&mut self) {
        let mut above = self.parent.take();
        while let Some(mut dir) = above.and_then(|(dir, _)| Arc::into_inner(dir)) {
            above = dir.parent.take();
        }
    }
}

impl Part {
    fn of(mut json: Vec<u8>, dense: bool) -> Self {
        if dense && json.len() >= SMALLEST {
            let len = json.len();
            match zstd::bulk::compress(&json, 1) {
                Ok(mut small) if small.len() < len => {
                    small.shrink_to_fit();
                    return Self::Squeezed(small, len);
                }
                _ => {}
            }
        }
        json.shrink_to_fit();
        Self::Plain(json)
    }

    fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited)
    }

    /// Bytes of JSON.
    fn len(&self) -> usize {
        match self {
            Self::Awaited => 0,
            Self::Plain(json) => json.len(),
            Self::Squeezed(_, len) => *len,
        }
    }

    /// Bytes it occupies.
    fn memory(&self) -> u64 {
        let held = match self {
            Self::Awaited => 0,
            Self::Plain(json) => json.capacity(),
            Self::Squeezed(small, _) => small.capacity(),
        };
        (held + size_of::<Self>() + 16) as u64
    }
}

impl Entries {
    /// Shows the tree piece by piece.
    pub(super) fn each(&self, mut show: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        show(TREE_START)?;
        for (n, part) in self.parts.iter().enumerate() {
            if n > 0 {
                show(b",")?;
            }
            match part {
                Part::Awaited => {}
                Part::Plain(json) => show(json)?,
                Part::Squeezed(small, len) => {
                    let json = zstd::bulk::decompress(small, *len).map_err(|error| {
                        Error::Bug(format!("a directory's own text cannot be read: {error}"))
                    })?;
                    show(&json)?;
                }
            }
        }
        show(TREE_END)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(dir: &Directory) -> Vec<u8> {
        let mut out = Vec::new();
        let entries = dir.take();
        entries
            .each(|piece| {
                out.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(entries.bytes, out.len() as u64);
        out
    }

    #[test]
    fn parts_come_in_any_order() {
        let budget = Budget::new(10_000);
        let dir = Directory::new(&budget, None, None, PathBuf::new());
        let (a, b, c) = (dir.slot(), dir.slot(), dir.slot());
        let parts = vec![Some(b"2".to_vec()), None, Some(b"4".to_vec())];
        assert!(!dir.split(b, parts).unwrap());
        assert!(!dir.fill(c, 0, Vec::new()).unwrap());
        assert!(!dir.fill(a, 0, b"1".to_vec()).unwrap());
        assert!(!dir.listed());
        assert!(dir.fill(b, 1, b"3".to_vec()).unwrap());
        assert!(budget.left() < 10_000);
        assert_eq!(text(&dir), b"{\"nodes\":[1,2,3,4]}\n");
        assert_eq!(budget.left(), 10_000);
    }

    #[test]
    fn no_more_entries_than_the_format_holds() {
        let budget = Budget::new(1 << 30);
        let dir = Directory::new(&budget, None, None, PathBuf::new());
        let json = vec![b'x'; 60 << 20];
        for part in 0..10 {
            let slot = dir.slot();
            if part % 2 == 0 {
                dir.fill(slot, 0, json.clone()).unwrap();
            } else {
                dir.split(slot, vec![Some(json.clone())]).unwrap();
            }
        }
        // A small one fits.
        let slot = dir.slot();
        dir.fill(slot, 0, b"last".to_vec()).unwrap();
        assert!(dir.listed());
        let entries = dir.take();
        let expected = TREE_START.len() + 8 * (json.len() + 1) + 4 + TREE_END.len();
        assert_eq!(entries.bytes, expected as u64);
        assert!(entries.overfull && entries.bytes <= u64::from(MAX_BLOB));
    }

    #[test]
    fn a_deep_tree_is_let_go_of_without_a_deep_stack() {
        let budget = Budget::new(0);
        let mut dir = Directory::new(&budget, None, None, PathBuf::new());
        for _ in 0..100_000 {
            dir = Directory::new(&budget, Some((dir, 0)), None, PathBuf::new());
        }
        drop(dir);
    }

    #[test]
    fn an_empty_directory_is_complete_when_listed() {
        let dir = Directory::new(&Budget::new(0), None, None, PathBuf::new());
        assert!(dir.listed());
        assert_eq!(text(&dir), b"{\"nodes\":[]}\n");
    }

    #[test]
    fn a_large_directory_is_held_compressed_and_bounded() {
        let budget = Budget::new(2 << 20);
        let dir = Directory::new(&budget, None, None, "large".into());
        let mut expected = b"{\"nodes\":[".to_vec();
        for n in 0..1000 {
            let json = format!("\"entry number {n} of many\"")
                .repeat(200)
                .into_bytes();
            if n > 0 {
                expected.push(b',');
            }
            expected.extend_from_slice(&json);
            let slot = dir.slot();
            dir.fill(slot, 0, json).unwrap();
        }
        expected.extend_from_slice(b"]}\n");
        assert!(expected.len() > 4 << 20);
        assert_eq!(text(&dir), expected);
        // What does not compress does not fit.
        let noise = crate::chunk::rabin::tests::noise(1, 3 << 20);
        let slot = dir.slot();
        let error = dir.fill(slot, 0, noise).unwrap_err();
        assert!(
            matches!(error, Error::MemoryLimit { needed, .. } if needed > 3 << 20),
            "{error}"
        );
    }
}
