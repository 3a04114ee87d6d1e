//! Restic's content-defined cuts.
//!
//! The fingerprint at a position depends on the 64 bytes before it and on nothing else, so candidates can
//! be looked for in several places at once and from any point on: four streams through one piece of data
//! hide the latency of each other's table look-ups. A chunk ends at the first candidate at least
//! [`MIN`] bytes behind its start, or after [`MAX`] bytes, or with the file.
//!
//! Does: find cuts in bytes. Does not: read files. Never fails.

use super::polynomial::{self, Polynomial};

/// Bytes a fingerprint covers.
pub(crate) const WINDOW: usize = 64;
/// No chunk but a file's last is shorter.
pub(crate) const MIN: u64 = 512 << 10;
/// No chunk is longer.
pub(crate) const MAX: u64 = 8 << 20;
/// Cut where these bits of the fingerprint are zero: once per MiB of random data.
const MASK: u64 = (1 << 20) - 1;
/// Bytes one stream looks at before the four results are compared.
const TILE: usize = 8 << 10;

/// Tables for one polynomial.
pub(crate) struct Rabin {
    /// What a byte leaving the window takes with it, already moved by one byte.
    out: Box<[u64; 256]>,
    /// What the bits moved out at the top leave behind.
    reduce: Box<[u64; 256]>,
    shift: u32,
}

impl std::fmt::Debug for Rabin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rabin")
    }
}

impl Rabin {
    /// Tables for a polynomial of a repository. `None` if it is not one that can be used.
    pub(crate) fn new(polynomial: Polynomial) -> Option<Self> {
        let degree = polynomial.degree()?;
        if !(16..=53).contains(&degree) {
            return None;
        }
        let mut rabin = Self {
            out: Box::new([0; 256]),
            reduce: Box::new([0; 256]),
            shift: degree - 8,
        };
        for byte in 0..=255_u8 {
            let top = u64::from(byte) << degree;
            rabin.reduce[usize::from(byte)] = polynomial::remainder(top, polynomial) | top;
        }
        for byte in 0..=255_u8 {
            let mut hash = rabin.append(0, byte);
            for _ in 0..WINDOW {
                hash = rabin.append(hash, 0);
            }
            rabin.out[usize::from(byte)] = hash;
        }
        Some(rabin)
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the top byte of a reduced hash is one byte"
    )]
    fn append(&self, hash: u64, byte: u8) -> u64 {
        ((hash << 8) | u64::from(byte)) ^ self.reduce[usize::from((hash >> self.shift) as u8)]
    }

    #[inline]
    fn slide(&self, hash: u64, old: u8, new: u8) -> u64 {
        self.append(hash, new) ^ self.out[usize::from(old)]
    }

    fn fingerprint(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |hash, &byte| self.append(hash, byte))
    }

    /// The first candidate `p` in `from..=data.len()`: the fingerprint of `data[p - 64..p]` asks
    /// for a cut.
    ///
    /// `from` must be at least [`WINDOW`]; otherwise nothing is found.
    pub(crate) fn candidate(&self, data: &[u8], from: usize) -> Option<usize> {
        if from < WINDOW || from > data.len() {
            return None;
        }
        if self.fingerprint(&data[from - WINDOW..from]) & MASK == 0 {
            return Some(from);
        }
        let mut at = from;
        while data.len() - at >= 4 * TILE {
            if let Some(hit) = self.four(data, at) {
                return Some(hit);
            }
            at += 4 * TILE;
        }
        self.one(data, at)
    }

    /// One stream over what is left: candidates in `at + 1..=data.len()`.
    fn one(&self, data: &[u8], at: usize) -> Option<usize> {
        let mut hash = self.fingerprint(&data[at - WINDOW..at]);
        let old = &data[at - WINDOW..data.len() - WINDOW];
        for (i, (&old, &new)) in old.iter().zip(&data[at..]).enumerate() {
            hash = self.slide(hash, old, new);
            if hash & MASK == 0 {
                return Some(at + i + 1);
            }
        }
        None
    }

    /// Four streams over `data[at..at + 4 * TILE]`: the first candidate in `at + 1..=at + 4 *
    /// TILE`.
    fn four(&self, data: &[u8], at: usize) -> Option<usize> {
        let stream = |n: usize| {
            let start = at + n * TILE;
            let hash = self.fingerprint(&data[start - WINDOW..start]);
            let old = &data[start - WINDOW..][..TILE];
            (hash, old, &data[start..][..TILE])
        };
        let (mut a, a_old, a_new) = stream(0);
        let (mut b, b_old, b_new) = stream(1);
        let (mut c, c_old, c_new) = stream(2);
        let (mut d, d_old, d_new) = stream(3);
        let mut hits = [None; 3];
        for i in 0..TILE {
            a = self.slide(a, a_old[i], a_new[i]);
            b = self.slide(b, b_old[i], b_new[i]);
            c = self.slide(c, c_old[i], c_new[i]);
            d = self.slide(d, d_old[i], d_new[i]);
            if a & MASK == 0 {
                return Some(at + i + 1);
            }
            if b & MASK == 0 {
                hits[0].get_or_insert(i);
            }
            if c & MASK == 0 {
                hits[1].get_or_insert(i);
            }
            if d & MASK == 0 {
                hits[2].get_or_insert(i);
            }
        }
        (0..3).find_map(|n| hits[n].map(|i| at + (n + 1) * TILE + i + 1))
    }

    /// Length of the chunk at the start of `data`, which must hold the file's next [`MAX`] bytes or
    /// all that is left of it.
    #[cfg(test)]
    #[expect(clippy::cast_possible_truncation, reason = "chunks are small")]
    pub(crate) fn cut(&self, data: &[u8]) -> usize {
        let data = &data[..data.len().min(MAX as usize)];
        self.candidate(data, MIN as usize).unwrap_or(data.len())
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "chunks are small")]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The chunker as restic describes it: reset at each start, one byte at a time.
    pub(crate) fn naive(polynomial: Polynomial, data: &[u8]) -> Vec<usize> {
        let rabin = Rabin::new(polynomial).unwrap();
        let plain = |hash: u64, byte: u8| polynomial::remainder_wide(hash, byte, polynomial);
        let mut lengths = Vec::new();
        let mut start = 0;
        while start < data.len() {
            let end = (start + MAX as usize).min(data.len());
            let mut cut = end;
            let mut p = start + MIN as usize;
            let mut hash = None;
            while p < end {
                // Every so often the fingerprint is made anew, bit by bit, from the window alone.
                let fresh = || data[p - WINDOW..p].iter().fold(0, |h, &b| plain(h, b));
                let h = match hash {
                    Some(h) if !p.is_multiple_of(4096) => {
                        rabin.slide(h, data[p - WINDOW - 1], data[p - 1])
                    }
                    Some(h) => {
                        assert_eq!(rabin.slide(h, data[p - WINDOW - 1], data[p - 1]), fresh());
                        fresh()
                    }
                    None => fresh(),
                };
                hash = Some(h);
                if h & MASK == 0 {
                    cut = p;
                    break;
                }
                p += 1;
            }
            lengths.push(cut - start);
            start = cut;
        }
        lengths
    }

    pub(crate) fn lengths(rabin: &Rabin, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            let len = rabin.cut(data);
            lengths.push(len);
            data = &data[len..];
        }
        lengths
    }

    pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
        };
        (0..len.div_ceil(8))
            .flat_map(|_| next())
            .take(len)
            .collect()
    }

    const POLYNOMIAL: &str = "3da3358b4dc173";

    fn polynomial() -> Polynomial {
        Polynomial::parse(POLYNOMIAL).unwrap()
    }

    #[test]
    fn noise_is_cut_as_by_the_naive_chunker() {
        let rabin = Rabin::new(polynomial()).unwrap();
        for (seed, len) in [
            (1, 9 << 20),
            (2, (3 << 20) + 17),
            (3, MIN as usize),
            (4, MIN as usize + 1),
        ] {
            let data = noise(seed, len);
            assert_eq!(lengths(&rabin, &data), naive(polynomial(), &data), "{seed}");
        }
    }

    #[test]
    fn zeros_are_cut_as_early_as_allowed_and_other_runs_as_late() {
        let rabin = Rabin::new(polynomial()).unwrap();
        let zeros = vec![0; 4 * MIN as usize + 5];
        assert_eq!(
            lengths(&rabin, &zeros),
            [MIN as usize, MIN as usize, MIN as usize, MIN as usize, 5]
        );
        let ones = vec![1; MAX as usize + 100];
        assert_eq!(lengths(&rabin, &ones), naive(polynomial(), &ones));
    }

    /// Windows that ask for a cut, planted around every boundary of the search: the least and the
    /// greatest length, and the ends of the tiles that are searched side by side.
    #[test]
    fn planted_cuts_are_found_where_they_lie() {
        let rabin = Rabin::new(polynomial()).unwrap();
        let (min, max) = (MIN as usize, MAX as usize);
        let sample = noise(77, 8 << 20);
        let at = rabin.candidate(&sample, WINDOW).unwrap();
        let window = &sample[at - WINDOW..at];
        let edges = [
            min,
            min + TILE,
            min + 2 * TILE,
            min + 3 * TILE,
            min + 4 * TILE,
            max,
        ];
        for edge in edges {
            for near in [-65_isize, -64, -1, 0, 1, 63, 64] {
                let end = edge.checked_add_signed(near).unwrap();
                let mut data = vec![1; max + 200];
                data[end - WINDOW..end].copy_from_slice(window);
                assert_eq!(lengths(&rabin, &data), naive(polynomial(), &data), "{end}");
                if (min..max).contains(&end) {
                    assert_eq!(rabin.cut(&data), end, "{edge} {near}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        /// Noise with runs of one byte laid over it, so that candidates come close together, at the
        /// ends of tiles and right behind the minimum.
        #[test]
        fn mixtures_are_cut_as_by_the_naive_chunker(
            seed in any::<u64>(),
            len in 0_usize..3 << 20,
            runs in proptest::collection::vec((0_usize..3 << 20, 1_usize..200_000, 0_u8..3), 0..8),
        ) {
            let mut data = noise(seed, len);
            for (at, run, byte) in runs {
                let (at, end) = (at.min(len), (at + run).min(len));
                data[at..end].fill(byte);
            }
            let rabin = Rabin::new(polynomial()).unwrap();
            prop_assert_eq!(lengths(&rabin, &data), naive(polynomial(), &data));
        }
    }
}
