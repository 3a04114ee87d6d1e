use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn pack(n: u8, used: u64, unused: u64) -> PackUse {
    let tally = |bytes| Tally {
        blobs: u64::from(bytes > 0),
        bytes,
    };
    PackUse {
        id: Id([n; 32]),
        used: tally(used),
        unused: tally(unused),
        trees: false,
        data: true,
        uncompressed: false,
        marked: false,
    }
}

fn trees(n: u8, used: u64, unused: u64) -> PackUse {
    PackUse {
        trees: true,
        data: false,
        ..pack(n, used, unused)
    }
}

fn limits(max_unused: Unused) -> Limits {
    Limits {
        max_unused,
        max_repack: None,
        small: false,
        uncompressed: false,
    }
}

use Fate::{Goes, Stays, WrittenAnew};

#[test]
fn the_largest_unused_share_goes_first_and_only_as_long_as_it_has_to() {
    let packs = [
        pack(1, 10 * MIB, 6 * MIB),
        pack(2, 15 * MIB, MIB),
        pack(3, 0, 16 * MIB),
        pack(4, 4 * MIB, 12 * MIB),
        pack(5, 16 * MIB, 0),
    ];
    let decide = |max_unused| decide(&packs, &limits(max_unused));
    assert_eq!(
        decide(Unused::Bytes(0)),
        [WrittenAnew, WrittenAnew, Goes, WrittenAnew, Stays]
    );
    assert_eq!(
        decide(Unused::Bytes(7 * MIB)),
        [Stays, Stays, Goes, WrittenAnew, Stays]
    );
    // Of 45 MiB used, 5 % of what remains are 2.4 MiB.
    assert_eq!(
        decide(Unused::Percent(5)),
        [WrittenAnew, Stays, Goes, WrittenAnew, Stays]
    );
    assert_eq!(
        decide(Unused::Unlimited),
        [Stays, Stays, Goes, Stays, Stays]
    );
}

#[test]
fn directories_are_always_written_anew_within_what_is_allowed() {
    let packs = [trees(1, 10 * MIB, 1), pack(2, MIB, 15 * MIB)];
    let some = limits(Unused::Unlimited);
    assert_eq!(decide(&packs, &some), [WrittenAnew, Stays]);
    let none = Limits {
        max_repack: Some(0),
        ..limits(Unused::Bytes(0))
    };
    assert_eq!(decide(&packs, &none), [Stays, Stays]);
    // What does not fit does not stand in the way of what does.
    let little = Limits {
        max_repack: Some(11 * MIB),
        ..limits(Unused::Bytes(0))
    };
    let packs = [
        pack(1, MIB, 15 * MIB),
        pack(2, 9 * MIB, MIB),
        trees(3, MIB, 0),
    ];
    assert_eq!(decide(&packs, &little), [Stays, WrittenAnew, Stays]);
}

#[test]
fn small_packs_are_joined_when_there_are_many() {
    let few: Vec<_> = (0..9).map(|n| pack(n, 1000, 0)).collect();
    let wide = limits(Unused::Percent(5));
    assert!(decide(&few, &wide).iter().all(|fate| *fate == Stays));
    let asked = Limits {
        small: true,
        ..wide
    };
    assert!(decide(&few, &asked).iter().all(|fate| *fate == WrittenAnew));
    let mut many = few;
    many.push(trees(20, 1000, 0));
    assert!(decide(&many, &wide).iter().all(|fate| *fate == Stays));
    many.push(pack(21, 1000, 0));
    let fates = decide(&many, &wide);
    let anew = fates.iter().filter(|fate| **fate == WrittenAnew).count();
    assert_eq!((anew, fates[9]), (10, Stays));
    // One that is left of that stays.
    assert_eq!(decide(&[pack(1, 1000, 0)], &asked), [Stays]);
}

#[test]
fn what_is_not_compressed_is_only_when_asked() {
    let plain = PackUse {
        uncompressed: true,
        ..pack(1, 16 * MIB, 0)
    };
    let packs = [plain];
    assert_eq!(decide(&packs, &limits(Unused::Bytes(0))), [Stays]);
    let asked = Limits {
        uncompressed: true,
        ..limits(Unused::Unlimited)
    };
    assert_eq!(decide(&packs, &asked), [WrittenAnew]);
}

#[test]
fn numbers_are_those_of_the_fates() {
    let marked = PackUse {
        marked: true,
        ..pack(4, 0, 7)
    };
    let packs = [pack(1, 10, 1), pack(2, 0, 5), pack(3, 20, 2), marked];
    let report = report(&packs, &[WrittenAnew, Goes, Stays, Goes]);
    let expected = PruneReport {
        repacked_blobs: 2,
        repacked_bytes: 11,
        repack_dropped_blobs: 1,
        repack_dropped_bytes: 1,
        deleted_blobs: 1,
        deleted_bytes: 5,
        remaining_blobs: 3,
        remaining_bytes: 32,
        unused_bytes: 2,
        unreferenced_packs: 1,
        unreferenced_bytes: 7,
        ..PruneReport::default()
    };
    assert_eq!(report, expected);
}

fn any_pack() -> impl Strategy<Value = PackUse> {
    let bytes = prop_oneof![Just(0), 1..2 * MIB, 1..20 * MIB];
    (any::<u8>(), bytes.clone(), bytes, 0..3, any::<bool>()).prop_map(
        |(n, used, unused, kind, uncompressed)| PackUse {
            trees: kind != 0,
            data: kind != 1,
            uncompressed,
            ..pack(n, used, unused)
        },
    )
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let unused = prop_oneof![
        (0..100 * MIB).prop_map(Unused::Bytes),
        (0..100_u8).prop_map(Unused::Percent),
        Just(Unused::Unlimited),
    ];
    let repack = proptest::option::of(0..100 * MIB);
    (unused, repack, any::<bool>(), any::<bool>()).prop_map(
        |(max_unused, max_repack, small, uncompressed)| Limits {
            max_unused,
            max_repack,
            small,
            uncompressed,
        },
    )
}

proptest! {
    #[test]
    fn what_was_asked_for_holds(packs in proptest::collection::vec(any_pack(), 0..40), limits in any_limits()) {
        let fates = decide(&packs, &limits);
        for (pack, fate) in packs.iter().zip(&fates) {
            prop_assert_eq!(*fate == Goes, pack.used.blobs == 0);
        }
        let report = report(&packs, &fates);
        prop_assert!(limits.max_repack.is_none_or(|most| report.repacked_bytes <= most));
        let used: u64 = packs.iter().map(|pack| pack.used.bytes).sum();
        prop_assert_eq!(report.remaining_bytes, used + report.unused_bytes);
        if limits.max_repack.is_none() {
            let may = match limits.max_unused {
                Unused::Bytes(bytes) => u128::from(bytes) * 100,
                Unused::Percent(percent) => u128::from(report.remaining_bytes) * u128::from(percent),
                Unused::Unlimited => u128::MAX,
            };
            // The share is of what remains, rounded down to bytes.
            prop_assert!(u128::from(report.unused_bytes) * 100 <= may);
        }
        // The same whatever order they come in, as long as their names differ.
        let mut turned = packs.clone();
        turned.reverse();
        let mut names: Vec<_> = packs.iter().map(|pack| pack.id).collect();
        names.sort();
        names.dedup();
        if names.len() == packs.len() {
            let mut again = decide(&turned, &limits);
            again.reverse();
            prop_assert_eq!(again, fates);
        }
    }
}
