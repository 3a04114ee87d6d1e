//! Restoring a snapshot into a directory.
//!
//! ```text
//!  walk the trees ─► files, until there is enough ─► compare what is there ─► ranges of packs ─┐
//!  make directories                                                                            │ fetched ahead
//!  links, devices                 open, decompress, verify, write, set metadata ◄──────────────┘
//!                                                  (several workers)
//! ```
//!
//! Does: write every file whose content is not right already (compared by hash, blob by blob),
//! verify every blob's SHA-256 before it is written, set metadata where it differs, delete what is
//! extra if asked to ([where the backup read whole](deletion)), and make everything durable before
//! it reports success. Does not: follow a link that is in the target, enter a file system mounted
//! in it, write to a file that has names outside the restore, or trust anything the repository
//! says: names, sizes and links are checked, and what makes no sense is a row.
//!
//! Order: extras of a directory go when its entries are known; content, owner, attributes, mode,
//! times of a file; a directory's own metadata after all its content, the root's last of all; then
//! the file system is synced. A file whose content cannot be completed is a row; what was there
//! before it stays, and what was made of it goes. An error (store gone, disk full, cancelled)
//! removes the files that were just being made and leaves the rest: the next run goes on from
//! there.
//!
//! Memory: see [`RestoreRequest::memory`]; files are planned in windows, so that it does not grow
//! with the snapshot.

mod attributes;
mod buffers;
mod compare;
mod content;
mod deletion;
mod dirs;
mod entry;
mod extra;
mod file;
#[cfg(test)]
pub(crate) mod forge;
#[cfg(test)]
mod hostile_tests;
mod links;
#[cfg(test)]
mod names_tests;
mod open;
mod patch;
mod plan;
mod queue;
mod request;
mod run;
mod select;
mod successor;
mod waiting;
mod walk;
mod window;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Instant,
};

pub use self::request::{PlannedChange, RestoreAction, RestoreReport, RestoreRequest};
use self::{
    attributes::Attributes,
    deletion::Deletion,
    dirs::OpenDirs,
    plan::Limits,
    queue::Queue,
    run::{Counts, Plan, Run},
    select::Select,
};
use crate::{
    Cancel, Progress, Repository,
    ceiling::{Beside, Ceiling},
    crypto::Id,
    error::{Error, Result},
    files::{beneath::Root, meta::Meta},
    format::{root::RootMeta, snapshot::Coverage},
    index::{self, Copies, Index, Packs},
    repo::{Locked, Snapshot, lock::Guard},
    rows::{FileOperation, Rows},
    seal::Sealer,
    storage::Store,
};

/// Bytes that usual directories on the way down, and links, take.
const DIRECTORIES: u64 = 16 << 20;

/// Restores a snapshot. Blocks, and drives its requests on the repository's runtime: call it on a
/// thread of its own, not on a worker of a runtime.
///
/// What cannot be restored is a row of the report, and the outcome `Partial`.
///
/// # Errors
/// `Target` if the directory cannot be used at all or is full, `Refused` if it is `/` and deleting there is not allowed,
/// `SnapshotNotFound`, `MemoryLimit`, `Locked`, `Cancelled`,
/// and what the store says. What was restored by then stays.
pub fn restore(
    repo: &Repository,
    request: &RestoreRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<RestoreReport> {
    let started = Instant::now();
    // What cannot be meant is said before anything is done.
    let select = Select::new(&request.select)?;
    let target = |error: rustix::io::Errno| Error::Target {
        path: request.target.clone(),
        source: error.into(),
    };
    let root = Root::open(&request.target).map_err(target)?;
    let there = Meta::of(&root).map_err(target)?;
    let mount = there.mount;
    refuse_root(repo, request, select.as_ref(), &there)?;
    let lock = repo.block_on(repo.lock_early(Locked::Shared, cancel))?;
    let store = repo.store().with_cancel(lock.cancel().clone());
    let done = read_held(repo, &store, request, &lock).and_then(|(read, memory)| {
        locked(
            repo,
            request,
            (&store, read, memory),
            select,
            (&root, mount),
            progress,
            cancel,
        )
    });
    repo.runtime().block_on(lock.release(cancel));
    let mut report = done?;
    report.duration = started.elapsed();
    Ok(report)
}

/// Refuses to delete all over the machine unasked.
fn refuse_root(
    repo: &Repository,
    request: &RestoreRequest,
    select: Option<&Select>,
    target: &Meta,
) -> Result<()> {
    if !request.delete_extra || request.delete_in_root || select.is_some() {
        return Ok(());
    }
    let root = Meta::at(rustix::fs::CWD, "/");
    let is_root = root.is_ok_and(|root| {
        (root.inode, root.device, root.mount) == (target.inode, target.device, target.mount)
    });
    if !is_root {
        return Ok(());
    }
    Err(Error::Refused {
        location: repo.location(),
        what: "a restore that deletes",
        message: "the target is the root of this machine's file system".to_owned(),
        hint: "choose what to restore, or allow deleting in the root",
    })
}

/// The snapshot and the index, as they are under the held lock, and bytes for buffers; read while
/// it is not known yet whether it is held.
fn read_held(
    repo: &Repository,
    store: &Store,
    request: &RestoreRequest,
    lock: &Guard,
) -> Result<((Snapshot, Index), u64)> {
    let ceiling = Ceiling::new(request.ceiling.unwrap_or(u64::MAX));
    let beside = Beside {
        bytes: plan::LEAST + DIRECTORIES,
        bits: 0,
    };
    let read = || {
        let mut ceiling = ceiling;
        // In this order, which is right beside running backups.
        let snapshot = repo.find_snapshot_in(store, &request.snapshot)?;
        let index = ceiling.readable_index((repo, store), Packs::All, Copies::All, beside);
        let index = repo.block_on(index)?;
        let left = ceiling.left().saturating_sub(DIRECTORIES);
        Ok(((snapshot, index), request.memory.min(left)))
    };
    let early = lock.outcome(read())?;
    repo.block_on(lock.held())?;
    // Whoever was done before this lock was held left other index files.
    let now = repo.block_on(index::files(store))?;
    let ((_, index), _) = &early;
    if now.keys().eq(index.files()) {
        return Ok(early);
    }
    drop(early);
    read()
}

fn locked(
    repo: &Repository,
    request: &RestoreRequest,
    (store, (snapshot, index), memory): (&Store, (Snapshot, Index), u64),
    select: Option<Select>,
    (root, mount): (&Root, u64),
    progress: &Progress,
    cancel: &Cancel,
) -> Result<RestoreReport> {
    let tree = tree_of(repo, &snapshot)?;
    if let (Some(summary), None) = (&snapshot.summary, &select) {
        progress.found(summary.total_files_processed, summary.total_bytes_processed);
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let limits = Limits::of(memory, cores);
    let queue = Queue::new(
        store.clone(),
        repo.runtime().clone(),
        cancel.clone(),
        limits,
    );
    let deletion = Deletion::of(request, &snapshot)?;
    let rows = Rows::default();
    if let Some(why) = Deletion::refusal(request, &snapshot) {
        rows.add(Path::new(""), FileOperation::Delete, why);
    }
    let run = Run {
        repo,
        store,
        deletion,
        index: &index,
        sealer: Sealer::new(repo.key()),
        request,
        limits,
        root,
        mount,
        is_root: rustix::process::geteuid().is_root(),
        progress,
        cancel,
        rows,
        notes: Rows::default(),
        counts: Counts::default(),
        dirs: OpenDirs::default(),
        ways: ways(&snapshot),
        mounts: Mutex::default(),
        queue: Arc::clone(&queue),
        token: rand::random(),
        temporaries: AtomicU64::default(),
        unfinished: Mutex::default(),
        large: Mutex::default(),
        plan: Mutex::<Plan>::default(),
        failure: Mutex::default(),
    };
    // The target's own metadata is part of everything, and of nothing less.
    let attributes = match &select {
        None => RootMeta::from_tags(&snapshot.tags).map(Attributes::of_root),
        Some(_) => None,
    };
    let done = run.threads(|| walk::walk(&run, tree, select, attributes));
    // What is still on its way is of no use to anybody.
    queue.stop();
    done?;
    if !request.dry_run {
        // Success means that it survives a power loss.
        let failed = |error: rustix::io::Errno| Error::Target {
            path: request.target.clone(),
            source: error.into(),
        };
        rustix::fs::syncfs(root).map_err(failed)?;
        let mounts = run.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        for mounted in mounts.values() {
            rustix::fs::syncfs(mounted).map_err(failed)?;
        }
        drop(mounts);
    }
    progress.settle();
    Ok(run.report(snapshot.id))
}

/// Where paths of a snapshot lie below the target. A directory's is the target itself.
fn ways(snapshot: &Snapshot) -> Vec<PathBuf> {
    match snapshot.coverage {
        Coverage::Root | Coverage::BelowRoot => Vec::new(),
        Coverage::Paths | Coverage::Unknown => {
            let below = |path: &String| PathBuf::from(path.trim_start_matches('/'));
            snapshot.paths.iter().map(below).collect()
        }
    }
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
