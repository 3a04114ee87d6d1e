//! How often the agent writes statuses, all volumes together.
//!
//! Writes that must be made (a start, an end, a new reason to wait) are a few for each volume and
//! go a few at a time. Those that only keep people up to date (how far a transfer is, a place in a
//! queue) share a small allowance: with many volumes each is written less often, and the API server
//! does not notice how many there are. How many nodes there are it does not notice either: an
//! object says how often the operator, which sees all of them, wants to hear of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ark_api::annotation;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, Result};

/// Writes of this agent that are under way at the same time.
const PARALLEL: usize = 8;
/// Time in which one more write that keeps people up to date is allowed.
const EVERY: Duration = Duration::from_secs(1);
/// How many of them are allowed at once after a quiet time.
const BURST: u32 = 4;
/// No object is left without a word for longer because somebody asked for it.
const LONGEST: Duration = Duration::from_mins(10);

/// The allowance of one agent.
#[derive(Debug)]
pub(crate) struct Writes {
    under_way: Semaphore,
    /// When the allowance is full again, if nothing more is written.
    full_at: Mutex<Instant>,
}

impl Writes {
    /// With a full allowance.
    pub(crate) fn new() -> Self {
        Self {
            under_way: Semaphore::new(PARALLEL),
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// Whether something that is only good to know may be written now. If so, that is counted.
    pub(crate) fn may_tell(&self) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let told = take(*full_at, Instant::now());
        if let Some(later) = told {
            *full_at = later;
        }
        told.is_some()
    }

    /// Waits for the turn to write.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        let permit = self.under_way.acquire().await;
        permit.map_err(|_| Error::Bug("the agent's writes were closed".to_owned()))
    }
}

/// Time between two writes about the progress of a transfer that has run for so long: two seconds
/// at first, when somebody may be looking on, and a quarter of a minute in the end.
pub(crate) fn pause(running: Duration) -> Duration {
    (running / 10).clamp(Duration::from_secs(2), Duration::from_secs(15))
}

/// Time between two such writes that the operator asks for, which knows how many volumes run in the
/// whole cluster. One that makes no sense is not asked for.
pub(crate) fn asked_pause(annotations: Option<&BTreeMap<String, String>>) -> Duration {
    annotations
        .and_then(|all| all.get(annotation::TELL_EVERY))
        .and_then(|text| text.parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs)
        .min(LONGEST)
}

/// When the allowance is full again after one more write; `None` if none is left.
fn take(full_at: Instant, now: Instant) -> Option<Instant> {
    let later = full_at.max(now) + EVERY;
    (later <= now + EVERY * BURST).then_some(later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_volumes_write_as_often_as_a_few() {
        let begin = Instant::now();
        let mut full_at = begin;
        let mut written = 0;
        // Each volume asks every two seconds, for a minute.
        for second in 0..60 {
            let now = begin + Duration::from_secs(second);
            for _ in 0..100 {
                if let Some(later) = take(full_at, now) {
                    full_at = later;
                    written += 1;
                }
            }
        }
        assert_eq!(written, 60 - 1 + BURST);
    }

    #[test]
    fn what_the_operator_asks_for_is_taken_when_it_makes_sense() {
        let asked = |text: &str| {
            let key = annotation::TELL_EVERY.to_owned();
            asked_pause(Some(&BTreeMap::from([(key, text.to_owned())]))).as_secs()
        };
        assert_eq!(asked_pause(None), Duration::ZERO);
        for (text, seconds) in [("40", 40), ("-1", 0), ("soon", 0), ("99999999", 600)] {
            assert_eq!(asked(text), seconds, "{text}");
        }
    }

    #[test]
    fn long_transfers_are_told_of_less_often() {
        let seconds = Duration::from_secs;
        for (running, expected) in [(0, 2), (30, 3), (3600, 15)] {
            assert_eq!(pause(seconds(running)), seconds(expected));
        }
    }
}
