//! How long a run puts up with a store that fails: the engine repeats each request by itself; on top of
//! that a whole step is tried a few times over half a minute, and then the run fails with the reason.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{Class, Error, Result};

/// Waits between tries of one step.
const WAITS: [u64; 5] = [1, 2, 4, 8, 15];

/// Does a step, again and again if the store fails in a way that may pass.
pub(crate) async fn with_patience<T, F, Fut>(stop: &CancellationToken, mut attempt: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    for wait in WAITS {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let store = matches!(error, Error::Store { .. } | Error::Location { .. });
        if stop.is_cancelled()
            || !store
            || !matches!(error.class(), Class::Transient | Class::Waiting)
        {
            return Err(if stop.is_cancelled() {
                Error::Stopping
            } else {
                error
            });
        }
        tracing::warn!(%error, wait, "the store fails; tried again");
        tokio::select! {
            () = stop.cancelled() => return Err(Error::Stopping),
            () = tokio::time::sleep(Duration::from_secs(wait)) => {}
        }
    }
    attempt().await
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
}
