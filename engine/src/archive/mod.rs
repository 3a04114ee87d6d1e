//! Archiving a directory into a snapshot.
//!
//! Does: walk the source (ours), chunk, compress and pack it (the library's, behind the adapter), and write
//! the snapshot (ours). Does not: follow links, keep access times, or decide what a partial outcome means.
//!
//! Order: lock; snapshots and parent; index; packs; index files; then, with everything found again in the
//! store ([`verify`]), lock and cancel looked at once more, the snapshot; unlock. Whatever ends a run
//! earlier leaves packs that nothing refers to, which the next maintenance removes, and never a snapshot.

pub(crate) mod file;
mod filter;
mod verify;
pub(crate) mod walk;

use std::{
    ffi::OsStr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;

use self::{
    filter::Filter,
    walk::{Counts, Shared},
};
use crate::{
    Cancel, Progress, Repository,
    error::{Error, Result},
    files::{beneath::Root, meta::Meta},
    format::{
        root::RootMeta,
        snapshot::{SnapshotFile, Summary},
        time,
    },
    repo::{
        Locked, Snapshot,
        adapter::{self, Archived},
        lock::Guard,
    },
    rows::{FileError, FileOperation, Rows},
    storage::{Session, Store},
};

/// Written into snapshots.
const PROGRAM: &str = concat!("ark ", env!("CARGO_PKG_VERSION"));

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
    let root = Root::open(&request.source).map_err(|error| Error::Source {
        path: request.source.clone(),
        source: error.into(),
    })?;
    let lock = repo.block_on(repo.lock(Locked::Shared, cancel))?;
    let run = Run {
        repo,
        request,
        progress,
        cancel,
        store: repo.store().with_cancel(cancel.clone()),
    };
    let done = run.archive(root, filter, &lock);
    repo.runtime().block_on(lock.release());
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

/// One archive.
struct Run<'a> {
    repo: &'a Repository,
    request: &'a ArchiveRequest,
    progress: &'a Progress,
    cancel: &'a Cancel,
    store: Store,
}

impl Run<'_> {
    fn archive(&self, root: Root, filter: Filter, lock: &Guard) -> Result<ArchiveReport> {
        let started = Timestamp::now();
        let rows = Rows::default();
        let (root_tags, parent) = (self.root_tags(&root, &rows)?, self.parent()?);
        let shared = Arc::new(Shared {
            root,
            filter,
            one_file_system: self.request.one_file_system,
            distrust_after: parent.as_ref().and_then(distrust_after),
            mark: SignedDuration::from_nanos(rand::rng().random_range(1..1_000_000_000)),
            rows,
            notes: Rows::default(),
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
            counts: Counts::default(),
        });
        let session = Arc::new(Session::new(
            allowed(lock, self.cancel),
            self.progress.clone(),
        ));
        let archived = self.pack(&session, &shared, parent.as_ref());
        // What went wrong first is why the rest did.
        self.still_allowed(lock)?;
        if let Some(error) = session.take_failure() {
            return Err(error);
        }
        let archived = archived?;
        let (written, bytes_new) = session.written();
        verify::verify(self.repo, &self.store, archived.tree, &written, self.cancel)?;
        self.still_allowed(lock)?;
        let file = self.snapshot_file(started, &archived, parent.as_ref(), root_tags);
        let snapshot_id = self.save(&file)?;
        self.progress.settle();
        Ok(report(
            snapshot_id,
            parent,
            &shared,
            &archived.summary,
            bytes_new,
        ))
    }

    fn pack(
        &self,
        session: &Arc<Session>,
        shared: &Arc<Shared>,
        parent: Option<&Snapshot>,
    ) -> Result<Archived> {
        let ended = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| walk::count(shared, &ended));
            let parent = parent.map(|parent| parent.id.as_str());
            let store = self.store.clone();
            let archived = adapter::archive(self.repo, store, session, shared, parent);
            ended.store(true, Ordering::Relaxed);
            archived
        })
    }

    fn still_allowed(&self, lock: &Guard) -> Result<()> {
        allowed(lock, self.cancel)()
    }

    /// The newest snapshot with all tags of the first set that finds any.
    fn parent(&self) -> Result<Option<Snapshot>> {
        if self.request.reread_all || self.request.parent_tags.is_empty() {
            return Ok(None);
        }
        let snapshots = match self.repo.block_on(self.repo.snapshots_async()) {
            Ok(snapshots) => snapshots,
            // One damaged snapshot costs speed, not the backup.
            Err(error @ Error::Damaged { .. }) => {
                tracing::warn!(%error, "no parent is used");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let newest =
            |tags: &Vec<String>| snapshots.iter().rfind(|snapshot| snapshot.has_tags(tags));
        let mut sets = self
            .request
            .parent_tags
            .iter()
            .filter(|tags| !tags.is_empty());
        Ok(sets.find_map(newest).cloned())
    }

    fn root_tags(&self, root: &Root, rows: &Rows) -> Result<Vec<String>> {
        let source = |error: rustix::io::Errno| Error::Source {
            path: self.request.source.clone(),
            source: error.into(),
        };
        let meta = Meta::of(root).map_err(source)?;
        let path = Path::new("");
        let root_meta = RootMeta {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            attributes: walk::read_attributes(root.as_fd(), path, OsStr::new("."), rows),
        };
        let (tags, left_out) = root_meta.to_tags();
        for name in left_out {
            rows.add(
                path,
                FileOperation::Xattr,
                format_args!("{name} of the root directory is not kept"),
            );
        }
        Ok(tags)
    }

    fn snapshot_file(
        &self,
        started: Timestamp,
        archived: &Archived,
        parent: Option<&Snapshot>,
        root_tags: Vec<String>,
    ) -> SnapshotFile {
        let given = self
            .request
            .tags
            .iter()
            .filter(|tag| !RootMeta::is_tag(tag));
        SnapshotFile {
            time: time::format(started),
            parent: parent.map(|parent| parent.id.clone()),
            tree: archived.tree.to_string(),
            paths: vec![self.request.snapshot_path.clone()],
            hostname: self.request.host.clone(),
            username: self.repo.options().holder.user_name.clone(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            excludes: self.request.excludes.clone(),
            tags: given.cloned().chain(root_tags).collect(),
            original: None,
            program_version: PROGRAM.to_owned(),
            summary: Some(archived.summary.clone()),
        }
    }

    /// Writes the snapshot with a store that cancel does not interrupt: once it is begun, whether there
    /// is a snapshot must not depend on luck.
    fn save(&self, file: &SnapshotFile) -> Result<String> {
        self.repo.block_on(self.repo.save_snapshot(file))
    }
}

/// Says whether this run may still write.
fn allowed(lock: &Guard, cancel: &Cancel) -> impl Fn() -> Result<()> + Send + Sync + use<> {
    let (lock, cancel) = (lock.checker(), cancel.clone());
    move || {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        lock()
    }
}

/// Snapshots of ours mark files whose times prove nothing. Of others, files that changed when the backup
/// ran or later are not trusted.
fn distrust_after(parent: &Snapshot) -> Option<Timestamp> {
    if parent.program_version.starts_with("ark ") {
        return None;
    }
    parent.time.checked_sub(SignedDuration::from_secs(2)).ok()
}

fn report(
    snapshot_id: String,
    parent: Option<Snapshot>,
    shared: &Shared,
    summary: &Summary,
    bytes_new: u64,
) -> ArchiveReport {
    let (errors, errors_dropped) = shared.rows.take();
    let (notes, _) = shared.notes.take();
    ArchiveReport {
        snapshot_id,
        parent: parent.map(|parent| parent.id),
        files: summary.total_files_processed,
        dirs: shared.counts.dirs.load(Ordering::Relaxed),
        bytes_total: summary.total_bytes_processed,
        bytes_new,
        files_unchanged: shared.counts.unchanged.load(Ordering::Relaxed),
        errors,
        errors_dropped,
        notes,
        duration: Duration::ZERO,
    }
}
