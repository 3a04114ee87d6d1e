//! Waiting for a lock: as long as somebody else's stands in the way, it is tried again, less and
//! less often, until the time allowed is over. What is said then is what the last attempt met. Any
//! other failure ends the wait at once.

use std::time::{Duration, Instant};

use super::{Guard, Locked};
use crate::{
    Cancel,
    error::{Error, Result},
    repo::Repository,
};

/// The wait after the first attempt; doubled after each.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(15);

impl Repository {
    /// Takes a lock that allows reading at once, while it is not known yet whether somebody else
    /// was faster. Writing has to wait for the guard's [`checker`](Guard::checker), and what was
    /// read be looked at again by then, for it may be from before the other's changes. Who is
    /// willing to wait for others gets one that is held for certain.
    pub(crate) async fn lock_early(&self, kind: Locked, cancel: &Cancel) -> Result<Guard> {
        if let Some(guard) = self.under_hold(kind, cancel) {
            return Ok(guard);
        }
        if self.options().retry_lock.is_zero() {
            self.try_lock_early(kind, cancel).await
        } else {
            self.lock(kind, cancel).await
        }
    }

    /// Takes a lock, or says `Locked` when it could not be had within the time the repository was
    /// opened with.
    pub(crate) async fn lock(&self, kind: Locked, cancel: &Cancel) -> Result<Guard> {
        if let Some(guard) = self.under_hold(kind, cancel) {
            return Ok(guard);
        }
        let begun = Instant::now();
        let allowed = self.options().retry_lock;
        let mut wait = FIRST;
        loop {
            let locked = match self.try_lock(kind, cancel).await {
                Err(error @ Error::Locked { .. }) => error,
                other => return other,
            };
            let Some(next) = next_wait(wait, allowed.saturating_sub(begun.elapsed())) else {
                return Err(locked);
            };
            tokio::select! {
                () = cancel.cancelled() => return Err(Error::Cancelled),
                () = tokio::time::sleep(next) => {}
            }
            wait = (wait * 2).min(LONGEST);
        }
    }
}

/// How long to wait before the next attempt: the last one is made when the time is over. `None`: it
/// is over.
fn next_wait(wait: Duration, left: Duration) -> Option<Duration> {
    (!left.is_zero()).then(|| wait.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_is_made_at_the_end() {
        let seconds = Duration::from_secs;
        assert_eq!(next_wait(seconds(2), seconds(5)), Some(seconds(2)));
        assert_eq!(next_wait(seconds(4), seconds(3)), Some(seconds(3)));
        assert_eq!(next_wait(seconds(4), Duration::ZERO), None);
    }
}
