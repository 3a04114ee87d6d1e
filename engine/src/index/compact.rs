//! Which blob lies where, in at most 40 bytes a blob.
//!
//! One sorted array of 38-byte records and a table of 65,536 buckets, found by an id's first two
//! bytes. A record keeps the next 22 bytes of the id (24 in all: too many to be forced to collide),
//! the pack's number, offset, length and plain length. Ids of packs are kept once: 36 bytes with
//! their end, shared by a pack's blobs.
//!
//! A record's number is its position: the same as long as the index lives, so that what is known of
//! blobs can be kept in a bit each ([`super::bits::Bits`]). Where all copies are kept, those of one
//! blob are neighbours, and the first one's position stands for the blob.
//!
//! Does: look up, go through, remember which packs were used. Does not: collect
//! ([`super::builder`]).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    crypto::{Id, OVERHEAD},
    format::index::BlobKind,
};

/// Larger blobs are refused: no chunker makes them, and no directory of ours is that large.
pub(crate) const MAX_BLOB: u32 = 512 << 20;

pub(super) const RECORD: usize = 38;
pub(super) const BUCKETS: usize = 1 << 16;
/// Top bit of the plain length.
pub(super) const TREE: u32 = 1 << 31;
/// Bytes of an id that are kept.
pub(crate) const PREFIX: usize = 24;

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: u32,
    pub(crate) offset: u32,
    /// Sealed length.
    pub(crate) length: u32,
    /// Length after decompression; 0 if it is not compressed.
    pub(crate) plain: u32,
}

impl Place {
    /// Bytes of the blob's content.
    pub(crate) fn plain_length(&self) -> u32 {
        match self.plain {
            0 => self
                .length
                .saturating_sub(u32::try_from(OVERHEAD).unwrap_or(0)),
            length => length,
        }
    }

    /// Where it ends in its pack.
    pub(crate) fn end(&self) -> u32 {
        self.offset.saturating_add(self.length)
    }
}

/// One record: a blob in one of the packs that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// What it holds.
    pub(crate) kind: BlobKind,
    /// The first bytes of its id.
    pub(crate) prefix: [u8; PREFIX],
    /// Where it lies.
    pub(crate) place: Place,
}

impl Record {
    /// Whether both are of the same blob.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        self.kind == other.kind && self.prefix == other.prefix
    }
}

/// The index. Lookups need no lock.
#[derive(Debug)]
pub(crate) struct CompactIndex {
    pub(super) bytes: Vec<u8>,
    pub(super) starts: Vec<u32>,
    pub(super) packs: Vec<(Id, u32)>,
    pub(super) used: Vec<AtomicU64>,
    /// Records of trees.
    pub(super) trees: usize,
}

impl Default for CompactIndex {
    fn default() -> Self {
        super::builder::Builder::default().build()
    }
}

/// A 38-byte record's place and kind.
fn decode(record: &[u8]) -> (BlobKind, Place) {
    let field = |at: usize| {
        record[at..]
            .first_chunk()
            .map_or(0, |b| u32::from_be_bytes(*b))
    };
    let plain = field(34);
    let place = Place {
        pack: field(22),
        offset: field(26),
        length: field(30),
        plain: plain & !TREE,
    };
    let kind = if plain & TREE == 0 {
        BlobKind::Data
    } else {
        BlobKind::Tree
    };
    (kind, place)
}

impl CompactIndex {
    fn bytes_at(&self, position: usize) -> &[u8] {
        &self.bytes[position * RECORD..][..RECORD]
    }

    /// Position of a blob: that of its first record.
    pub(crate) fn position(&self, id: &Id, kind: BlobKind) -> Option<u32> {
        let bucket = usize::from(u16::from_be_bytes([id.0[0], id.0[1]]));
        let (mut low, end) = (
            self.starts[bucket] as usize,
            self.starts[bucket + 1] as usize,
        );
        let mut high = end;
        let wanted = (&id.0[2..PREFIX], kind == BlobKind::Tree);
        let at = |n: usize| {
            let record = self.bytes_at(n);
            (&record[..22], record[34] & 0x80 != 0)
        };
        while low < high {
            let middle = low.midpoint(high);
            if at(middle) < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < end && at(low) == wanted)
            .then(|| u32::try_from(low).ok())
            .flatten()
    }

    /// Where a blob lies.
    pub(crate) fn get(&self, id: &Id, kind: BlobKind) -> Option<Place> {
        let position = self.position(id, kind)?;
        Some(decode(self.bytes_at(position as usize)).1)
    }

    /// The record at a position.
    pub(crate) fn record(&self, position: u32) -> Option<Record> {
        let bucket = self.starts.partition_point(|start| *start <= position);
        self.record_in(position, bucket.checked_sub(1)?)
    }

    /// Where the record at a position lies.
    pub(crate) fn place(&self, position: u32) -> Option<Place> {
        let there = (position as usize) < self.len();
        there.then(|| decode(self.bytes_at(position as usize)).1)
    }

    fn record_in(&self, position: u32, bucket: usize) -> Option<Record> {
        if position as usize >= self.len() {
            return None;
        }
        let bytes = self.bytes_at(position as usize);
        let (kind, place) = decode(bytes);
        let mut prefix = [0; PREFIX];
        prefix[..2].copy_from_slice(&u16::try_from(bucket).ok()?.to_be_bytes());
        prefix[2..].copy_from_slice(&bytes[..22]);
        Some(Record {
            kind,
            prefix,
            place,
        })
    }

    /// All records with their positions, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u32, Record)> {
        let mut bucket = 0;
        (0_u32..).map_while(move |position| {
            while *self.starts.get(bucket + 1)? <= position {
                bucket += 1;
            }
            Some((position, self.record_in(position, bucket)?))
        })
    }

    /// All places of the blob whose first record is at this position, in the order in which their
    /// packs were added.
    pub(crate) fn places(&self, position: u32) -> impl Iterator<Item = Place> {
        let first = self.record(position);
        (position..).map_while(move |position| {
            let record = self.record(position)?;
            first
                .filter(|first| record.is_copy_of(first))
                .map(|_| record.place)
        })
    }

    /// Where a blob lies, and from now on its pack counts as used.
    pub(crate) fn use_blob(&self, id: &Id, kind: BlobKind) -> Option<Place> {
        let at = self.get(id, kind)?;
        let pack = at.pack as usize;
        let (word, bit) = (self.used.get(pack / 64)?, 1 << (pack % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Some(at)
    }

    /// The packs that were used, each with the end of its last known blob.
    pub(crate) fn used_packs(&self) -> impl Iterator<Item = (Id, u32)> {
        let used = |n: usize| self.used[n / 64].load(Ordering::Relaxed) & 1 << (n % 64) != 0;
        self.packs
            .iter()
            .enumerate()
            .filter(move |(n, _)| used(*n))
            .map(|(_, pack)| *pack)
    }

    /// Id of a pack, and the end of its last known blob.
    pub(crate) fn pack(&self, number: u32) -> Option<(Id, u32)> {
        self.packs.get(number as usize).copied()
    }

    /// How many packs there are; their numbers are all below.
    pub(crate) fn pack_count(&self) -> usize {
        self.packs.len()
    }

    /// All packs, in the order of their numbers.
    pub(crate) fn pack_ids(&self) -> impl Iterator<Item = Id> {
        self.packs.iter().map(|(id, _)| *id)
    }

    /// How many records of trees there are.
    pub(crate) fn trees(&self) -> usize {
        self.trees
    }

    /// How many records there are; positions are all below.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / RECORD
    }

    /// Bytes it occupies.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.starts.capacity() * 4 + self.packs.capacity() * 36
    }
}

#[cfg(test)]
#[path = "compact_tests.rs"]
mod tests;
