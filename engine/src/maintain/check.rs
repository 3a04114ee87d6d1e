//! Checking a repository, as the library does it, beside a lock of ours.
//!
//! Does: compare packs with the index, walk all trees of all snapshots, and read all data if asked. Does
//! not: repair or remove anything. Findings are lines of the report; an error means that the check itself
//! could not be done.

use std::sync::Arc;

use crate::{
    Cancel, Progress, Repository,
    error::{Error, Result},
    repo::{Locked, adapter},
    storage::Session,
};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Damage: some data cannot be read any more.
    pub errors: Vec<String>,
    /// Oddities that lose nothing.
    pub warnings: Vec<String>,
}

impl CheckReport {
    /// Whether nothing is damaged.
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }
}

/// Checks a repository; with `read_data` also every byte of it. Blocks: call it on a thread of its own.
///
/// # Errors
/// `Locked`, `Cancelled`, and what the store says.
pub fn check(repo: &Repository, read_data: bool, cancel: &Cancel) -> Result<CheckReport> {
    let lock = repo.block_on(repo.lock(Locked::Shared, cancel))?;
    let store = repo.store().with_cancel(cancel.clone());
    // A check writes nothing.
    let refuse = || Err(Error::Bug("a check tried to write".to_owned()));
    let session = Arc::new(Session::new(refuse, Progress::new()));
    let found = adapter::check(repo, store, &session, read_data);
    repo.runtime().block_on(lock.release(cancel));
    if cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    // A store that fails makes findings that are none.
    match session.take_failure() {
        Some(error @ Error::Damaged { .. }) => {
            let mut report = CheckReport::default();
            report.errors.push(error.to_string());
            Ok(report)
        }
        Some(error) => Err(error),
        None => found.map(|found| CheckReport {
            errors: found.errors,
            warnings: found.warnings,
        }),
    }
}
