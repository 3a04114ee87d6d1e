//! What could not be counted, as a bounded list.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
};

/// At most this many are kept; the rest is only counted.
const MOST: usize = 1000;

/// Shared by threads.
#[derive(Debug, Default)]
pub(super) struct Problems(Mutex<(Vec<String>, u64)>);

impl Problems {
    pub(super) fn add(&self, what: impl Display) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.0.len() < MOST {
            all.0.push(what.to_string());
        } else {
            all.1 += 1;
        }
    }

    /// They, sorted, and how many more there were.
    pub(super) fn take(self) -> (Vec<String>, u64) {
        let (mut kept, dropped) = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        kept.sort();
        (kept, dropped)
    }
}
