//! Files of a repository that cannot be read, and that an operation did without.
//!
//! Does: remember them as long as the repository is open, each once, for whoever tells people. Does
//! not: decide which operation can do without which file.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::Repository;
use crate::error::{Error, Result};

/// What was left out, with the reason.
#[derive(Default)]
pub(super) struct LeftOut(Mutex<BTreeMap<String, String>>);

impl Repository {
    /// The files of the repository that could not be read, and that operations did without so far:
    /// what each is, with its id, and why it cannot be read.
    pub fn left_out(&self) -> Vec<(String, String)> {
        let left_out = self.0.left_out.0.lock();
        let left_out = left_out.unwrap_or_else(PoisonError::into_inner);
        left_out
            .iter()
            .map(|(what, why)| (what.clone(), why.clone()))
            .collect()
    }

    /// Leaves out a file whose content makes no sense.
    ///
    /// # Errors
    /// All others.
    pub(crate) fn leave_out(&self, what: &str, error: Error) -> Result<()> {
        let why = match error {
            Error::Damaged { message, .. } => message,
            error @ Error::ObjectTooLarge { .. } => error.to_string(),
            error => return Err(error),
        };
        let left_out = self.0.left_out.0.lock();
        let mut left_out = left_out.unwrap_or_else(PoisonError::into_inner);
        if left_out.insert(what.to_owned(), why.clone()).is_none() {
            tracing::warn!(%what, %why, "a file of the repository cannot be read, and is left out");
        }
        Ok(())
    }
}
