//! Which blob lies where, in at most 40 bytes a blob.
//!
//! One sorted array of 38-byte records and a table of 65,536 buckets, found by an id's first two bytes. A
//! record keeps the next 22 bytes of the id (24 in all: too many to be forced to collide), the pack's
//! number, offset, length and plain length. Ids of packs are kept once: 36 bytes with their end, shared by a pack's blobs.
//!
//! Does: collect, look up, remember which packs were used. Does not: read files. Entries that no valid
//! repository has are refused when added.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    crypto::{Id, OVERHEAD},
    format::{
        Invalid,
        index::{BlobKind, Pack},
    },
};

/// Larger blobs are refused: no chunker makes them, and no directory of ours is that large.
pub(crate) const MAX_BLOB: u32 = 512 << 20;

/// A record while it is collected: with the two bytes that the buckets stand for.
const WIDE: usize = 40;
const RECORD: usize = 38;
const BUCKETS: usize = 1 << 16;
/// Top bit of the plain length.
const TREE: u32 = 1 << 31;

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
}

/// Collects entries.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    records: Vec<[u8; WIDE]>,
    packs: Vec<(Id, u32)>,
}

impl Builder {
    /// Makes room for so many entries at once, so that growing does not take twice the memory.
    #[cfg(test)]
    pub(crate) fn with_capacity(blobs: usize) -> Self {
        Self {
            records: Vec::with_capacity(blobs),
            packs: Vec::new(),
        }
    }

    /// Bytes it occupies, and the index made of it.
    pub(crate) fn memory(&self) -> u64 {
        (self.records.len() * WIDE + self.packs.len() * 36 + BUCKETS * 4) as u64
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.records = Vec::new();
        self.packs = Vec::new();
    }

    /// Adds a pack, with the end of its last known blob, and returns its number. `None` if there are too
    /// many.
    pub(crate) fn add_pack(&mut self, id: Id, end: u32) -> Option<u32> {
        let number = u32::try_from(self.packs.len()).ok()?;
        self.packs.push((id, end));
        Some(number)
    }

    /// Adds a blob of a pack. `false` if no valid blob can have this place and these lengths.
    pub(crate) fn add(&mut self, id: &Id, kind: BlobKind, at: Place) -> bool {
        let valid = at.length as usize >= OVERHEAD
            && at.offset.checked_add(at.length).is_some()
            && at.plain < TREE;
        if !valid {
            return false;
        }
        let plain = at.plain | if kind == BlobKind::Tree { TREE } else { 0 };
        let mut record = [0; WIDE];
        record[..24].copy_from_slice(&id.0[..24]);
        for (to, value) in [(24, at.pack), (28, at.offset), (32, at.length), (36, plain)] {
            record[to..to + 4].copy_from_slice(&value.to_be_bytes());
        }
        self.records.push(record);
        true
    }

    /// Adds a pack of an index file with all its blobs.
    pub(crate) fn add_listed(&mut self, pack: &Pack) -> Result<(), Invalid> {
        let impossible = || Invalid::new("it contains an impossible length");
        let mut end = 0;
        for blob in &pack.blobs {
            end = end.max(
                blob.offset
                    .checked_add(blob.length)
                    .ok_or_else(impossible)?,
            );
        }
        let id = |text: &str| Id::parse(text).ok_or_else(|| Invalid::new("it contains a bad id"));
        let number = self.add_pack(id(&pack.id)?, end);
        let number = number.ok_or_else(|| Invalid::new("there are too many packs"))?;
        for blob in &pack.blobs {
            let place = Place {
                pack: number,
                offset: blob.offset,
                length: blob.length,
                plain: blob.uncompressed_length.unwrap_or(0),
            };
            let fits = place.length <= MAX_BLOB && place.plain <= MAX_BLOB;
            if !fits || !self.add(&id(&blob.id)?, blob.kind, place) {
                return Err(impossible());
            }
        }
        Ok(())
    }

    /// Sorts and packs. Of several places of one blob, the one in the pack added first is kept.
    pub(crate) fn build(self) -> CompactIndex {
        let Self { mut records, packs } = self;
        let kind = |r: &[u8; WIDE]| r[36] & 0x80;
        records.sort_unstable_by(|a, b| {
            a[..24]
                .cmp(&b[..24])
                .then(kind(a).cmp(&kind(b)))
                .then(a[24..].cmp(&b[24..]))
        });
        records.dedup_by(|later, kept| later[..24] == kept[..24] && kind(later) == kind(kept));
        let count = records.len();
        let mut starts = vec![0_u32; BUCKETS + 1];
        for record in &records {
            starts[usize::from(u16::from_be_bytes([record[0], record[1]])) + 1] += 1;
        }
        for i in 0..BUCKETS {
            starts[i + 1] += starts[i];
        }
        let mut bytes = records.into_flattened();
        for i in 0..count {
            bytes.copy_within(i * WIDE + 2..(i + 1) * WIDE, i * RECORD);
        }
        bytes.truncate(count * RECORD);
        bytes.shrink_to_fit();
        let used = (0..packs.len().div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect();
        CompactIndex {
            bytes,
            starts,
            packs,
            used,
        }
    }
}

/// The index. Lookups need no lock.
#[derive(Debug)]
pub(crate) struct CompactIndex {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    packs: Vec<(Id, u32)>,
    used: Vec<AtomicU64>,
}

impl Default for CompactIndex {
    fn default() -> Self {
        Builder::default().build()
    }
}

impl CompactIndex {
    /// Where a blob lies.
    pub(crate) fn get(&self, id: &Id, kind: BlobKind) -> Option<Place> {
        let bucket = usize::from(u16::from_be_bytes([id.0[0], id.0[1]]));
        let (mut low, mut high) = (
            self.starts[bucket] as usize,
            self.starts[bucket + 1] as usize,
        );
        let wanted = (&id.0[2..24], kind == BlobKind::Tree);
        while low < high {
            let middle = low.midpoint(high);
            let record = &self.bytes[middle * RECORD..][..RECORD];
            let field = |at: usize| {
                record[at..]
                    .first_chunk()
                    .map_or(0, |b| u32::from_be_bytes(*b))
            };
            let plain = field(34);
            match (&record[..22], plain & TREE != 0).cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return Some(Place {
                        pack: field(22),
                        offset: field(26),
                        length: field(30),
                        plain: plain & !TREE,
                    });
                }
            }
        }
        None
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

    /// All packs.
    pub(crate) fn pack_ids(&self) -> impl Iterator<Item = Id> {
        self.packs.iter().map(|(id, _)| *id)
    }

    /// How many blobs it knows.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / RECORD
    }

    /// Bytes it occupies.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.starts.capacity() * 4 + self.packs.capacity() * 36
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        (0_u32..9, 0_u32..1 << 24, 32_u32..1 << 24, 0..TREE).prop_map(
            |(pack, offset, length, plain)| Place {
                pack,
                offset,
                length,
                plain,
            },
        )
    }

    proptest! {
        /// Ids differ in few bits, so that buckets hold many and neighbours look alike.
        #[test]
        fn equals_a_hash_map(
            entries in proptest::collection::vec((0_u8..4, 0_u8..4, any::<bool>(), place()), 0..200),
        ) {
            let id = |a, b| {
                let mut id = [7; 32];
                (id[1], id[23]) = (a, b);
                Id(id)
            };
            let kind = |tree| if tree { BlobKind::Tree } else { BlobKind::Data };
            let mut builder = Builder::default();
            for n in 0..9 {
                builder.add_pack(Id([n; 32]), 0);
            }
            let mut map: HashMap<(Id, BlobKind), Vec<Place>> = HashMap::new();
            for (a, b, tree, at) in entries {
                prop_assert!(builder.add(&id(a, b), kind(tree), at));
                map.entry((id(a, b), kind(tree))).or_default().push(at);
            }
            let index = builder.build();
            prop_assert_eq!(index.len(), map.len());
            let mut used = std::collections::BTreeSet::new();
            for a in 0..4 {
                for b in 0..4 {
                    for tree in [false, true] {
                        let expected = map.get(&(id(a, b), kind(tree)));
                        let found = index.get(&id(a, b), kind(tree));
                        prop_assert_eq!(found.is_some(), expected.is_some());
                        if let (Some(found), Some(expected)) = (found, expected) {
                            prop_assert!(expected.contains(&found));
                            let first = expected.iter().map(|at| at.pack).min();
                            prop_assert_eq!(Some(found.pack), first);
                            if a == 0 {
                                used.insert(index.pack(found.pack).unwrap().0);
                                index.use_blob(&id(a, b), kind(tree));
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(index.used_packs().map(|(id, _)| id).collect::<std::collections::BTreeSet<_>>(), used);
        }
    }

    #[test]
    fn forty_bytes_a_blob() {
        let blobs = 200_000;
        let mut builder = Builder::with_capacity(blobs);
        for n in 0..blobs {
            if n % 32 == 0 {
                builder.add_pack(Id::of(&n.to_be_bytes()), 0).unwrap();
            }
            let at = Place {
                pack: u32::try_from(n / 32).unwrap(),
                offset: 0,
                length: 100,
                plain: 0,
            };
            assert!(builder.add(&Id::of(&n.to_le_bytes()), BlobKind::Data, at));
        }
        let index = builder.build();
        let fixed = (BUCKETS + 1) * 4;
        assert!(index.memory() - fixed <= 40 * blobs, "{}", index.memory());
    }

    #[test]
    fn impossible_entries_are_refused() {
        let good = Place {
            pack: 0,
            offset: 0,
            length: 32,
            plain: 0,
        };
        for bad in [
            Place { length: 31, ..good },
            Place {
                offset: u32::MAX,
                ..good
            },
            Place {
                plain: TREE,
                ..good
            },
        ] {
            assert!(!Builder::default().add(&Id([0; 32]), BlobKind::Data, bad));
        }
        assert!(Builder::default().add(&Id([0; 32]), BlobKind::Data, good));
    }
}
