//! Restoring a snapshot into a directory.

use std::{path::PathBuf, time::Duration};

use crate::{
    Cancel, Progress, Repository,
    archive::Outcome,
    error::{Error, Result},
    rows::FileError,
};

/// What to restore, and where.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Id of the snapshot, or a prefix that is unique.
    pub snapshot: String,
    /// The directory to restore into. It must exist; what else is in it stays.
    pub target: PathBuf,
    /// Leave holes where the content is zeros.
    pub sparse: bool,
    /// Set owners, which only root can.
    pub restore_owner: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Files (everything that is not a directory) restored completely.
    pub files: u64,
    /// Directories restored, the root not counted.
    pub dirs: u64,
    /// Bytes of file content written.
    pub bytes: u64,
    /// What could not be restored as it was. At most 10,000 rows.
    pub errors: Vec<FileError>,
    /// Rows beyond those.
    pub errors_dropped: u64,
    /// Things left out on purpose: sockets.
    pub notes: Vec<FileError>,
    /// How long it took.
    pub duration: Duration,
}

impl RestoreReport {
    /// `Partial` if there is any error row.
    pub fn outcome(&self) -> Outcome {
        if self.errors.is_empty() && self.errors_dropped == 0 {
            Outcome::Complete
        } else {
            Outcome::Partial
        }
    }
}

/// Restores a snapshot.
pub fn restore(
    _repo: &Repository,
    _request: &RestoreRequest,
    _progress: &Progress,
    _cancel: &Cancel,
) -> Result<RestoreReport> {
    Err(Error::Bug("not there yet".to_owned()))
}
