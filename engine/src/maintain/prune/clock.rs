//! Nothing is removed while clocks disagree.
//!
//! Others judge our lock by its age. If the time this machine writes into it is not the store's,
//! somebody may take it for a dead one's and go on. And what the store says was written after the
//! lock was taken was written by somebody who did not see it, or by one whose writes are still on
//! their way: that is not ours to remove. Times are compared with times of the store only, but for
//! the first: there the difference itself is what is looked for.

use jiff::{SignedDuration, Timestamp};

use crate::{
    error::{Error, Result},
    repo::{Repository, lock::Guard},
};

/// Locks count as dead after three times this.
const MOST: SignedDuration = SignedDuration::from_mins(10);
/// A store may keep whole seconds only.
const GRAIN: SignedDuration = SignedDuration::from_secs(2);

/// The store's time, as near as the lock tells it; `None` if the store tells none.
pub(super) fn now(repo: &Repository, lock: &Guard) -> Result<Option<Timestamp>> {
    let written = repo.block_on(lock.written())?;
    Ok(written.map(|(_, stores)| stores))
}

/// When the lock was taken, by the store's clock; `None` if the store tells no times.
pub(super) fn since(repo: &Repository, lock: &Guard) -> Result<Option<Timestamp>> {
    let Some((ours, stores)) = repo.block_on(lock.written())? else {
        return Ok(None);
    };
    let apart = ours.duration_since(stores).abs();
    if apart > MOST {
        return Err(Error::Refused {
            location: repo.location(),
            what: "removing anything",
            message: format!(
                "the clock of this machine and that of the store are {} s apart",
                apart.as_secs()
            ),
            hint: "set the clocks; what was written anew so far is not lost, and the next prune goes on from there",
        });
    }
    Ok(Some(stores))
}

/// Whether something that is to be removed was written before the lock was taken.
pub(super) fn is_older(
    repo: &Repository,
    path: &str,
    modified: Option<Timestamp>,
    since: Option<Timestamp>,
) -> Result<()> {
    match modified.zip(since) {
        Some((modified, since)) if modified.duration_since(since) > GRAIN => Err(Error::Refused {
            location: repo.location(),
            what: "removing anything",
            message: format!(
                "{path} was written at {modified} by the store's clock, after everybody else was locked out at {since}"
            ),
            hint: "find out who writes without a lock, or set the store's clock, and prune again",
        }),
        _ => Ok(()),
    }
}
