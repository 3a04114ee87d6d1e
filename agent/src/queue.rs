//! Slots: which volumes are worked on at the same time.
//!
//! Large volumes have a number of slots. Small ones do not wait for them: they have a lane of their own, in which each takes
//! the memory that it needs of what there is for all of them, and at least a share, which bounds their number. In each
//! lane it is first come, first served, so no volume waits for ever behind later ones. What waits is visible: its object is
//! `Accepted` with the reason `Queued` and its place in the lane, and the number of waiting is a metric.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// The most content of a volume that counts as small.
pub(crate) const SMALL: u64 = 16 << 20;
/// Memory for all small volumes that are worked on.
const SMALL_MEMORY: u64 = 256 << 20;
/// The least of it that one takes: buffers and threads, whatever is in the volume. So there are at
/// most eight.
const SMALL_SHARE: u64 = 32 << 20;
/// The unit in which it is counted.
const UNIT: u64 = 1 << 20;

/// How much of a slot's means a volume takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// A volume of little content; its bytes, with those of what must be in memory beside them.
    Small(u64),
    /// Any other, also one of which nothing is known.
    Large,
}

/// The slots of this agent.
#[derive(Debug)]
pub(crate) struct Queue {
    large: Lane,
    small: Lane,
}

/// Volumes that wait for the same means.
#[derive(Debug)]
struct Lane {
    means: Arc<Semaphore>,
    /// Numbers of those that wait, smaller ones came first.
    waiting: Mutex<BTreeSet<u64>>,
    next: AtomicU64,
    running: AtomicU64,
}

/// A held slot; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    queue: Arc<Queue>,
    weight: Weight,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let lane = self.queue.lane(self.weight).0;
        lane.running.fetch_sub(1, Ordering::Relaxed);
    }
}

type Acquiring = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A place in a lane; given up when dropped.
pub(crate) struct Place {
    queue: Arc<Queue>,
    weight: Weight,
    number: u64,
    acquiring: Acquiring,
}

impl Drop for Place {
    fn drop(&mut self) {
        let lane = self.queue.lane(self.weight).0;
        lane.waiting().remove(&self.number);
    }
}

impl Lane {
    fn new(means: u64) -> Self {
        let means = usize::try_from(means).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            means: Arc::new(Semaphore::new(means)),
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            running: AtomicU64::new(0),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// A queue with `size` slots for large volumes.
    pub(crate) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self {
            large: Lane::new(size as u64),
            small: Lane::new(SMALL_MEMORY / UNIT),
        })
    }

    /// The lane of a volume, and what of its means it takes.
    fn lane(&self, weight: Weight) -> (&Lane, u32) {
        match weight {
            Weight::Large => (&self.large, 1),
            Weight::Small(bytes) => {
                let takes = bytes.clamp(SMALL_SHARE, SMALL_MEMORY).div_ceil(UNIT);
                (&self.small, u32::try_from(takes).unwrap_or(1))
            }
        }
    }

    /// Takes the last place in the lane of such a volume.
    pub(crate) fn place(self: &Arc<Self>, weight: Weight) -> Place {
        let (lane, takes) = self.lane(weight);
        let number = lane.next.fetch_add(1, Ordering::Relaxed);
        lane.waiting().insert(number);
        Place {
            queue: Arc::clone(self),
            weight,
            number,
            acquiring: Box::pin(Arc::clone(&lane.means).acquire_many_owned(takes)),
        }
    }

    /// Slots held now.
    pub(crate) fn running(&self) -> usize {
        let all = [&self.large, &self.small]
            .into_iter()
            .map(|lane| lane.running.load(Ordering::Relaxed));
        usize::try_from(all.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Volumes waiting for a slot now.
    pub(crate) fn waiting(&self) -> usize {
        self.large.waiting().len() + self.small.waiting().len()
    }
}

impl Place {
    /// Waits for the slot. May be dropped and called again without losing the place, from its first
    /// call on.
    pub(crate) async fn slot(&mut self) -> Result<Slot> {
        let permit = self.acquiring.as_mut().await;
        let permit = permit.map_err(|_| Error::Bug("the queue was closed".to_owned()))?;
        let lane = self.queue.lane(self.weight).0;
        lane.running.fetch_add(1, Ordering::Relaxed);
        Ok(Slot {
            queue: Arc::clone(&self.queue),
            weight: self.weight,
            _permit: permit,
        })
    }

    /// The place, 1 being the next, in words.
    pub(crate) fn words(&self) -> String {
        let waiting = self.queue.lane(self.weight).0.waiting();
        let place = waiting.range(..=self.number).count();
        let what = match self.weight {
            Weight::Small(_) => "small volumes",
            Weight::Large => "large volumes",
        };
        format!(
            "place {place} of {} among the {what} that wait for a slot of this node's agent",
            waiting.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn now(place: &mut Place) -> Option<Slot> {
        place.slot().now_or_never().map(Result::unwrap)
    }

    #[test]
    fn slots_are_given_in_turn_and_places_are_known() {
        let queue = Queue::new(1);
        let mut first = queue.place(Weight::Large);
        let slot = now(&mut first).unwrap();
        drop(first);
        let mut others = [(); 3].map(|()| queue.place(Weight::Large));
        assert!(others.iter_mut().all(|place| now(place).is_none()));
        assert_eq!((queue.running(), queue.waiting()), (1, 3));
        assert!(others[1].words().contains("place 2 of 3"));
        drop(slot);
        assert!(now(&mut others[2]).is_none(), "not its turn");
        let slot = now(&mut others[0]).unwrap();
        let [first, mut second, third] = others;
        drop(first);
        assert!(third.words().contains("place 2 of 2"), "{}", third.words());
        drop(third);
        drop(slot);
        drop(now(&mut second).unwrap());
        drop(second);
        assert_eq!((queue.running(), queue.waiting()), (0, 0));
    }

    #[test]
    fn small_volumes_do_not_wait_for_large_ones_and_are_bounded_in_bytes_and_number() {
        let queue = Queue::new(1);
        let _large = now(&mut queue.place(Weight::Large)).unwrap();
        let eight: Vec<_> = (0..8)
            .map(|_| now(&mut queue.place(Weight::Small(1 << 10))).unwrap())
            .collect();
        let mut ninth = queue.place(Weight::Small(1));
        assert!(now(&mut ninth).is_none());
        drop(eight);
        drop(now(&mut ninth).unwrap());
        // One that takes more than there is has it alone.
        let much = now(&mut queue.place(Weight::Small(u64::MAX))).unwrap();
        let mut waits = queue.place(Weight::Small(1));
        assert!(now(&mut waits).is_none());
        drop(much);
        assert!(now(&mut waits).is_some());
    }

    #[test]
    fn whoever_leaves_gives_up_its_place() {
        let queue = Queue::new(1);
        let slot = now(&mut queue.place(Weight::Large)).unwrap();
        let mut left = queue.place(Weight::Large);
        assert!(now(&mut left).is_none());
        drop(left);
        let mut next = queue.place(Weight::Large);
        assert!(now(&mut next).is_none());
        drop(slot);
        assert!(now(&mut next).is_some());
    }
}
