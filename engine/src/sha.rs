//! SHA-256 of two byte strings side by side.
//!
//! A processor's SHA-256 instructions each wait for the one before, and the unit that executes them
//! waits with them. A second string's, taken in turns with the first one's, fill the gaps: two take
//! little longer than one.
//!
//! Does: the same as the library's hasher, whose compression function it calls. Does not: allocate,
//! or fail.

use sha2::block_api::compress256;

use crate::crypto::Id;

const BLOCK: usize = 64;
/// What the standard says to begin with.
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A hash being made.
#[derive(Clone)]
pub(crate) struct Sha {
    state: [u32; 8],
    /// Bytes so far.
    length: u64,
    /// The last of them, as many as are no whole block.
    rest: [u8; BLOCK],
}

impl std::fmt::Debug for Sha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sha")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Sha {
    /// Of nothing so far.
    pub(crate) fn new() -> Self {
        Self {
            state: START,
            length: 0,
            rest: [0; BLOCK],
        }
    }

    /// Bytes of a block that is not whole yet.
    fn filled(&self) -> usize {
        usize::try_from(self.length % BLOCK as u64).unwrap_or(0)
    }

    /// Completes a block that was begun; what comes next are whole blocks and a rest. That is
    /// counted, but not hashed yet.
    fn split<'d>(&mut self, mut data: &'d [u8]) -> (&'d [[u8; BLOCK]], &'d [u8]) {
        let filled = self.filled();
        self.length += data.len() as u64;
        if filled > 0 {
            let (first, after) = data.split_at(data.len().min(BLOCK - filled));
            self.rest[filled..filled + first.len()].copy_from_slice(first);
            if filled + first.len() < BLOCK {
                return (&[], &[]);
            }
            compress256(&mut self.state, &[self.rest]);
            data = after;
        }
        data.as_chunks()
    }

    fn keep(&mut self, rest: &[u8]) {
        self.rest[..rest.len()].copy_from_slice(rest);
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, data: &[u8]) {
        let (blocks, rest) = self.split(data);
        compress256(&mut self.state, blocks);
        self.keep(rest);
    }

    /// Adds bytes to one, and others to another.
    pub(crate) fn update_both(&mut self, data: &[u8], other: &mut Self, others: &[u8]) {
        let (blocks, rest) = self.split(data);
        let (other_blocks, other_rest) = other.split(others);
        let both = blocks.len().min(other_blocks.len());
        for (block, other_block) in blocks.iter().zip(other_blocks) {
            compress256(&mut self.state, std::slice::from_ref(block));
            compress256(&mut other.state, std::slice::from_ref(other_block));
        }
        compress256(&mut self.state, &blocks[both..]);
        compress256(&mut other.state, &other_blocks[both..]);
        self.keep(rest);
        other.keep(other_rest);
    }

    /// The hashes of two.
    pub(crate) fn of_both(data: &[u8], others: &[u8]) -> (Id, Id) {
        let (mut one, mut other) = (Self::new(), Self::new());
        one.update_both(data, &mut other, others);
        (one.finish(), other.finish())
    }

    /// The hash.
    pub(crate) fn finish(mut self) -> Id {
        let filled = self.filled();
        let mut last = [[0; BLOCK]; 2];
        last[0][..filled].copy_from_slice(&self.rest[..filled]);
        last[0][filled] = 0x80;
        // The number of bits, at the end of a block that has room for it.
        let count = if filled < BLOCK - 8 { 1 } else { 2 };
        let bits = self.length.wrapping_mul(8).to_be_bytes();
        last[count - 1][BLOCK - 8..].copy_from_slice(&bits);
        compress256(&mut self.state, &last[..count]);
        let mut id = [0; 32];
        for (bytes, word) in id.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        Id(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lengths around those of blocks and of their ends.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            proptest::collection::vec(any::<u8>(), 4000..4300),
        ]
    }

    #[test]
    fn every_length_of_a_last_block() {
        let data: Vec<u8> = (0..=255).collect();
        for length in 0..data.len() {
            let mut sha = Sha::new();
            sha.update(&data[..length]);
            assert_eq!(sha.finish(), Id::of(&data[..length]), "{length}");
        }
    }

    proptest! {
        #[test]
        fn the_same_as_one_by_one(pieces in proptest::collection::vec((bytes(), bytes()), 0..5)) {
            let (mut one, mut other) = (Sha::new(), Sha::new());
            for (a, b) in &pieces {
                one.update_both(a, &mut other, b);
            }
            let (ones, others): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
            prop_assert_eq!(one.finish(), Id::of(&ones.concat()));
            prop_assert_eq!(other.finish(), Id::of(&others.concat()));
        }
    }
}
