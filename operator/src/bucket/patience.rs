//! How long a run puts up with a store that fails: the engine repeats each request by itself; on
//! top of that a whole step is tried a few times over half a minute, and then the run fails with
//! the reason. Where much work would be lost, the step is tried until a deadline.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Class, Error, Result};

/// Waits between tries of one step, in seconds. The last one is repeated up to a deadline.
const WAITS: [u64; 5] = [1, 2, 4, 8, 15];

/// How often one step is tried again.
#[derive(Debug)]
pub(crate) struct Patience {
    tried: usize,
    deadline: Option<Instant>,
}

impl Patience {
    /// A few tries over half a minute.
    pub(crate) fn short() -> Self {
        Self {
            tried: 0,
            deadline: None,
        }
    }

    /// Tries until `deadline`, and at least as many as [`Patience::short`].
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            tried: 0,
            deadline: Some(deadline),
        }
    }

    /// How long to wait after `error` before the step is tried again; nothing if it is not.
    pub(crate) fn wait(&mut self, error: &Error) -> Option<Duration> {
        let store = matches!(error, Error::Store { .. } | Error::Location { .. });
        let server = matches!(error, Error::Kube { .. });
        let passing = matches!(error.class(), Class::Transient | Class::Waiting);
        // A store that is mounted anew, or given space, fails in ways that look lasting until then.
        let worth_it = match self.deadline {
            None => store && passing,
            Some(_) => (server && passing) || (store && error.class() != Class::Bug),
        };
        if !worth_it {
            return None;
        }
        let last = Duration::from_secs(WAITS[WAITS.len() - 1]);
        let wait = match WAITS.get(self.tried) {
            Some(seconds) => Duration::from_secs(*seconds),
            None => self
                .deadline
                .filter(|deadline| Instant::now() + last < *deadline)
                .map(|_| last)?,
        };
        self.tried += 1;
        Some(wait)
    }
}

/// Does a step, again and again if the store fails in a way that may pass.
pub(crate) async fn with_patience<T, F, Fut>(stop: &CancellationToken, mut attempt: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let mut patience = Patience::short();
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(_) if stop.is_cancelled() => return Err(Error::Stopping),
            Err(error) => error,
        };
        let Some(wait) = patience.wait(&error) else {
            return Err(error);
        };
        tracing::warn!(%error, seconds = wait.as_secs(), "the store fails; tried again");
        tokio::select! {
            () = stop.cancelled() => return Err(Error::Stopping),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn failure(class: Class) -> Error {
        Error::Store {
            message: "no".to_owned(),
            hint: String::new(),
            class,
            reason: "Error",
        }
    }

    async fn tries(class: Class, succeed_at: u32) -> (u32, bool) {
        let count = AtomicU32::new(0);
        let result = with_patience(&CancellationToken::new(), || async {
            let n = count.fetch_add(1, Ordering::Relaxed) + 1;
            if n == succeed_at {
                Ok(())
            } else {
                Err(failure(class))
            }
        })
        .await;
        (count.into_inner(), result.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn passing_failures_are_bounded_and_lasting_ones_are_not_repeated() {
        assert_eq!(tries(Class::Transient, 3).await, (3, true));
        assert_eq!(tries(Class::Waiting, 99).await, (6, false));
        assert_eq!(tries(Class::Permanent, 99).await, (1, false));
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait() {
        let stop = CancellationToken::new();
        stop.cancel();
        let result: Result<()> =
            with_patience(&stop, || async { Err(failure(Class::Transient)) }).await;
        assert!(matches!(result, Err(Error::Stopping)));
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_deadline_a_step_is_tried_until_then() {
        let begin = Instant::now();
        let mut patience = Patience::until(begin + Duration::from_mins(10));
        let mut tries = 0;
        while let Some(wait) = patience.wait(&failure(Class::Transient)) {
            tokio::time::advance(wait).await;
            tries += 1;
        }
        let waited = begin.elapsed();
        assert!(tries > 30, "{tries}");
        assert!(waited > Duration::from_mins(9) && waited < Duration::from_mins(10));
        let wait = |error: Error| Patience::until(begin).wait(&error).is_some();
        assert!(wait(failure(Class::Permanent)), "a disk that is full");
        assert!(!wait(failure(Class::Bug)));
        assert!(!wait(Error::Cancelled));
    }
}
