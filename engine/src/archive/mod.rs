//! Archiving a directory into a snapshot.

use std::{path::PathBuf, time::Duration};

use crate::{
    Cancel, Progress, Repository,
    error::{Error, Result},
    rows::FileError,
};

/// What to archive, and under which names.
#[derive(Debug, Clone, Default)]
pub struct ArchiveRequest {
    /// The directory. Its content becomes the root of the snapshot.
    pub source: PathBuf,
    /// The path shown in the snapshot, the same for every backup of this volume, e.g. `/ns/claim`.
    pub snapshot_path: String,
    /// The host name shown in the snapshot, the same for every backup of this volume.
    pub host: String,
    /// Tags, `key=value`.
    pub tags: Vec<String>,
    /// Sets of tags: the newest snapshot that has all tags of the first set, else of the second, and so
    /// on, is the parent.
    pub parent_tags: Vec<Vec<String>>,
    /// What to leave out, in the syntax of `.gitignore`.
    pub excludes: Vec<String>,
    /// Read every file, whatever the parent says.
    pub reread_all: bool,
    /// Do not descend into other file systems mounted below the source.
    pub one_file_system: bool,
}

/// What an archive did.
#[derive(Debug, Clone, Default)]
pub struct ArchiveReport {
    /// Id of the new snapshot, 64 hexadecimal digits.
    pub snapshot_id: String,
    /// Id of the parent, if there was one.
    pub parent: Option<String>,
    /// Files (everything that is not a directory) in the snapshot.
    pub files: u64,
    /// Directories in the snapshot, the root not counted.
    pub dirs: u64,
    /// Bytes of file content in the snapshot.
    pub bytes_total: u64,
    /// Bytes added to the store.
    pub bytes_new: u64,
    /// Files that were the same as in the parent and not read.
    pub files_unchanged: u64,
    /// What could not be read, or changed meanwhile. At most 10,000 rows.
    pub errors: Vec<FileError>,
    /// Rows beyond those.
    pub errors_dropped: u64,
    /// Things left out on purpose that a user may want to know: sockets, other file systems.
    pub notes: Vec<FileError>,
    /// How long it took.
    pub duration: Duration,
}

/// Whether everything is in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done.
    Complete,
    /// Some rows say what was not.
    Partial,
}

impl ArchiveReport {
    /// `Partial` if there is any error row.
    pub fn outcome(&self) -> Outcome {
        if self.errors.is_empty() && self.errors_dropped == 0 {
            Outcome::Complete
        } else {
            Outcome::Partial
        }
    }
}

/// Archives a directory.
pub fn archive(
    _repo: &Repository,
    _request: &ArchiveRequest,
    _progress: &Progress,
    _cancel: &Cancel,
) -> Result<ArchiveReport> {
    Err(Error::Bug("not there yet".to_owned()))
}
