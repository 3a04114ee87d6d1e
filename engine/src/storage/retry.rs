//! Limits around one request: time, repetition, cancel.
//!
//! Every attempt has a time limit that grows with the bytes it moves; an attempt that fails with a
//! transient error is repeated a bounded number of times after a wait with full jitter; a cancel
//! ends the wait and the attempt at once.

use std::{future::Future, pin::Pin, time::Duration};

use rand::RngExt as _;

use crate::{
    Cancel,
    error::{Class, Error, Result},
};

/// Limits on time and repetition of the requests of a store.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Attempts of one request, at least 1.
    pub attempts: u32,
    /// Time limit of an attempt that moves no data.
    pub timeout: Duration,
    /// Slowest acceptable transfer; the time limit grows by `bytes / min_bytes_per_second`.
    pub min_bytes_per_second: u64,
    /// The first wait; doubles with every attempt.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 6,
            timeout: Duration::from_secs(30),
            min_bytes_per_second: 128 << 10,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
        }
    }
}

impl Policy {
    /// The same with fewer attempts and shorter limits, for a question a person waits for.
    #[must_use]
    pub fn quick(self) -> Self {
        Self {
            attempts: self.attempts.min(2),
            timeout: self.timeout.min(Duration::from_secs(10)),
            ..self
        }
    }

    pub(super) fn limit(&self, bytes: u64) -> Duration {
        self.timeout + Duration::from_secs(bytes / self.min_bytes_per_second.max(1))
    }

    fn wait(&self, attempt: u32) -> Duration {
        let most = self
            .first_wait
            .saturating_mul(1 << attempt.min(16))
            .min(self.longest_wait);
        most.mul_f64(rand::rng().random_range(0.1..=1.0))
    }
}

/// A request in flight.
pub(super) type Request<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Boxes a future, so that the arms of a match have one type.
pub(super) trait BoxedFuture<'a, T>: Future<Output = Result<T>> + Send + Sized + 'a {
    fn boxed_future(self) -> Request<'a, T> {
        Box::pin(self)
    }
}

impl<'a, T, F> BoxedFuture<'a, T> for F where F: Future<Output = Result<T>> + Send + Sized + 'a {}

/// What is being done, for messages.
pub(super) struct Place<'a, L> {
    pub(super) location: L,
    pub(super) operation: &'static str,
    pub(super) path: &'a str,
}

pub(super) async fn run<T, F, L>(
    policy: &Policy,
    cancel: Option<&Cancel>,
    place: Place<'_, L>,
    bytes: u64,
    mut request: F,
) -> Result<T>
where
    F: FnMut() -> Request<'static, T>,
    L: Fn() -> String,
{
    let limit = policy.limit(bytes);
    let mut attempt = 0;
    loop {
        let result = tokio::select! {
            biased;
            () = cancelled(cancel) => return Err(Error::Cancelled),
            result = tokio::time::timeout(limit, request()) => result,
        };
        attempt += 1;
        let error = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_elapsed) => Error::Timeout {
                location: (place.location)(),
                operation: place.operation,
                path: place.path.to_owned(),
            },
        };
        if error.class() != Class::Transient || attempt >= policy.attempts {
            return Err(error);
        }
        tracing::debug!(operation = place.operation, path = place.path, attempt, %error, "repeating a request");
        tokio::select! {
            biased;
            () = cancelled(cancel) => return Err(Error::Cancelled),
            () = tokio::time::sleep(policy.wait(attempt)) => {}
        }
    }
}

async fn cancelled(cancel: Option<&Cancel>) {
    match cancel {
        Some(cancel) => cancel.cancelled().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn place() -> Place<'static, fn() -> String> {
        Place {
            location: || "here".to_owned(),
            operation: "read",
            path: "x",
        }
    }

    fn passing() -> Error {
        Error::Unreachable {
            location: "here".to_owned(),
            message: "no".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_passing_failures_only_so_often() {
        let tries = Arc::new(AtomicU32::new(0));
        let policy = Policy::default();
        let request = {
            let tries = Arc::clone(&tries);
            move || -> Request<'static, ()> {
                tries.fetch_add(1, Ordering::Relaxed);
                Box::pin(async { Err(passing()) })
            }
        };
        let result = run(&policy, None, place(), 0, request).await;
        assert!(matches!(result, Err(Error::Unreachable { .. })));
        assert_eq!(tries.load(Ordering::Relaxed), policy.attempts);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_request_times_out() {
        let hang = || -> Request<'static, ()> { Box::pin(std::future::pending()) };
        let result = run(&Policy::default(), None, place(), 0, hang).await;
        assert!(matches!(result, Err(Error::Timeout { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn cancel_ends_a_hanging_request() {
        let cancel = Cancel::new();
        cancel.cancel();
        let hang = || -> Request<'static, ()> { Box::pin(std::future::pending()) };
        let result = run(&Policy::default(), Some(&cancel), place(), 0, hang).await;
        assert!(matches!(result, Err(Error::Cancelled)));
    }
}
