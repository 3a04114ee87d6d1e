//! A bit for each position of an index.
//!
//! Does: set and ask, from several threads at once, without a lock. Takes one byte for eight
//! positions.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of positions.
#[derive(Debug, Default)]
pub(crate) struct Bits(Vec<AtomicU64>);

impl Clone for Bits {
    fn clone(&self) -> Self {
        let copy = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Relaxed));
        Self(self.0.iter().map(copy).collect())
    }
}

impl Bits {
    /// An empty set of positions below `len`.
    pub(crate) fn new(len: usize) -> Self {
        Self((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Bytes that a set of positions below `len` takes.
    pub(crate) fn memory(len: usize) -> u64 {
        (len.div_ceil(64) * 8) as u64
    }

    /// Adds a position. `true` if it was not there: of several threads, one is told so.
    pub(crate) fn insert(&self, position: u32) -> bool {
        let bit = 1 << (position % 64);
        let Some(word) = self.0.get(position as usize / 64) else {
            return false;
        };
        // Most are asked for more than once, and a look is cheaper than a change.
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Whether a position is there.
    pub(crate) fn contains(&self, position: u32) -> bool {
        self.0
            .get(position as usize / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (position % 64)) != 0)
    }

    /// How many there are.
    #[allow(dead_code, reason = "for whoever counts what is used")]
    pub(crate) fn count(&self) -> u64 {
        let ones = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
        self.0.iter().map(ones).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_position_is_new_once() {
        let bits = Bits::new(130);
        let new: usize = std::thread::scope(|scope| {
            let count = || (0..130).filter(|n| bits.insert(*n)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!((new, bits.count()), (130, 130));
        assert!(bits.contains(129) && !bits.contains(1000) && !bits.insert(1000));
        let bits = Bits::new(65);
        assert!(bits.insert(64) && !bits.contains(0) && !bits.insert(64));
        assert_eq!(Bits::memory(65), 16);
    }
}
