//! Waiting for a condition, with a deadline.
//!
//! The one place of this crate that sleeps: between two looks at a condition. A wait that ends
//! without the condition is an error that says what was waited for and what was seen last.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What one look at the world found.
pub enum Look<T> {
    /// The condition holds.
    Ready(T),
    /// Not yet, and what was seen instead.
    NotYet(String),
}

/// Looks until the condition holds, an error ends it, or `limit` has passed.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Look<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = match look()? {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(seen) => seen,
        };
        if start.elapsed() >= limit {
            bail!(
                "{what}: not within {} s; last seen: {seen}",
                limit.as_secs()
            );
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_deadline_says_what_was_seen_last() {
        let error = until::<()>("the moon", Duration::ZERO, || {
            Ok(Look::NotYet("clouds".to_owned()))
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the moon: not within 0 s; last seen: clouds"
        );
    }

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let value = until("third look", Duration::from_secs(5), || {
            looks += 1;
            Ok(if looks == 3 {
                Look::Ready(looks)
            } else {
                Look::NotYet(looks.to_string())
            })
        });
        assert_eq!(value.unwrap(), 3);
    }
}
