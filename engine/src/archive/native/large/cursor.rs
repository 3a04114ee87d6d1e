//! How far a large file is.
//!
//! Pieces are taken in the order of the file and finished in any order. Where a chunk of content is
//! only *supposed* to be as remembered, the pieces behind it are taken on that supposition; if it
//! turns out wrong the cursor goes back to it, and what was finished behind it is set aside for the
//! case that a chunk begins there again. Nothing is cut, and so nothing new stored, on a
//! supposition: it might be what no snapshot needs. Does: count, place, go back. Does not: read.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use super::{ID, MARK, memory, to_usize};
use crate::{
    archive::{
        fingerprints::{Cut, Record, Track},
        native::{
            budget::{Budget, Permit},
            prints::{Mark, Stored},
        },
    },
    chunk::holes::Part,
    crypto::Id,
};

/// Chunks set aside at most; those beyond are read again.
const ASIDE: usize = 4096;

/// How far a file is.
pub(super) struct Cursor {
    parts: Vec<Part>,
    /// The part in which the next piece begins.
    pub(super) part: usize,
    /// Where it begins: bytes of what was taken so far.
    pub(super) size: u64,
    /// Pieces taken and not finished.
    pub(super) taken: usize,
    /// Those of them that are only supposed to be as remembered.
    pub(super) probing: usize,
    /// The blobs of what was taken so far, each known when its piece is finished.
    pub(super) content: Vec<Id>,
    /// The same for what is to be remembered, if it is.
    pub(super) marks: Option<Vec<Mark>>,
    /// Bytes and blobs up to where it ends, if it has become shorter.
    pub(super) end: Option<(u64, usize)>,
    /// For content and marks.
    pub(super) memory: Permit,
    pub(super) failed: Option<io::Error>,
    pub(super) finished: bool,
    /// What is remembered from before.
    pub(super) track: Option<Track>,
    /// The slots it went back to, in order of time.
    returns: Vec<usize>,
    /// Where remembered chunks begin that are not as they were.
    missed: HashSet<u64>,
    /// Finished chunks by where they begin.
    aside: HashMap<u64, (Mark, Id)>,
}

/// A piece taken.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    pub(super) what: What,
    /// Which of the file's blobs is its first.
    slot: usize,
    part: usize,
    /// How often the cursor had gone back by then.
    returns: usize,
}

/// What it is.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// To be read, and divided into blocks of a size: from, length, size.
    Range(u64, usize, usize, Cut),
    /// In the worker's buffer from a chunk's least length minus the window on; the rest is to be
    /// read.
    Chunk(u64, usize, Cut),
    /// A chunk that was here, and the place of its record.
    Probe(Record, u64),
    /// A hole: from, blobs.
    Zeros(u64, u64),
}

/// A piece of the file, stored.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) bytes: u64,
    pub(super) blocks: Vec<Stored>,
}

impl Cursor {
    pub(super) fn new(
        mut parts: Vec<Part>,
        memory: Permit,
        marks: Option<Vec<Mark>>,
        track: Option<Track>,
    ) -> Self {
        parts.retain(|part| !matches!(part, Part::Data { start, end } if start >= end));
        Self {
            parts,
            part: 0,
            size: 0,
            taken: 0,
            probing: 0,
            content: Vec::new(),
            marks,
            end: None,
            memory,
            failed: None,
            finished: false,
            track,
            returns: Vec::new(),
            missed: HashSet::new(),
            aside: HashMap::new(),
        }
    }

    /// The part in which the next piece begins.
    pub(super) fn part(&self) -> Option<Part> {
        self.parts.get(self.part).copied()
    }

    /// There is more behind what it was supposed to have: so many bytes, to be found out.
    pub(super) fn add_tail(&mut self, bytes: u64) {
        let start = self.size;
        let end = start.saturating_add(bytes);
        self.parts.truncate(self.part);
        self.parts.push(Part::Data { start, end });
    }

    /// Whether the next piece would begin behind the end that was found.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some_and(|(end, _)| end <= self.size)
    }

    /// Takes a piece of so many blobs and bytes.
    pub(super) fn take(
        &mut self,
        what: What,
        blobs: u64,
        bytes: u64,
        budget: &Arc<Budget>,
    ) -> io::Result<Taken> {
        let slot = self.room(blobs, budget)?;
        let taken = Taken {
            what,
            slot,
            part: self.part,
            returns: self.returns.len(),
        };
        self.advance(bytes);
        Ok(taken)
    }

    /// Takes a chunk that was set aside, if one begins here and would end where it did. `end` is
    /// where the part ends.
    pub(super) fn take_aside(&mut self, end: u64, budget: &Arc<Budget>) -> io::Result<bool> {
        let Some((mark, id)) = self.aside.remove(&self.size) else {
            return Ok(false);
        };
        if !mark.record(id).is_cut_again(self.size, end) {
            return Ok(false);
        }
        let slot = self.room(1, budget)?;
        self.put(slot, mark, id);
        self.advance(u64::from(mark.length));
        Ok(true)
    }

    /// Whether a chunk that begins here is known not to be as remembered.
    pub(super) fn is_missed(&self) -> bool {
        self.missed.contains(&self.size)
    }

    fn advance(&mut self, bytes: u64) {
        self.size += bytes;
        let ends = match self.part() {
            Some(Part::Data { end, .. }) => self.size >= end,
            _ => true,
        };
        self.part += usize::from(ends);
    }

    /// Room for the blobs of what is taken.
    fn room(&mut self, blobs: u64, budget: &Arc<Budget>) -> io::Result<usize> {
        let slot = self.content.len();
        let each = ID + self.marks.as_ref().map_or(0, |_| MARK);
        let needed = (slot as u64).saturating_add(blobs).saturating_mul(each);
        let missing = needed.saturating_sub(self.memory.bytes());
        if missing > 0 {
            self.memory.join(memory(budget, missing)?);
        }
        let len = slot + to_usize(blobs);
        self.content.resize(len, Id([0; 32]));
        if let Some(marks) = &mut self.marks {
            marks.resize(len, Mark::NONE);
        }
        Ok(slot)
    }

    fn put(&mut self, slot: usize, mark: Mark, id: Id) {
        if let Some(to) = self.content.get_mut(slot) {
            *to = id;
        }
        if let Some(to) = self.marks.as_mut().and_then(|marks| marks.get_mut(slot)) {
            *to = mark;
        }
    }

    /// Whether the cursor went back to before this piece after it was taken.
    fn is_stale(&self, taken: &Taken) -> bool {
        let since = self.returns.get(taken.returns..).unwrap_or_default();
        since.iter().any(|slot| *slot <= taken.slot)
    }

    /// Puts a piece where it belongs. Returns its bytes, if that is in the file.
    pub(super) fn place(&mut self, taken: &Taken, piece: &Piece) -> u64 {
        let stale = self.is_stale(taken);
        let (offset, length, step, cut) = match taken.what {
            What::Zeros(start, blobs) => {
                if let ([zeros], false) = (&piece.blocks[..], stale) {
                    let room = self.content.get_mut(taken.slot..).unwrap_or_default();
                    let room = room.iter_mut().take(to_usize(blobs));
                    room.for_each(|to| *to = zeros.id);
                }
                debug_assert!(start < self.size || stale, "it was taken");
                return if stale { 0 } else { piece.bytes };
            }
            What::Range(start, length, step, cut) => (start, length, step, cut),
            What::Chunk(start, length, cut) => (start, length, length, cut),
            What::Probe(record, _) => {
                let length = to_usize(u64::from(record.length));
                (record.offset, length, length, record.cut)
            }
        };
        let whole = piece.bytes == length as u64;
        let mut at = 0;
        for (n, block) in (0..).zip(&piece.blocks) {
            let len = step.min(to_usize(piece.bytes) - at);
            // Of a file that became shorter while it was cut, where a chunk ends means nothing.
            let mark = match cut {
                Cut::Arithmetic => Mark::of(block, offset + at as u64, len, cut),
                _ if whole => Mark::of(block, offset, len, cut),
                _ => Mark::NONE,
            };
            if stale {
                self.set_aside(mark, block.id);
            } else {
                self.put(taken.slot + n, mark, block.id);
            }
            at += len;
        }
        if stale {
            return 0;
        }
        if !whole {
            let end = (offset + piece.bytes, taken.slot + piece.blocks.len());
            self.end = Some(self.end.map_or(end, |before| before.min(end)));
        }
        piece.bytes
    }

    fn set_aside(&mut self, mark: Mark, id: Id) {
        if self.aside.len() >= ASIDE {
            let size = self.size;
            self.aside.retain(|offset, _| *offset >= size);
        }
        if mark.length > 0 && mark.offset >= self.size && self.aside.len() < ASIDE {
            self.aside.insert(mark.offset, (mark, id));
        }
    }

    /// A chunk is not as remembered: what was taken behind it does not count.
    pub(super) fn miss(&mut self, taken: &Taken, record: &Record, place: u64) {
        if self.missed.len() >= ASIDE {
            let size = self.size.min(record.offset);
            self.missed.retain(|offset| *offset >= size);
        }
        self.missed.insert(record.offset);
        if self.is_stale(taken) || self.failed.is_some() {
            return;
        }
        let slot = taken.slot;
        self.size = record.offset;
        self.part = taken.part;
        self.returns.push(slot);
        if let Some(track) = &mut self.track {
            track.go_back(place);
        }
        self.end = self.end.filter(|(_, blobs)| *blobs <= slot);
        let ids = self.content.split_off(slot.min(self.content.len()));
        if let Some(marks) = &mut self.marks {
            let marks = marks.split_off(slot.min(marks.len()));
            for (mark, id) in marks.into_iter().zip(ids) {
                self.set_aside(mark, id);
            }
        }
    }

    /// Nothing more is to be taken.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.part = self.parts.len();
        self.failed.get_or_insert(error);
    }
}
