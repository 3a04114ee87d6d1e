//! One archive under a held lock, in the order the parent module describes.

use std::{
    ffi::OsStr,
    os::fd::AsFd as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;

use super::{
    ArchiveReport, ArchiveRequest, Chunking, attributes,
    cuts::Tally,
    native::{self, Content, Prints},
    source::{Origin, Source},
    verify,
};
use crate::{
    Cancel, Progress, Repository,
    crypto::Id,
    error::{Error, Result},
    files::meta::Meta,
    format::{
        root::RootMeta,
        snapshot::{Coverage, SnapshotFile, Summary, Synced},
        time,
    },
    repo::{Snapshot, lock::Guard},
    rows::{FileOperation, Rows},
    storage::Store,
};

/// Written into snapshots.
const PROGRAM: &str = concat!("ark ", env!("CARGO_PKG_VERSION"));

/// What the snapshot will say, and how it is made.
pub(super) struct About<'a> {
    pub(super) host: &'a str,
    pub(super) tags: &'a [String],
    pub(super) excludes: &'a [String],
    pub(super) paths: &'a [String],
    pub(super) chunking: Chunking,
    pub(super) memory: u64,
}

/// One archive.
pub(super) struct Run<'a> {
    pub(super) repo: &'a Repository,
    pub(super) about: &'a About<'a>,
    pub(super) content: Content<'a>,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) store: Store,
}

impl Run<'_> {
    /// `request` says which parent to use.
    pub(super) fn archive(
        &self,
        request: Option<&ArchiveRequest>,
        lock: &Guard,
    ) -> Result<ArchiveReport> {
        let mut parent = match request {
            Some(request) => self.parent(request)?,
            None => None,
        };
        let distrusted = AtomicBool::new(false);
        loop {
            let trusted = !distrusted.load(Ordering::Relaxed);
            let had_parent = parent.is_some();
            match self.attempt(request, parent.clone(), &distrusted, lock) {
                // What was found by the state before may be as wrong.
                Err(error) if trusted && distrusted.load(Ordering::Relaxed) => {
                    tracing::error!(%error, "archiving again without what is remembered");
                }
                // A parent that refers to something lost would lead every later run to the same
                // end.
                Err(error @ Error::RepositoryChanged { .. }) if had_parent => {
                    tracing::warn!(%error, "archiving again without a parent");
                    parent = None;
                }
                done => return done,
            }
            self.progress.reset();
        }
    }

    fn attempt(
        &self,
        request: Option<&ArchiveRequest>,
        parent: Option<Snapshot>,
        distrusted: &AtomicBool,
        lock: &Guard,
    ) -> Result<ArchiveReport> {
        let started = Timestamp::now();
        let (rows, notes, tally) = (Rows::default(), Rows::default(), Tally::default());
        let root_tags = match (request.map(|request| &request.source), self.content) {
            (Some(Source::Directory(path)), Content::Tree { origin, .. }) => {
                root_tags(path, origin, &rows)?
            }
            _ => Vec::new(),
        };
        let allowed = allowed(lock, self.cancel);
        let done = native::archive(native::Input {
            repo: self.repo,
            store: &self.store,
            content: self.content,
            chunking: self.about.chunking,
            memory: self.about.memory,
            parent: parent.as_ref().and_then(usable),
            synced: parent.as_ref().and_then(synced),
            distrust_after: parent.as_ref().and_then(distrust_after),
            mark: SignedDuration::from_nanos(rand::rng().random_range(1..1_000_000_000)),
            rows: &rows,
            notes: &notes,
            tally: &tally,
            progress: self.progress,
            cancel: self.cancel,
            state: request.and_then(|request| request.state.as_ref()),
            host: self.about.host,
            paths: self.about.paths,
            distrusted,
            allowed: &allowed,
        });
        // What went wrong first is why the rest did.
        allowed()?;
        let done = done?;
        verify::verify(self.repo, &self.store, &done)?;
        allowed()?;
        let summary = summary(&done.counts, started, Timestamp::now());
        let coverage = match request.map(|request| &request.source) {
            Some(Source::Directory(_)) if done.root_is_whole => Coverage::Root,
            Some(Source::Directory(_)) => Coverage::BelowRoot,
            Some(Source::Paths(_)) => Coverage::Paths,
            None => Coverage::Unknown,
        };
        let parent_of = parent.as_ref();
        let file = SnapshotFile {
            synced: done.synced.clone(),
            ..self.snapshot_file(started, done.tree, &summary, parent_of, root_tags, coverage)
        };
        let snapshot_id = self.save(&file)?;
        let state = done.prints.map(Prints::publish);
        self.progress.settle();
        let (errors, errors_dropped) = rows.take();
        let (notes, _) = notes.take();
        Ok(ArchiveReport {
            snapshot_id,
            parent: parent.map(|parent| parent.id),
            files: summary.total_files_processed + done.counts.others.load(Ordering::Relaxed),
            dirs: done.counts.dirs.load(Ordering::Relaxed),
            bytes_total: summary.total_bytes_processed,
            bytes_new: done.written,
            files_unchanged: summary.files_unmodified,
            errors,
            errors_dropped,
            excluded: done.counts.excluded.load(Ordering::Relaxed),
            notes,
            cut: tally.take(),
            state,
            duration: Duration::ZERO,
        })
    }

    /// The one asked for; else the newest snapshot with all tags of the first set that finds any;
    /// without sets, the newest of the same host that has the same paths, as restic chooses.
    fn parent(&self, request: &ArchiveRequest) -> Result<Option<Snapshot>> {
        if request.reread_all {
            return Ok(None);
        }
        if let Some(id) = &request.parent {
            return self.repo.find_snapshot_in(&self.store, id).map(Some);
        }
        let snapshots = self.repo.snapshots_in(&self.store)?;
        if request.parent_tags.is_empty() {
            let same = |snapshot: &&Snapshot| {
                snapshot.hostname == self.about.host
                    && self
                        .about
                        .paths
                        .iter()
                        .all(|path| snapshot.paths.contains(path))
            };
            return Ok(snapshots.iter().rfind(same).cloned());
        }
        let newest =
            |tags: &Vec<String>| snapshots.iter().rfind(|snapshot| snapshot.has_tags(tags));
        let mut sets = request.parent_tags.iter().filter(|tags| !tags.is_empty());
        Ok(sets.find_map(newest).cloned())
    }

    fn snapshot_file(
        &self,
        started: Timestamp,
        tree: Id,
        summary: &Summary,
        parent: Option<&Snapshot>,
        root_tags: Vec<String>,
        coverage: Coverage,
    ) -> SnapshotFile {
        // In the one form in which tags are looked for.
        let given = self.about.tags.iter().map(|tag| tag.trim().to_owned());
        let given = given.filter(|tag| !RootMeta::is_tag(tag));
        SnapshotFile {
            time: time::format(started),
            parent: parent.map(|parent| parent.id.clone()),
            tree: tree.to_string(),
            paths: self.about.paths.to_vec(),
            hostname: self.about.host.to_owned(),
            username: self.repo.options().holder.user_name.clone(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            excludes: self.about.excludes.to_vec(),
            tags: given.chain(root_tags).collect(),
            original: None,
            program_version: PROGRAM.to_owned(),
            summary: Some(summary.clone()),
            ark_coverage: coverage.word(),
            synced: None,
        }
    }

    /// Writes the snapshot with a store that cancel does not interrupt: once it is begun, whether
    /// there is a snapshot must not depend on luck.
    fn save(&self, file: &SnapshotFile) -> Result<String> {
        self.repo.block_on(self.repo.save_snapshot(file))
    }
}

/// The metadata of the snapshot's root, which the format has no other place for.
fn root_tags(path: &Path, origin: &Origin, rows: &Rows) -> Result<Vec<String>> {
    let root = &origin.root;
    let meta = Meta::of(root).map_err(|error| Error::Source {
        path: path.to_owned(),
        source: error.into(),
    })?;
    let path = Path::new("");
    let root_meta = RootMeta {
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime: meta.mtime,
        attributes: attributes::read(root.as_fd(), path, OsStr::new("."), rows).0,
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

/// Snapshots of ours mark files whose times prove nothing. Of others, files that changed when the
/// backup ran or later are not trusted.
fn distrust_after(parent: &Snapshot) -> Option<Timestamp> {
    if is_ours(parent) {
        return None;
    }
    parent.time.checked_sub(SignedDuration::from_secs(2)).ok()
}

/// The root tree of a parent, and whether this program wrote it.
fn usable(parent: &Snapshot) -> Option<(Id, bool)> {
    Some((Id::parse(&parent.tree)?, is_ours(parent)))
}

/// What the parent says of files of fixed chunks.
fn synced(parent: &Snapshot) -> Option<&Synced> {
    parent.synced.as_ref().filter(|_| is_ours(parent))
}

fn is_ours(snapshot: &Snapshot) -> bool {
    snapshot.program_version.starts_with("ark ")
}

fn summary(counts: &native::Counts, started: Timestamp, ended: Timestamp) -> Summary {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let signed = |counter| i64::try_from(get(counter)).unwrap_or(i64::MAX);
    let (new, changed) = (get(&counts.files_new), get(&counts.files_changed));
    let unmodified = get(&counts.files_unchanged);
    Summary {
        backup_start: time::format(started),
        backup_end: time::format(ended),
        files_new: new,
        files_changed: changed,
        files_unmodified: unmodified,
        dirs_new: get(&counts.tree_blobs),
        dirs_changed: 0,
        dirs_unmodified: get(&counts.dirs_known),
        data_blobs: signed(&counts.data_blobs),
        tree_blobs: signed(&counts.tree_blobs),
        data_added: get(&counts.added),
        data_added_packed: get(&counts.added_packed),
        // Regular files, as restic counts: its `rewrite` takes another number for a change.
        total_files_processed: new + changed + unmodified,
        total_bytes_processed: get(&counts.bytes),
    }
}
