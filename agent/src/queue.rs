//! Slots: how many volumes are worked on at the same time.
//!
//! First come, first served, so no volume waits for ever behind later ones. What waits is visible:
//! its object is `Accepted` with the reason `Queued`, and the number of waiting is a metric.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// The slots of this agent.
#[derive(Debug)]
pub(crate) struct Queue {
    slots: Arc<Semaphore>,
    size: usize,
    waiting: AtomicUsize,
}

/// A held slot; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// Counts one waiter as long as it lives.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    /// A queue with `size` slots.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(size)),
            size,
            waiting: AtomicUsize::new(0),
        }
    }

    /// A slot, if one is free and nobody waits for it.
    pub(crate) fn try_enter(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Slot { _permit: permit })
    }

    /// Waits for a slot, in turn. Fails with `Cancelled` when `stop` comes first.
    pub(crate) async fn enter(&self, stop: &CancellationToken) -> Result<Slot> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiter = Waiter(&self.waiting);
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Error::Cancelled),
            permit = Arc::clone(&self.slots).acquire_owned() => match permit {
                Ok(permit) => Ok(Slot { _permit: permit }),
                Err(_) => Err(Error::Bug("the queue was closed".to_owned())),
            },
        }
    }

    /// Slots held now.
    pub(crate) fn running(&self) -> usize {
        self.size.saturating_sub(self.slots.available_permits())
    }

    /// Volumes waiting for a slot now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slots_are_given_in_turn() {
        let queue = Arc::new(Queue::new(1));
        let stop = CancellationToken::new();
        let first = queue.try_enter().unwrap();
        assert!(queue.try_enter().is_none());
        let (order, mut came) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for number in 0..3 {
            let (queue, stop, order) = (Arc::clone(&queue), stop.clone(), order.clone());
            let entering = Arc::clone(&queue);
            tasks.push(tokio::spawn(async move {
                let slot = queue.enter(&stop).await.unwrap();
                order.send(number).unwrap();
                drop(slot);
            }));
            while entering.waiting() != number + 1 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!((queue.running(), queue.waiting()), (1, 3));
        drop(first);
        for expected in 0..3 {
            assert_eq!(came.recv().await, Some(expected));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!((queue.running(), queue.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_cancelled_waiter_leaves() {
        let queue = Queue::new(1);
        let _held = queue.try_enter().unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(matches!(queue.enter(&stop).await, Err(Error::Cancelled)));
        assert_eq!(queue.waiting(), 0);
    }
}
