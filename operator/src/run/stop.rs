//! How a run learns that it is to end, and how urgently.

use tokio_util::sync::CancellationToken;

/// What ends a run before its work is done.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// Everything ends at the next safe point: the process stops, or the object is gone. Nothing
    /// more is written but what takes back what was begun.
    pub(crate) now: CancellationToken,
    /// The user wants no more work (`spec.cancel`): what is finished is kept, and the end is
    /// written.
    pub(crate) wish: CancellationToken,
    deleted: CancellationToken,
}

impl Stop {
    /// Ends at the latest when `shutdown` is cancelled.
    pub(crate) fn new(shutdown: &CancellationToken) -> Self {
        Self {
            now: shutdown.child_token(),
            wish: CancellationToken::new(),
            deleted: CancellationToken::new(),
        }
    }

    /// The object is gone, or going.
    pub(crate) fn delete(&self) {
        self.deleted.cancel();
        self.now.cancel();
    }

    /// Whether the object is the reason that everything ends.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_object_a_shutdown_and_a_wish_are_told_apart() {
        let shutdown = CancellationToken::new();
        let (deleted, wished, stopped) = (
            Stop::new(&shutdown),
            Stop::new(&shutdown),
            Stop::new(&shutdown),
        );
        deleted.delete();
        wished.wish.cancel();
        assert!(deleted.now.is_cancelled() && deleted.is_deleted());
        assert!(!wished.now.is_cancelled() && !wished.is_deleted());
        shutdown.cancel();
        assert!(stopped.now.is_cancelled() && !stopped.is_deleted());
    }
}
