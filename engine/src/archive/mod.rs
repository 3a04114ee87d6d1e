//! Archiving a directory into a snapshot.
//!
//! Does: find the parent, have everything packed ([`native`]), and write the snapshot. Does not: follow links, keep access times, or decide what a partial outcome means.
//!
//! Order: lock; snapshots and parent; index; packs; index files; then, with everything found again in the
//! store (`verify.rs`), lock and cancel looked at once more, the snapshot; unlock. Whatever ends a run
//! earlier leaves packs that nothing refers to, which the next maintenance removes, and never a snapshot.

mod attributes;
mod filter;
mod native;
mod run;
mod verify;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use self::{filter::Filter, run::Run};
pub use crate::chunk::policy::Chunking;
use crate::{
    Cancel, Progress, Repository,
    error::{Error, Result},
    files::beneath::Root,
    repo::Locked,
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
    /// How files are cut into chunks.
    pub chunking: Chunking,
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

/// Archives a directory. Blocks, and drives its requests on the repository's runtime: call it on a thread
/// of its own, not on a worker of a runtime.
///
/// A file that cannot be read is a row of the report; the snapshot is kept and the outcome is `Partial`. An
/// error means that there is no snapshot. A cancel ends it within about a second, without a snapshot.
///
/// # Errors
/// `Source` if the directory itself cannot be opened, `Locked`, `Cancelled`, and what the store says.
pub fn archive(
    repo: &Repository,
    request: &ArchiveRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ArchiveReport> {
    let started = Instant::now();
    let filter = Filter::new(&request.excludes)?;
    check_names(request)?;
    let source = |error: rustix::io::Errno| Error::Source {
        path: request.source.clone(),
        source: error.into(),
    };
    let root = Root::open(&request.source).map_err(source)?;
    // A directory that cannot be listed must not look like an empty one.
    root.can_list().map_err(source)?;
    let lock = repo.block_on(repo.lock(Locked::Shared, cancel))?;
    let run = Run {
        repo,
        request,
        progress,
        cancel,
        store: repo.store().with_cancel(cancel.clone()),
    };
    let done = run.archive(&root, &filter, &lock);
    repo.runtime().block_on(lock.release(cancel));
    let mut report = done?;
    report.duration = started.elapsed();
    Ok(report)
}

fn check_names(request: &ArchiveRequest) -> Result<()> {
    let bad = |what, text: &str| {
        Err(Error::InvalidConfig {
            what,
            message: format!("{text:?}"),
        })
    };
    if !request.snapshot_path.starts_with('/') {
        return bad(
            "snapshot path, which must be absolute",
            &request.snapshot_path,
        );
    }
    // restic reads tags as lists separated by commas, and could not select such a one.
    match request
        .tags
        .iter()
        .find(|tag| tag.is_empty() || tag.contains(','))
    {
        Some(tag) => bad("tag", tag),
        None => Ok(()),
    }
}
