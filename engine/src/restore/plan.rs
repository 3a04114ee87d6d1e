//! Which bytes of which packs are fetched, in which order.
//!
//! Pure decisions: blobs wanted by files become ranges of packs, in the order of packs and offsets, neighbours
//! fetched together. A blob wanted several times is fetched once. And: how a ceiling of memory is divided.

use std::sync::Arc;

use super::file::File;
use crate::{crypto::Id, index::Place};

/// Bytes nobody wants that are fetched rather than asking twice.
const GAP: u32 = 128 << 10;
/// The smallest ceiling that is kept.
const LEAST: u64 = 32 << 20;
/// A worker's buffer has at least so many bytes. Few chunks are larger.
const BUFFER: usize = 4 << 20;
/// The largest chunk that is usual, sealed.
const CHUNK: u32 = (8 << 20) + (1 << 10);

/// A blob wanted at a place of a file.
pub(super) struct Want {
    pub(super) place: Place,
    pub(super) id: Id,
    pub(super) file: Arc<File>,
    /// Offset in the file.
    pub(super) at: u64,
}

/// Bytes of one pack fetched at once, and who wants what of them, by offset.
pub(super) struct Range<W = Want> {
    pub(super) pack: u32,
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) wants: Vec<W>,
}

/// Where something wanted lies.
pub(super) trait Placed {
    fn place(&self) -> Place;
}

impl Placed for Want {
    fn place(&self) -> Place {
        self.place
    }
}

/// Orders what is wanted and joins neighbours into ranges of at most `most` bytes. A blob larger than that is
/// a range of its own.
pub(super) fn ranges<W: Placed>(mut wants: Vec<W>, most: u32) -> Vec<Range<W>> {
    wants.sort_unstable_by_key(|want| {
        let place = want.place();
        (place.pack, place.offset, place.length)
    });
    let mut ranges: Vec<Range<W>> = Vec::new();
    for want in wants {
        let place = want.place();
        let end = place.offset.saturating_add(place.length);
        if let Some(last) = ranges.last_mut() {
            let last_end = last.start + last.length;
            let near = last.pack == place.pack && place.offset <= last_end.saturating_add(GAP);
            let joined = end.max(last_end) - last.start;
            if near && (joined <= most || end <= last_end) {
                last.length = joined;
                last.wants.push(want);
                continue;
            }
        }
        ranges.push(Range {
            pack: place.pack,
            start: place.offset,
            length: end - place.offset,
            wants: vec![want],
        });
    }
    ranges
}

/// A ceiling of memory, divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Threads that open, verify and write.
    pub(super) workers: usize,
    /// Bytes of a range.
    pub(super) range: u32,
    /// Bytes of ranges asked for and not written yet.
    pub(super) in_flight: u64,
    /// A worker's buffer for plain bytes.
    pub(super) plain: u32,
    /// The largest blob, of which one at a time is open.
    pub(super) largest: u32,
    /// Blobs planned together.
    pub(super) window: usize,
}

impl Limits {
    /// Two eighths for ranges, three for the workers' buffers, two for a large blob, one for plans.
    pub(super) fn of(memory: u64, cores: usize) -> Self {
        let memory = memory.max(LEAST);
        let part = |eighths: u64| u32::try_from(memory / 8 * eighths).unwrap_or(u32::MAX);
        let workers = cores.clamp(1, part(3) as usize / BUFFER);
        let plain = part(3) / u32::try_from(workers).unwrap_or(1);
        Self {
            workers,
            range: (part(2) / 8).clamp(256 << 10, 4 << 20),
            in_flight: u64::from(part(2)),
            plain,
            largest: part(2).max(plain).max(CHUNK),
            // Three windows of some 300 bytes a blob.
            window: (part(1) as usize / 1000).clamp(512, 8192),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Placed for Place {
        fn place(&self) -> Place {
            *self
        }
    }

    fn at(pack: u32, offset: u32, length: u32) -> Place {
        Place {
            pack,
            offset,
            length,
            plain: 0,
        }
    }

    #[test]
    fn neighbours_are_fetched_together_in_order() {
        let wants = vec![
            at(2, 0, 10),
            at(1, 500, 100),
            at(1, 0, 100),
            at(1, 0, 100),
            at(1, 100, 50),
            at(1, GAP + 601, 5),
        ];
        let ranges = ranges(wants, 1 << 20);
        let brief: Vec<_> = ranges
            .iter()
            .map(|range| (range.pack, range.start, range.length, range.wants.len()))
            .collect();
        assert_eq!(brief, [(1, 0, 600, 4), (1, GAP + 601, 5, 1), (2, 0, 10, 1)]);
    }

    proptest! {
        #[test]
        fn every_want_lies_in_its_range(
            wants in proptest::collection::vec((0_u32..3, 0_u32..1 << 22, 32_u32..1 << 21), 0..100),
        ) {
            let wants: Vec<_> = wants.into_iter().map(|(pack, offset, length)| at(pack, offset, length)).collect();
            let most = 1 << 20;
            let planned = ranges(wants.clone(), most);
            prop_assert_eq!(planned.iter().map(|range| range.wants.len()).sum::<usize>(), wants.len());
            for range in &planned {
                prop_assert!(range.length <= most || range.wants.iter().any(|want| want.length == range.length));
                for want in &range.wants {
                    prop_assert_eq!(want.pack, range.pack);
                    prop_assert!(want.offset >= range.start);
                    prop_assert!(want.offset + want.length <= range.start + range.length);
                }
            }
        }

        #[test]
        fn limits_keep_within_the_ceiling(memory in 0_u64..1 << 34, cores in 0_usize..300) {
            let limits = Limits::of(memory, cores);
            let buffers = limits.workers as u64 * u64::from(limits.plain);
            let parts = limits.in_flight + buffers + u64::from(limits.largest);
            prop_assert!(parts <= memory.max(LEAST) / 8 * 8 + (1 << 10));
            prop_assert!(limits.largest >= CHUNK);
            prop_assert!(limits.workers >= 1 && limits.window >= 512);
        }
    }
}
