//! Memory that several threads share, in bytes, waited for.
//!
//! Does: hand out permits in the order in which they were asked for, so that who needs much gets it in the end. Does not:
//! allocate. A thread that holds a permit must not ask for another: each asks once for all that its next step takes.
//! Asking for more than there is at all is the error `MemoryLimit`.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::error::{Error, Result};

/// How often a thread that waits asks whether it still should.
const LOOK: Duration = Duration::from_millis(100);

/// The memory that is shared.
#[derive(Debug)]
pub(crate) struct Pool {
    limit: u64,
    /// Taken for as long as the pool lives.
    taken: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// Number of the next one to ask, and of the one whose turn it is.
    next: u64,
    turn: u64,
}

/// A part of it; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    pool: &'a Pool,
    bytes: u64,
}

impl Pool {
    /// What is left of `limit` bytes when `taken` are taken for good.
    ///
    /// # Errors
    /// `MemoryLimit` if that is less than `least`.
    pub(crate) fn new(limit: u64, taken: u64, least: u64, what: &str) -> Result<Self> {
        let pool = Self {
            limit,
            taken,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        if pool.all() < least {
            return Err(pool.short(least, what));
        }
        Ok(pool)
    }

    /// Bytes to be had when nobody has any.
    pub(crate) fn all(&self) -> u64 {
        self.limit.saturating_sub(self.taken)
    }

    fn short(&self, bytes: u64, what: &str) -> Error {
        Error::MemoryLimit {
            what: what.to_owned(),
            needed: self.taken.saturating_add(bytes),
            limit: self.limit,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes so many bytes, when it is this one's turn and they are there. `go` is asked while it
    /// waits.
    ///
    /// # Errors
    /// `MemoryLimit` if there are not so many at all, and what `go` returns. After an error of `go` nobody else may wait.
    pub(crate) fn take(
        &self,
        bytes: u64,
        what: &str,
        go: impl Fn() -> Result<()>,
    ) -> Result<Permit<'_>> {
        if bytes > self.all() {
            return Err(self.short(bytes, what));
        }
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        while state.turn != number || state.used + bytes > self.all() {
            go()?;
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.turn += 1;
        state.used += bytes;
        drop(state);
        self.changed.notify_all();
        Ok(Permit { pool: self, bytes })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.pool.state().used -= self.bytes;
        self.pool.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn no_more_than_there_is_and_everybody_gets_a_turn() {
        let pool = Pool::new(130, 30, 1, "x").unwrap();
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for n in 0..8_u64 {
                let (pool, held, most) = (&pool, &held, &most);
                scope.spawn(move || {
                    for i in 0..100 {
                        // Some want all.
                        let bytes = if (n + i) % 5 == 0 {
                            100
                        } else {
                            1 + (n * i) % 60
                        };
                        let permit = pool.take(bytes, "x", || Ok(())).unwrap();
                        let now = held.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 100);
    }

    #[test]
    fn too_much_is_an_error_that_says_how_much_would_do() {
        let needed = |result: Result<Permit<'_>>| match result {
            Err(Error::MemoryLimit { needed, limit, .. }) => (needed, limit),
            other => panic!("{other:?}"),
        };
        let pool = Pool::new(100, 40, 60, "x").unwrap();
        assert_eq!(needed(pool.take(61, "x", || Ok(()))), (101, 100));
        assert!(matches!(
            Pool::new(100, 40, 61, "x"),
            Err(Error::MemoryLimit {
                needed: 101,
                limit: 100,
                ..
            })
        ));
        let all = pool.take(60, "x", || Ok(())).unwrap();
        let cancelled = pool.take(1, "x", || Err(Error::Cancelled));
        assert!(matches!(cancelled, Err(Error::Cancelled)));
        drop(all);
    }
}
