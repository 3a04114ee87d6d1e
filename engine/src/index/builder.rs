//! Collecting what index files say, and making the compact index of it.
//!
//! Does: refuse entries that no valid repository has, take a pack for one however many index files
//! list it, sort. Does not: read files.

use std::{cmp::Ordering, sync::atomic::AtomicU64};

use super::compact::{BUCKETS, CompactIndex, MAX_BLOB, Place, RECORD, TREE};
use crate::{
    crypto::{Id, OVERHEAD},
    format::{
        Invalid,
        index::{BlobKind, Pack},
    },
};

/// A record while it is collected: with the two bytes that the buckets stand for.
const WIDE: usize = 40;
/// A pack's id, end, and what it takes to find those that are listed more than once.
const PACK: usize = 44;

/// An entry takes so many bytes of an index file at least, for an id does not compress.
const LEAST: u64 = 32;
/// Room is made for no more entries than these at once, whatever sizes a store tells.
const MOST: u64 = 1 << 26;
/// So many are sorted on two threads.
const MANY: usize = 100_000;

/// What is kept of a blob that lies in several packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Copies {
    /// One place, in the pack added first.
    #[default]
    First,
    /// Every place: for whoever accounts for packs, or reads another copy when one is damaged.
    All,
}

/// Collects entries.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    records: Vec<[u8; WIDE]>,
    packs: Vec<(Id, u32)>,
    copies: Copies,
}

impl Builder {
    /// Collects, and keeps so much of blobs that lie in several packs.
    pub(crate) fn keeping(copies: Copies) -> Self {
        Self {
            copies,
            ..Self::default()
        }
    }

    /// Has room for as many entries as so many bytes of index files can hold, within so many bytes.
    /// Room that is not used takes no memory; growing bit by bit leaves holes that do.
    pub(crate) fn make_room(&mut self, sealed: u64, limit: u64) {
        let entries = (sealed / LEAST).min(limit / WIDE as u64).min(MOST);
        // Without it there is no less room than there would be otherwise.
        drop(
            self.records
                .try_reserve_exact(usize::try_from(entries).unwrap_or(0)),
        );
    }

    /// Makes room for so many entries at once, so that growing does not take twice the memory.
    #[cfg(test)]
    pub(crate) fn with_capacity(blobs: usize) -> Self {
        Self {
            records: Vec::with_capacity(blobs),
            ..Self::default()
        }
    }

    /// Bytes it occupies, and the index made of it.
    pub(crate) fn memory(&self) -> u64 {
        (self.records.len() * WIDE + self.packs.len() * PACK + BUCKETS * 4) as u64
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.records = Vec::new();
        self.packs = Vec::new();
    }

    /// Adds a pack, with the end of its last known blob, and returns its number, which is good for adding its blobs.
    /// `None` if there are too many.
    pub(crate) fn add_pack(&mut self, id: Id, end: u32) -> Option<u32> {
        let number = u32::try_from(self.packs.len()).ok()?;
        self.packs.push((id, end));
        Some(number)
    }

    /// Adds a blob of a pack. `false` if no valid blob can have this place and these lengths.
    pub(crate) fn add(&mut self, id: &Id, kind: BlobKind, at: Place) -> bool {
        let valid = at.length as usize >= OVERHEAD
            && at.offset.checked_add(at.length).is_some()
            && at.plain < TREE
            && self.records.len() < u32::MAX as usize;
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
        let bad = || Invalid::new("it contains a bad id");
        let number = self.add_pack(pack.id.id().ok_or_else(bad)?, end);
        let number = number.ok_or_else(|| Invalid::new("there are too many packs"))?;
        for blob in &pack.blobs {
            let place = Place {
                pack: number,
                offset: blob.offset,
                length: blob.length,
                plain: blob.uncompressed_length.unwrap_or(0),
            };
            let fits = place.length <= MAX_BLOB && place.plain <= MAX_BLOB;
            if !fits || !self.add(&blob.id.id().ok_or_else(bad)?, blob.kind, place) {
                return Err(impossible());
            }
        }
        Ok(())
    }

    /// Gives each pack one number, in the order in which they were added first.
    fn merge_packs(&mut self) {
        let mut order: Vec<u32> = (0..).take(self.packs.len()).collect();
        order.sort_unstable_by_key(|n| (self.packs[*n as usize].0, *n));
        let id = |packs: &[(Id, u32)], n: u32| packs[n as usize].0;
        let twice = |two: &[u32]| id(&self.packs, two[0]) == id(&self.packs, two[1]);
        if !order.windows(2).any(twice) {
            return;
        }
        // First the number of the first one of the same id for each, then its place among those
        // that stay.
        let mut number: Vec<u32> = vec![0; order.len()];
        let mut first = 0;
        for n in order.iter().copied() {
            if n == order[0] || id(&self.packs, first) != id(&self.packs, n) {
                first = n;
            }
            number[n as usize] = first;
            let end = self.packs[n as usize].1;
            let all = &mut self.packs[first as usize].1;
            *all = end.max(*all);
        }
        drop(order);
        let mut kept = 0_u32;
        for n in 0..number.len() {
            let first = number[n] as usize;
            if first == n {
                self.packs[kept as usize] = self.packs[n];
                number[n] = kept;
                kept += 1;
            } else {
                number[n] = number[first];
            }
        }
        self.packs.truncate(kept as usize);
        for record in &mut self.records {
            let old = record[24..].first_chunk().map(|b| u32::from_be_bytes(*b));
            let new = old.and_then(|old| number.get(old as usize)).unwrap_or(&0);
            record[24..28].copy_from_slice(&new.to_be_bytes());
        }
    }

    /// Sorts and packs.
    pub(crate) fn build(mut self) -> CompactIndex {
        self.merge_packs();
        let Self {
            mut records,
            mut packs,
            copies,
        } = self;
        packs.shrink_to_fit();
        let kind = |r: &[u8; WIDE]| r[36] & 0x80;
        sort(&mut records, |a, b| {
            a[..24]
                .cmp(&b[..24])
                .then(kind(a).cmp(&kind(b)))
                .then(a[24..].cmp(&b[24..]))
        });
        match copies {
            Copies::First => records
                .dedup_by(|later, kept| later[..24] == kept[..24] && kind(later) == kind(kept)),
            Copies::All => records.dedup(),
        }
        let count = records.len();
        let mut starts = vec![0_u32; BUCKETS + 1];
        let mut trees = 0;
        for record in &records {
            starts[usize::from(u16::from_be_bytes([record[0], record[1]])) + 1] += 1;
            trees += usize::from(kind(record) != 0);
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
            trees,
        }
    }
}

/// Sorts, many on two threads.
fn sort<T: Send>(all: &mut [T], order: impl Fn(&T, &T) -> Ordering + Sync) {
    if all.len() < MANY {
        return all.sort_unstable_by(order);
    }
    let (small, _, large) = all.select_nth_unstable_by(all.len() / 2, &order);
    let on_two = std::thread::scope(|scope| {
        let other = std::thread::Builder::new().name("index-sort".to_owned());
        let other = other.spawn_scoped(scope, || small.sort_unstable_by(&order));
        large.sort_unstable_by(&order);
        other.is_ok()
    });
    if !on_two {
        small.sort_unstable_by(&order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_sorted_as_few_are() {
        for count in [0, 1, 100, MANY, MANY + 1, 3 * MANY] {
            let mut all: Vec<u64> = (0..count as u64)
                .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1000)
                .collect();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            sort(&mut all, u64::cmp);
            assert_eq!(all, sorted);
        }
    }

    #[test]
    fn room_is_made_for_what_can_be_and_not_more() {
        for (sealed, limit, most) in [
            (u64::MAX, 40_000, 1000),
            (32_000, u64::MAX, 1000),
            (0, 0, 0),
        ] {
            let mut builder = Builder::default();
            builder.make_room(sealed, limit);
            assert_eq!(builder.records.capacity(), most);
            assert_eq!(builder.memory(), Builder::default().memory());
        }
    }
}
