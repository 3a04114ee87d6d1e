//! Memory for what is read, used again as long as a restore lasts.
//!
//! Memory that the system gives anew costs a fault for each of its pages, and more than the read
//! itself. So a piece that was written is kept for the next read: the smallest that is large
//! enough, or the largest, which grows and keeps the pages it has. What all pieces take is bounded;
//! beyond that a piece that comes back is made shorter, and only what is cut off is lost.

/// The least of a piece: as large as what allocators take from the system and give back by itself.
const LEAST: usize = 1 << 20;

/// The pieces of one restore.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    idle: Vec<Vec<u8>>,
    /// Bytes of all pieces, of those in use, too.
    held: usize,
}

impl Buffers {
    /// An empty piece with room for so many bytes.
    pub(super) fn take(&mut self, length: usize) -> Vec<u8> {
        let fits = |at: &usize| self.idle[*at].capacity() >= length;
        let all = || 0..self.idle.len();
        let capacity = |at: &usize| self.idle[*at].capacity();
        let best = all().filter(fits).min_by_key(capacity);
        let found = best.or_else(|| all().max_by_key(capacity));
        let mut piece = found
            .map(|at| self.idle.swap_remove(at))
            .unwrap_or_default();
        self.held -= piece.capacity();
        piece.reserve_exact(length.max(LEAST));
        self.held += piece.capacity();
        piece
    }

    /// Takes a piece back. All of them may have `most` bytes.
    pub(super) fn give(&mut self, mut piece: Vec<u8>, most: usize) {
        piece.clear();
        let before = piece.capacity();
        let over = self.held.saturating_sub(most);
        if over > 0 {
            let left = before.saturating_sub(over);
            piece.shrink_to(if left < LEAST { 0 } else { left });
        }
        self.held = self.held.saturating_sub(before - piece.capacity());
        if piece.capacity() > 0 {
            self.idle.push(piece);
        }
    }

    /// A piece that was taken with so many bytes has other ones now: a read that failed took its
    /// memory with it.
    pub(super) fn changed(&mut self, from: usize, to: usize) {
        self.held = self.held.saturating_sub(from) + to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 8 << 20;

    #[test]
    fn the_same_memory_is_used_again_and_again() {
        let mut buffers = Buffers::default();
        let (small, large) = (buffers.take(10), buffers.take(3 << 20));
        assert!(small.capacity() >= LEAST && large.capacity() >= 3 << 20);
        let (at_small, at_large) = (small.as_ptr(), large.as_ptr());
        buffers.give(small, MOST);
        buffers.give(large, MOST);
        for _ in 0..10 {
            let small = buffers.take(LEAST);
            let large = buffers.take(LEAST + 1);
            assert_eq!((small.as_ptr(), large.as_ptr()), (at_small, at_large));
            buffers.give(large, MOST);
            buffers.give(small, MOST);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_was_asked_for() {
        let mut buffers = Buffers::default();
        for n in 1..40 {
            let pieces: Vec<_> = (0..4).map(|m| buffers.take((n * m) << 18)).collect();
            for piece in pieces {
                buffers.give(piece, MOST);
            }
            let idle: usize = buffers.idle.iter().map(Vec::capacity).sum();
            assert_eq!(idle, buffers.held);
            assert!(idle <= MOST, "{idle}");
        }
        let gone = buffers.take(1);
        buffers.changed(gone.capacity(), 0);
        drop(gone);
        let idle: usize = buffers.idle.iter().map(Vec::capacity).sum();
        assert_eq!(idle, buffers.held);
    }
}
