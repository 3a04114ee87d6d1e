//! Which bytes of which packs are fetched at once.
//!
//! Pure decisions: what is wanted becomes ranges of packs, in the order of packs and offsets,
//! neighbours fetched together.

use super::Place;

/// Bytes nobody wants that are fetched rather than asking twice.
const GAP: u32 = 128 << 10;

/// Bytes of one pack fetched at once, and who wants what of them, by offset.
pub(crate) struct Range<W> {
    pub(crate) pack: u32,
    pub(crate) start: u32,
    pub(crate) length: u32,
    pub(crate) wants: Vec<W>,
}

/// Where something wanted lies.
pub(crate) trait Placed {
    fn place(&self) -> Place;
}

/// Orders what is wanted and joins neighbours into ranges of at most `most` bytes. A blob larger
/// than that is a range of its own.
pub(crate) fn ranges<W: Placed>(mut wants: Vec<W>, most: u32) -> Vec<Range<W>> {
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
    }
}
