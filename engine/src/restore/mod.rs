//! Restoring a snapshot into a directory.
//!
//! Does: read the snapshot's trees in order, write every file, verify every blob's SHA-256, set metadata,
//! and make everything durable before it reports success. Does not: delete what else is in the target,
//! follow a link that is in it, enter a file system mounted in it, or trust anything the repository says: names,
//! sizes and links are checked, and what makes no sense is a row.
//!
//! Order for each file: whatever is in its place is removed, content, owner, attributes, mode, times. A
//! directory's own metadata comes after its content, the root's last of all; then the file system is synced.
//! A file whose content cannot be read completely is removed again and is a row. An error (store gone, disk
//! full, cancelled) leaves what was restored so far.

mod content;
#[cfg(test)]
mod forge;
#[cfg(test)]
mod hostile_tests;
mod metadata;
mod node;
mod request;
mod tree;

use std::{path::Path, time::Instant};

pub use self::request::{PlannedChange, RestoreAction, RestoreReport, RestoreRequest};
use self::tree::Restorer;
use crate::{
    Cancel, Progress, Repository,
    crypto::Id,
    error::{Error, Result},
    files::{beneath::Root, meta::Meta},
    format::root::RootMeta,
    index::{Index, Packs},
    repo::{Locked, Snapshot, blobs::BlobReader},
    rows::{FileOperation, Rows},
};

/// Restores a snapshot. Blocks, and drives its requests on the repository's runtime: call it on a thread of
/// its own, not on a worker of a runtime.
///
/// What cannot be restored is a row of the report, and the outcome `Partial`.
///
/// # Errors
/// `Target` if the directory cannot be used at all or is full, `SnapshotNotFound`, `Locked`, `Cancelled`, and
/// what the store says. What was restored by then stays.
pub fn restore(
    repo: &Repository,
    request: &RestoreRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<RestoreReport> {
    let started = Instant::now();
    // Rather refused than done otherwise than asked for.
    if !request.select.is_empty() || request.delete_extra || request.dry_run {
        return Err(Error::InvalidConfig {
            what: "restore",
            message: "selecting, deleting and dry runs are not supported yet".to_owned(),
        });
    }
    let target = |error: rustix::io::Errno| Error::Target {
        path: request.target.clone(),
        source: error.into(),
    };
    let root = Root::open(&request.target).map_err(target)?;
    let mount = Meta::of(&root).map_err(target)?.mount;
    let lock = repo.block_on(repo.lock(Locked::Shared, cancel))?;
    let done = locked(repo, request, &root, mount, progress, cancel);
    repo.runtime().block_on(lock.release(cancel));
    let mut report = done?;
    report.duration = started.elapsed();
    Ok(report)
}

fn locked(
    repo: &Repository,
    request: &RestoreRequest,
    root: &Root,
    mount: u64,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<RestoreReport> {
    let store = repo.store().with_cancel(cancel.clone());
    // Snapshot first, then the index: the order that is right beside running backups.
    let snapshot = repo.find_snapshot(&request.snapshot)?;
    let tree = tree_of(repo, &snapshot)?;
    if let Some(summary) = &snapshot.summary {
        progress.found(summary.total_files_processed, summary.total_bytes_processed);
    }
    let index = repo.block_on(Index::load(repo, &store, Packs::All))?;
    let mut restorer = Restorer {
        root,
        mount,
        blobs: BlobReader::new(repo, &store, &index),
        request,
        progress,
        cancel,
        rows: Rows::default(),
        notes: Rows::default(),
        links: std::collections::HashMap::new(),
        report: RestoreReport {
            snapshot_id: snapshot.id.clone(),
            ..RestoreReport::default()
        },
    };
    restorer.tree(tree)?;
    if let Some(meta) = RootMeta::from_tags(&snapshot.tags) {
        restorer.root_metadata(&meta);
    }
    // Success means that it survives a power loss.
    rustix::fs::syncfs(root).map_err(|error| Error::Target {
        path: request.target.clone(),
        source: error.into(),
    })?;
    progress.settle();
    let mut report = restorer.report;
    (report.errors, report.errors_dropped) = restorer.rows.take();
    report.notes = restorer.notes.take().0;
    Ok(report)
}

fn tree_of(repo: &Repository, snapshot: &Snapshot) -> Result<Id> {
    Id::parse(&snapshot.tree).ok_or_else(|| Error::Damaged {
        location: repo.location(),
        what: format!("snapshot {}", snapshot.id),
        message: "its tree is not an id".to_owned(),
    })
}

/// A failed step of one file: a row, unless it concerns the whole target.
enum Failure {
    Row(FileOperation, String),
    Fatal(Error),
}

impl Failure {
    fn new(operation: FileOperation, error: impl Into<std::io::Error>) -> Self {
        Self::Row(operation, error.into().to_string())
    }
}

/// Whether there is no use in going on after this error.
fn is_fatal(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::ROFS)
}

/// A write-like step: a full or read-only target ends the restore.
fn step(
    target: &Path,
    operation: FileOperation,
    result: rustix::io::Result<()>,
) -> std::result::Result<(), Failure> {
    result.map_err(|error| {
        if is_fatal(error) {
            Failure::Fatal(Error::Target {
                path: target.to_owned(),
                source: error.into(),
            })
        } else {
            Failure::new(operation, error)
        }
    })
}
