//! Memory, counted in bytes before it is used.
//!
//! One budget for a run. What lives as long as the run takes its part at the start; directories, parents and the set
//! of new blobs take and give back as they go. What an allocator wastes, stacks and code are counted by
//! [`crate::ceiling`]. Does not: wait. What is waited for (buffers of packs) is bounded where it is handed out.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicU64, Ordering},
};

use crate::error::{Error, Result};

/// Something that can give memory back at once.
pub(crate) trait Reserve: Send + Sync {
    /// True if it gave any back.
    fn shrink(&self) -> bool;
}

/// The memory of one run.
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
    reserve: OnceLock<Weak<dyn Reserve>>,
}

/// A part of it; given back when dropped.
pub(crate) struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
            reserve: OnceLock::new(),
        })
    }

    /// Who is asked to give memory back before there is none. The first one counts.
    pub(crate) fn set_reserve(&self, reserve: Weak<dyn Reserve>) {
        self.reserve.get_or_init(|| reserve);
    }

    /// Bytes not taken.
    pub(crate) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Takes so many bytes, if there are.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
            .then(|| Permit {
                budget: Arc::clone(self),
                bytes,
            })
    }

    /// Takes so many bytes, or says how many would do.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64, what: &str) -> Result<Permit> {
        loop {
            if let Some(permit) = self.try_take(bytes) {
                return Ok(permit);
            }
            let reserve = self.reserve.get().and_then(Weak::upgrade);
            if !reserve.is_some_and(|reserve| reserve.shrink()) {
                return Err(self.short(bytes, what));
            }
        }
    }

    /// The error for something that needs so many bytes more than are taken.
    pub(crate) fn short(&self, bytes: u64, what: &str) -> Error {
        Error::MemoryLimit {
            what: what.to_owned(),
            needed: self.used.load(Ordering::Relaxed).saturating_add(bytes),
            limit: self.limit,
        }
    }
}

impl Permit {
    pub(crate) fn empty(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives a part of it back, at most all.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes over another's part.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_is() {
        let budget = Budget::new(100);
        let mut most = budget.take(60, "a").unwrap();
        let Err(Error::MemoryLimit { needed, limit, .. }) = budget.take(41, "b") else {
            panic!("more than there is");
        };
        assert_eq!((needed, limit), (101, 100));
        most.join(budget.try_take(40).unwrap());
        assert_eq!((budget.left(), most.bytes()), (0, 100));
        assert!(budget.try_take(1).is_none() && budget.try_take(u64::MAX).is_none());
        most.give_back(30);
        assert_eq!((budget.left(), most.bytes()), (30, 70));
        drop(most);
        assert_eq!(budget.left(), 100);
        assert_eq!(Permit::empty(&budget).bytes(), 0);
    }
}
