//! Blobs that this run adds, so that none is added twice, also not at the same time.
//!
//! About 60 bytes a blob, taken from the run's budget. When there are no more, new blobs are not
//! remembered: one that comes again is then stored again, which costs space and nothing else.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::budget::{Budget, Permit};
use crate::{crypto::Id, format::index::BlobKind};

const SHARDS: usize = 64;
/// Bytes of an entry, with what a table wastes.
const ENTRY: u64 = 64;
/// Entries a shard has room for at first.
const FIRST: usize = 28;

struct Shard {
    ids: HashSet<Id>,
    memory: Permit,
}

/// The set, in parts that are locked one at a time.
pub(super) struct Fresh {
    shards: [Vec<Mutex<Shard>>; 2],
    budget: Arc<Budget>,
}

impl Fresh {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        let shard = || {
            Mutex::new(Shard {
                ids: HashSet::new(),
                memory: Permit::empty(budget),
            })
        };
        Self {
            shards: [(); 2].map(|()| (0..SHARDS).map(|_| shard()).collect()),
            budget: Arc::clone(budget),
        }
    }

    /// True for the one caller that is to add the blob.
    pub(super) fn claim(&self, kind: BlobKind, id: &Id) -> bool {
        let shards = &self.shards[usize::from(kind == BlobKind::Tree)];
        let shard = &shards[usize::from(id.0[0]) % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.ids.contains(id) {
            return false;
        }
        if self.room(&mut shard) {
            shard.ids.insert(*id);
        }
        true
    }

    /// Makes room for one more, if there is memory.
    fn room(&self, shard: &mut MutexGuard<'_, Shard>) -> bool {
        let (len, capacity) = (shard.ids.len(), shard.ids.capacity());
        if len < capacity {
            return true;
        }
        // While it grows the old table is there as well.
        let more = capacity.max(FIRST);
        let Some(permit) = self.budget.try_take(more as u64 * ENTRY) else {
            return false;
        };
        shard.ids.reserve(more);
        shard.memory.join(permit);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_adds_a_blob() {
        let fresh = Fresh::new(&Budget::new(1 << 20));
        let claims = |n: u8| usize::from(fresh.claim(BlobKind::Data, &Id([n; 32])));
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..=255).map(claims).sum::<usize>()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(won, 256);
        assert!(fresh.claim(BlobKind::Tree, &Id([0; 32])));
    }

    #[test]
    fn without_memory_it_forgets_and_never_loses() {
        let fresh = Fresh::new(&Budget::new(FIRST as u64 * ENTRY));
        assert!(fresh.claim(BlobKind::Data, &Id([0; 32])));
        assert!(!fresh.claim(BlobKind::Data, &Id([0; 32])));
        assert!(fresh.claim(BlobKind::Data, &Id([1; 32])));
        assert!(fresh.claim(BlobKind::Data, &Id([1; 32])), "stored again");
    }

    #[test]
    fn memory_is_counted() {
        let budget = Budget::new(1 << 30);
        let fresh = Fresh::new(&budget);
        for n in 0..100_000_u32 {
            fresh.claim(BlobKind::Data, &Id::of(&n.to_le_bytes()));
        }
        let counted = (1 << 30) - budget.left();
        let capacity: usize = fresh.shards[0]
            .iter()
            .map(|shard| shard.lock().unwrap().ids.capacity())
            .sum();
        // A table has 8 slots for 7 entries, each of an id and a byte.
        assert!(counted >= capacity as u64 * 33 * 8 / 7, "{counted}");
    }
}
