use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::index::builder::{Builder, Copies};

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
            builder.add_pack(Id([n; 32]), u32::from(n));
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

fn at(pack: u32, offset: u32) -> Place {
    Place {
        pack,
        offset,
        length: 40,
        plain: 0,
    }
}

proptest! {
    /// Packs are listed several times, blobs lie in several packs: every place is there once, the
    /// copies of a blob side by side, and positions lead to the same records as going through all.
    #[test]
    fn all_copies_are_kept(
        entries in proptest::collection::vec((0_u8..5, any::<bool>(), 0_u32..8, 0_u32..3), 0..100),
    ) {
        let mut builder = Builder::keeping(Copies::All);
        for n in 0_u8..8 {
            // Numbers 4 to 7 are the packs 3 to 0 again.
            let id = if n < 4 { n } else { 7 - n };
            builder.add_pack(Id([id; 32]), u32::from(n)).unwrap();
        }
        let mut all = std::collections::BTreeSet::new();
        for (id, tree, pack, offset) in entries {
            let kind = if tree { BlobKind::Tree } else { BlobKind::Data };
            prop_assert!(builder.add(&Id([id; 32]), kind, at(pack, offset)));
            all.insert(([id; PREFIX], kind, if pack < 4 { pack } else { 7 - pack }, offset));
        }
        let index = builder.build();
        let ends: Vec<_> = (0..4).map(|n| index.pack(n).unwrap()).collect();
        prop_assert_eq!(ends, (0..4).map(|n| (Id([n; 32]), u32::from(7 - n))).collect::<Vec<_>>());
        prop_assert_eq!(index.pack_count(), 4);
        let records: Vec<_> = index.records().collect();
        prop_assert_eq!(records.len(), index.len());
        prop_assert_eq!(index.trees(), all.iter().filter(|(_, kind, ..)| *kind == BlobKind::Tree).count());
        let found: std::collections::BTreeSet<_> = records
            .iter()
            .map(|(_, r)| (r.prefix, r.kind, r.place.pack, r.place.offset))
            .collect();
        prop_assert_eq!(&found, &all);
        for (position, record) in &records {
            prop_assert_eq!(index.record(*position), Some(*record));
            let mut id = [record.prefix[0]; 32];
            id[..PREFIX].copy_from_slice(&record.prefix);
            let first = index.position(&Id(id), record.kind).unwrap();
            let copies: Vec<_> = index.places(first).collect();
            prop_assert!(copies.contains(&record.place) && first <= *position);
            prop_assert!(copies.is_sorted_by_key(|place| place.pack));
            prop_assert_eq!(copies[0], index.get(&Id(id), record.kind).unwrap());
            let expected = all.iter().filter(|(p, k, ..)| *p == record.prefix && *k == record.kind);
            prop_assert_eq!(copies.len(), expected.count());
        }
        prop_assert_eq!(index.record(u32::try_from(index.len()).unwrap()), None);
    }
}

#[test]
fn a_pack_listed_twice_is_one_pack() {
    let mut builder = Builder::default();
    for (pack, end) in [(1, 10), (2, 20), (1, 30), (3, 5)] {
        let number = builder.add_pack(Id([pack; 32]), end).unwrap();
        assert!(builder.add(&Id([9; 32]), BlobKind::Data, at(number, 0)));
        assert!(builder.add(&Id([pack; 32]), BlobKind::Data, at(number, 40)));
    }
    let index = builder.build();
    let packs: Vec<_> = (0..3).map(|n| index.pack(n).unwrap()).collect();
    let id = |n| Id([n; 32]);
    assert_eq!(packs, [(id(1), 30), (id(2), 20), (id(3), 5)]);
    assert_eq!(index.len(), 4);
    assert_eq!(index.get(&id(9), BlobKind::Data), Some(at(0, 0)));
    assert_eq!(index.get(&id(3), BlobKind::Data), Some(at(2, 40)));
}
