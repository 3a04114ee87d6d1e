//! Random numbers that are the same for the same seed, on every machine and in every version.

/// Sebastiano Vigna's SplitMix64: a full period, and good enough for bytes that must not compress.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers of one seed. `stream` tells users of one seed apart.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        // Neighbouring streams must not start as neighbours.
        random.0 = random.next();
        random
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // The high half of a product: without bias worth speaking of for limits far below 2^64.
        let product = u128::from(self.next()) * u128::from(limit);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// The same, for places in memory.
    pub(crate) fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }

    /// Bytes that do not compress.
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for piece in out.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_for_ever() {
        let mut random = Random::new(1, 2);
        let first = [random.next(), random.next()];
        assert_eq!(
            first,
            [Random::new(1, 2).next(), {
                let mut again = Random::new(1, 2);
                again.next();
                again.next()
            }]
        );
        assert_ne!(Random::new(1, 3).next(), first[0]);
        assert_ne!(Random::new(2, 2).next(), first[0]);
    }

    #[test]
    fn limits_are_kept_and_reached() {
        let mut random = Random::new(7, 0);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.index(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
