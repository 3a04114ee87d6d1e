//! Archiving a directory, a list of paths, or a stream into a snapshot.
//!
//! Does: find the parent, have everything packed (`native`), and write the snapshot. Does not:
//! follow links, keep access times, or decide what a partial outcome means.
//!
//! Order: lock; snapshots and parent; index; packs; index files; then, with everything found again
//! in the store (`verify.rs`), lock and cancel looked at once more, the snapshot; the local state
//! of fingerprints, which nothing depends on; unlock. Whatever ends a run earlier leaves packs that
//! nothing refers to, which the next maintenance removes, and never a snapshot.

mod attributes;
mod cuts;
pub(crate) mod filter;
pub(crate) mod fingerprints;
#[cfg(test)]
mod lies_tests;
pub(crate) mod native;
mod run;
mod source;
mod stream;
mod verify;

use std::time::{Duration, Instant};

pub use self::{
    cuts::{CutFile, CutFiles},
    fingerprints::{STATE_BYTES, StateReport, StateRequest},
    source::Source,
    stream::{StreamRequest, archive_stream},
};
use self::{
    filter::Filter,
    native::Content,
    run::{About, Run},
    source::Origin,
};
pub use crate::chunk::{
    pages::PageFormat,
    policy::{Chunking, Cuts, Reason},
};
use crate::{
    Cancel, Progress, Repository,
    error::{Error, Result},
    repo::Locked,
    rows::FileError,
};

/// Memory an archive may take, in bytes, unless said otherwise.
pub const MEMORY: u64 = 256 << 20;

/// What to archive, and under which names.
#[derive(Debug, Clone)]
pub struct ArchiveRequest {
    /// What to archive.
    pub source: Source,
    /// The path shown in the snapshot of a [`Source::Directory`], the same for every backup of this volume, e.g.
    /// `/ns/claim`. Snapshots of [`Source::Paths`] show those paths.
    pub snapshot_path: String,
    /// The host name shown in the snapshot, the same for every backup of this volume.
    pub host: String,
    /// Tags, `key=value`.
    pub tags: Vec<String>,
    /// Sets of tags: the newest snapshot that has all tags of the first set, else of the second,
    /// and so on, is the parent. Without any set it is the newest of the same host and paths.
    pub parent_tags: Vec<Vec<String>>,
    /// The parent's id or the beginning of it; nothing else is looked for then.
    pub parent: Option<String>,
    /// What to leave out, in the syntax of `.gitignore`, relative to the snapshot's root.
    pub excludes: Vec<String>,
    /// Leave out what lies in directories marked by a `CACHEDIR.TAG`; the tag itself is kept.
    pub exclude_caches: bool,
    /// Leave out files of more than so many bytes.
    pub exclude_larger_than: Option<u64>,
    /// Read every file, and use no parent.
    pub reread_all: bool,
    /// Do not descend into other file systems mounted below the source.
    pub one_file_system: bool,
    /// How files are cut into chunks.
    pub chunking: Chunking,
    /// Memory the archive may take, in bytes. What cannot be done with it is an error that says how
    /// much would do.
    pub memory: u64,
    /// Where fingerprints of this volume are kept from one archive to the next, so that what did
    /// not change is hashed faster. Nothing else depends on it; without it every block that is read
    /// is hashed in full.
    pub state: Option<StateRequest>,
}

impl Default for ArchiveRequest {
    fn default() -> Self {
        Self {
            source: Source::default(),
            snapshot_path: String::new(),
            host: String::new(),
            tags: Vec::new(),
            parent_tags: Vec::new(),
            parent: None,
            excludes: Vec::new(),
            exclude_caches: false,
            exclude_larger_than: None,
            reread_all: false,
            one_file_system: false,
            chunking: Chunking::default(),
            memory: MEMORY,
            state: None,
        }
    }
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
    /// Entries left out because the request says so; a directory counts once.
    pub excluded: u64,
    /// Things left out on purpose that a user may want to know: sockets, other file systems,
    /// caches, files that are too large.
    pub notes: Vec<FileError>,
    /// How files were cut, and why: those of more than 512 KiB that were read.
    pub cut: Vec<CutFiles>,
    /// What fingerprints were good for, if they were asked for.
    pub state: Option<StateReport>,
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

/// Archives a directory or a list of paths. Blocks, and drives its requests on the repository's
/// runtime: call it on a thread of its own, not on a worker of a runtime.
///
/// A file that cannot be read is a row of the report; the snapshot is kept and the outcome is `Partial`. An
/// error means that there is no snapshot. A cancel ends it within about a second, without a snapshot.
///
/// # Errors
/// `Source` if the directory itself cannot be opened, or none of the paths exists; `Locked`, `Cancelled`, and what
/// the store says.
pub fn archive(
    repo: &Repository,
    request: &ArchiveRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ArchiveReport> {
    let filter = Filter::new(
        &request.excludes,
        request.exclude_caches,
        request.exclude_larger_than,
    )?;
    let origin = Origin::open(&request.source, &request.snapshot_path)?;
    let about = About {
        host: &request.host,
        tags: &request.tags,
        excludes: &request.excludes,
        paths: &origin.shown,
        chunking: request.chunking,
        memory: request.memory,
    };
    let content = Content::Tree {
        origin: &origin,
        filter: &filter,
        one_file_system: request.one_file_system,
    };
    locked(repo, &about, content, Some(request), progress, cancel)
}

/// Does what both kinds of archive do, under a lock.
fn locked(
    repo: &Repository,
    about: &About<'_>,
    content: Content<'_>,
    request: Option<&ArchiveRequest>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ArchiveReport> {
    let started = Instant::now();
    check_tags(about.tags)?;
    // What this reads before its first write is looked at once more before the snapshot.
    let lock = repo.block_on(repo.lock_early(Locked::Shared, cancel))?;
    let run = Run {
        repo,
        about,
        content,
        progress,
        cancel: lock.cancel(),
        store: repo.store().with_cancel(lock.cancel().clone()),
    };
    let done = lock.outcome(run.archive(request, &lock));
    repo.runtime().block_on(lock.release(cancel));
    let mut report = done?;
    report.duration = started.elapsed();
    Ok(report)
}

fn check_tags(tags: &[String]) -> Result<()> {
    // restic reads tags as lists separated by commas, and could not select such a one.
    let bad = |tag: &&String| tag.trim().is_empty() || tag.contains(',');
    match tags.iter().find(bad) {
        Some(tag) => Err(Error::InvalidConfig {
            what: "tag",
            message: format!("{tag:?}"),
        }),
        None => Ok(()),
    }
}
