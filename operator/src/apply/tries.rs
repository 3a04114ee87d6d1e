//! Trying again: what may pass, how long it is waited for, and with which pauses.

use std::time::Duration;

use kube::Error;
use tokio::time::Instant;

use super::run::Outcome;
use crate::error::{Class, classify, describe, status_code};

/// How long a server that is busy or unreachable is tried.
pub(super) const BUSY: Duration = Duration::from_secs(30);
/// First and longest pause between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// To be tried again, at most for `patience` since the first try.
pub(super) struct Again {
    /// What is in the way.
    pub(super) message: String,
    /// How long it is waited for.
    pub(super) patience: Duration,
}

impl Again {
    /// Something that passes at once.
    pub(super) fn soon(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            patience: BUSY,
        }
    }
}

/// Pauses between tries, longer and longer.
pub(super) struct Tries {
    /// When the first try began.
    pub(super) started: Instant,
    pause: Duration,
}

impl Tries {
    /// The first try begins.
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            pause: PAUSE.0,
        }
    }

    /// Waits a moment; false when the patience, counted from `since`, is over.
    pub(super) async fn pause(&mut self, since: Instant, patience: Duration) -> bool {
        match self.next(since.elapsed(), patience) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }

    /// The next pause, `elapsed` after the first try.
    fn next(&mut self, elapsed: Duration, patience: Duration) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE.1);
        (elapsed + pause <= patience).then_some(pause)
    }
}

/// Whether an object was refused because there is one of its name.
pub(super) fn already_exists(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.reason == "AlreadyExists")
}

/// An error as the end of an object, or as a reason to try again.
pub(super) fn judge(error: &Error) -> Result<Outcome, Again> {
    let text = describe(error);
    if !is_final(error, &text) {
        return Err(Again {
            message: text,
            patience: BUSY,
        });
    }
    Ok(Outcome::failed(text))
}

/// Whether the answer stays when the request is sent again.
pub(super) fn is_final(error: &Error, text: &str) -> bool {
    !is_soon(error, text) && classify(error) != Class::Transient
}

/// Refused now, but what it lacks is on its way: the default service account of a new namespace,
/// the roles of a new binding in the authoriser's cache.
fn is_soon(error: &Error, text: &str) -> bool {
    status_code(error) == Some(403) && text.contains("serviceaccount") && text.contains("not found")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api_error(code: u16, reason: &str, message: &str) -> Error {
        Error::Api(Box::new(Status::failure(message, reason).with_code(code)))
    }

    #[test]
    fn what_is_tried_again() {
        for (code, reason, message, again) in [
            (503, "ServiceUnavailable", "later", true),
            (429, "TooManyRequests", "later", true),
            (409, "Conflict", "resourcequotas", true),
            (422, "Invalid", "spec", false),
            (403, "Forbidden", "no permission", false),
            (
                403,
                "Forbidden",
                "error looking up service account web/default: serviceaccount \"default\" not found",
                true,
            ),
        ] {
            let result = judge(&api_error(code, reason, message));
            assert_eq!(result.is_err(), again, "{code} {message}");
        }
        assert!(already_exists(&api_error(409, "AlreadyExists", "x")));
        assert!(!already_exists(&api_error(409, "Conflict", "x")));
    }

    #[test]
    fn patience_ends() {
        let mut tries = Tries::start();
        let (mut count, mut elapsed) = (0, Duration::ZERO);
        while let Some(pause) = tries.next(elapsed, BUSY) {
            elapsed += pause;
            count += 1;
        }
        assert!(elapsed <= BUSY && elapsed + PAUSE.1 > BUSY);
        assert!(count > 10, "{count}");
    }
}
