//! Blobs that this run adds, so that none is added twice, also not at the same time.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::{crypto::Id, format::index::BlobKind};

const SHARDS: usize = 64;

/// The set, in parts that are locked one at a time.
pub(super) struct Fresh([[Mutex<HashSet<Id>>; SHARDS]; 2]);

impl Default for Fresh {
    fn default() -> Self {
        Self([(); 2].map(|()| [(); SHARDS].map(|()| Mutex::default())))
    }
}

impl Fresh {
    /// True for the one caller that is to add the blob.
    pub(super) fn claim(&self, kind: BlobKind, id: &Id) -> bool {
        let shards = &self.0[usize::from(kind == BlobKind::Tree)];
        let shard = &shards[usize::from(id.0[0]) % SHARDS];
        shard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(*id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_adds_a_blob() {
        let fresh = Fresh::default();
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
}
