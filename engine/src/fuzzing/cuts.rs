//! Where files are cut: the search for candidates beside a naive one, and the recognition of
//! databases.

use crate::chunk::{
    Polynomial, pages,
    policy::{self, Chunking, Facts, ParentCuts},
    rabin::{Rabin, WINDOW},
};

/// Bytes of a file at most.
const MOST: usize = 72 << 10;
/// Candidates looked for in one file.
const STEPS: usize = 32;

/// A polynomial (8 bytes), where to begin (3 bytes), and pieces that a file is made of.
pub(super) fn rabin(data: &[u8]) {
    let Some((polynomial, rest)) = data.split_first_chunk::<8>() else {
        return;
    };
    let Some(([a, b, c], pieces)) = rest.split_first_chunk() else {
        return;
    };
    let polynomial = u64::from_le_bytes(*polynomial);
    let Some(rabin) = Polynomial::parse(&format!("{polynomial:x}")).and_then(Rabin::new) else {
        return;
    };
    let file = file(pieces);
    let expected = candidates(polynomial, &file);
    let mut from = u32::from_le_bytes([*a, *b, c & 1, 0]) as usize;
    for _ in 0..STEPS {
        let wanted = || {
            expected
                .get(expected.partition_point(|at| *at < from))
                .copied()
        };
        let wanted = (WINDOW..=file.len()).contains(&from).then(wanted).flatten();
        assert_eq!(rabin.candidate(&file, from), wanted, "from {from}");
        let Some(found) = wanted else {
            return;
        };
        from = found + 1;
    }
}

/// Pieces: one byte that says what kind, two that say how long, one more, and for a literal its
/// bytes.
fn file(mut pieces: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some(([kind, low, high, byte], rest)) = pieces.split_first_chunk() {
        pieces = rest;
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        match kind % 4 {
            0 => file.resize(file.len() + length, *byte),
            1 => {
                let literal = &pieces[..length.min(pieces.len())];
                file.extend_from_slice(literal);
                pieces = &pieces[literal.len()..];
            }
            2 => {
                let mut state = u64::from(*byte) + 1;
                file.extend((0..length).map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_le_bytes()[3]
                }));
            }
            // What was there before, again.
            _ => {
                let start = file.len().saturating_sub(length);
                file.extend_from_within(start..);
            }
        }
        file.truncate(MOST);
    }
    file
}

/// `value * x` modulo the polynomial.
fn times_x(value: u64, polynomial: u64) -> u64 {
    let doubled = value << 1;
    let top = polynomial.ilog2();
    if doubled >> top & 1 == 1 {
        doubled ^ polynomial
    } else {
        doubled
    }
}

fn append(hash: u64, byte: u8, polynomial: u64) -> u64 {
    (0..8).rev().fold(hash, |hash, bit| {
        times_x(hash, polynomial) ^ u64::from(byte >> bit & 1)
    })
}

/// All positions at which the fingerprint of the bytes before asks for a cut, bit by bit.
fn candidates(polynomial: u64, file: &[u8]) -> Vec<usize> {
    // What a byte has become when it leaves the window: the sum of what its bits have.
    let moved = |bit: u8| {
        let start = append(0, 1 << bit, polynomial);
        (0..WINDOW).fold(start, |hash, _| append(hash, 0, polynomial))
    };
    let moved: Vec<u64> = (0..8).map(moved).collect();
    let leaving = |byte: u8| {
        let bits = moved.iter().enumerate();
        bits.filter(|(bit, _)| byte >> bit & 1 == 1)
            .fold(0, |sum, (_, hash)| sum ^ hash)
    };
    let leaving: Vec<u64> = (0..=255).map(leaving).collect();
    let mut found = Vec::new();
    let mut hash = 0;
    for (i, byte) in file.iter().enumerate() {
        hash = append(hash, *byte, polynomial);
        if i >= WINDOW {
            hash ^= leaving[usize::from(file[i - WINDOW])];
        }
        if i + 1 >= WINDOW && hash.trailing_zeros() >= 20 {
            found.push(i + 1);
        }
    }
    found
}

/// The length of a file, three lengths of its blobs before, and its first bytes.
pub(super) fn pages(data: &[u8]) {
    let Some((numbers, head)) = data.split_first_chunk::<32>() else {
        return;
    };
    let _any = pages::recognise(head);
    let number = |at: usize| {
        numbers[at..]
            .first_chunk()
            .map_or(0, |b| u64::from_le_bytes(*b))
    };
    let lengths = [number(8), number(16), number(24)];
    let facts = Facts {
        size: number(0),
        head,
        directory_bytes: &|| number(0),
        parent: ParentCuts::of(lengths.into_iter()),
    };
    let (cuts, _) = policy::decide(Chunking::Auto, facts);
    if let policy::Cuts::Fixed(size) = cuts {
        assert!(size.is_power_of_two() && (64 << 10..=8 << 20).contains(&size));
    }
}
