//! What the index says of each pack, added up.

use crate::{
    crypto::OVERHEAD,
    format::{index::BlobKind, pack},
    index::{Index, Record},
};

/// What the index says of one pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pack {
    /// Entries.
    pub(super) count: u32,
    /// Sealed bytes of its blobs.
    blobs: u64,
    /// Plain bytes of its list of blobs.
    header: u64,
    /// Where the last blob ends.
    end: u32,
    /// The most plain bytes of a compressed blob, or of sealed ones.
    pub(super) largest: u32,
    data: bool,
    trees: bool,
}

impl Pack {
    fn add(&mut self, record: &Record) {
        let place = record.place;
        self.count = self.count.saturating_add(1);
        self.blobs += u64::from(place.length);
        self.header += pack::entry_length(place.plain != 0) as u64;
        self.end = self.end.max(place.end());
        self.largest = self.largest.max(place.plain_length()).max(place.length);
        match record.kind {
            BlobKind::Data => self.data = true,
            BlobKind::Tree => self.trees = true,
        }
    }

    /// The size that a pack of these blobs has.
    pub(super) fn size(&self) -> u64 {
        self.blobs + self.list()
    }

    /// What its list takes of that, with its length.
    pub(super) fn list(&self) -> u64 {
        self.header + (OVERHEAD + pack::TRAILER) as u64
    }

    /// Whether its blobs can lie one behind the other from its beginning.
    pub(super) fn is_filled(&self) -> bool {
        self.blobs == u64::from(self.end)
    }

    /// Whether it holds both kinds of blobs.
    pub(super) fn is_mixed(&self) -> bool {
        self.data && self.trees
    }
}

/// What the index says of all packs, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<Pack>);

impl Known {
    pub(super) fn of(index: &Index) -> Self {
        let mut packs = vec![Pack::default(); index.pack_count()];
        for (_, record) in index.records() {
            if let Some(pack) = packs.get_mut(record.place.pack as usize) {
                pack.add(&record);
            }
        }
        Self(packs)
    }

    pub(super) fn packs(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Pack> {
        self.0.get(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Place;

    #[test]
    fn sizes_and_what_cannot_be() {
        let record = |offset, length, plain, kind| Record {
            kind,
            prefix: [0; 24],
            place: Place {
                pack: 0,
                offset,
                length,
                plain,
            },
        };
        let mut pack = Pack::default();
        pack.add(&record(0, 100, 0, BlobKind::Data));
        pack.add(&record(100, 50, 400, BlobKind::Data));
        assert_eq!(pack.size(), 150 + 37 + 41 + 36);
        assert!(pack.is_filled() && !pack.is_mixed());
        assert_eq!((pack.count, pack.largest), (2, 400));
        let mut moved = pack;
        moved.add(&record(151, 40, 0, BlobKind::Tree));
        assert!(!moved.is_filled() && moved.is_mixed());
    }
}
