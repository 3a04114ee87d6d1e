//! Checking a repository.

use crate::{
    Cancel, Repository,
    error::{Error, Result},
};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Damage: some data cannot be read any more.
    pub errors: Vec<String>,
    /// Oddities that lose nothing.
    pub warnings: Vec<String>,
}

/// Checks a repository.
pub fn check(_repo: &Repository, _read_data: bool, _cancel: &Cancel) -> Result<CheckReport> {
    Err(Error::Bug("not there yet".to_owned()))
}
