//! Everything this crate has `rustic_core` do, besides storage: making configurations, chunking and
//! packing an archive, checking. One of the two files that name its types; its errors and panics end
//! here.
//!
//! Order of [`archive`]: packs, then index files; no snapshot, which is the caller's last step.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rustic_core::{
    BackupOptions, BytesList, CheckOptions, ConfigOptions, Credentials, ErrorKind, FileType,
    Id as RusticId, KeyOptions, ParentOptions, Progress, ProgressBars, ProgressType, ReadBackend,
    ReadSource, ReadSourceEntry, ReadSourceOpen, Repository as Rustic, RepositoryBackends,
    RepositoryOptions, RusticError, RusticResult, SnapshotGroupCriterion, WriteBackend,
    repofile::{MasterKey, Metadata, Node, NodeType, SnapshotFile},
};

use super::Repository;
use crate::{
    archive::{
        file::{Opened, Reader},
        walk::{Shared, Walk, WalkEntry},
    },
    crypto::{Id, Key},
    error::{Error, Result},
    files::meta::{Kind, go_mode},
    format::{config::Config, snapshot::Summary, time},
    storage::{RusticStore, Session, Store},
};

/// Pack size used for archives, whatever the repository's own settings: bounds memory.
const PACK_SIZE: u64 = 16 << 20;

fn engine(operation: &'static str, error: &RusticError) -> Error {
    Error::Engine {
        operation,
        message: error.display_log(),
    }
}

/// Runs rustic, with its panics as errors.
fn guarded<T>(operation: &'static str, work: impl FnOnce() -> RusticResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| engine(operation, &error)),
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panic");
            Err(Error::Bug(format!("{operation} panicked: {message}")))
        }
    }
}

fn master_key(key: &Key) -> Result<MasterKey> {
    // Through JSON, because one of the types cannot be named.
    serde_json::from_value(serde_json::json!({
        "mac": {"k": STANDARD.encode(key.mac_k), "r": STANDARD.encode(key.mac_r)},
        "encrypt": STANDARD.encode(key.encrypt),
    }))
    .map_err(|error| Error::Bug(error.to_string()))
}

fn options() -> RepositoryOptions {
    let mut options = RepositoryOptions::default();
    options.no_cache = true;
    options
}

/// A backend that holds nothing and drops what is written.
struct Nothing;

impl ReadBackend for Nothing {
    fn location(&self) -> String {
        "nowhere".to_owned()
    }

    fn list_with_size(&self, _kind: FileType) -> RusticResult<Vec<(RusticId, u32)>> {
        Ok(Vec::new())
    }

    fn read_full(&self, _kind: FileType, _id: &RusticId) -> RusticResult<Bytes> {
        Err(RusticError::new(
            ErrorKind::Backend,
            "nothing is stored here",
        ))
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &RusticId,
        _cacheable: bool,
        _offset: u32,
        _length: u32,
    ) -> RusticResult<Bytes> {
        self.read_full(kind, id)
    }

    fn warmup_path(&self, _kind: FileType, _id: &RusticId) -> String {
        String::new()
    }
}

impl WriteBackend for Nothing {
    fn write_bytes(
        &self,
        _kind: FileType,
        _id: &RusticId,
        _cacheable: bool,
        _content: BytesList,
    ) -> RusticResult<()> {
        Ok(())
    }

    fn remove(&self, _kind: FileType, _id: &RusticId, _cacheable: bool) -> RusticResult<()> {
        Ok(())
    }
}

/// A configuration of format version 2 with a new id and a new random irreducible polynomial.
pub(super) fn new_config() -> Result<Config> {
    guarded("making a configuration", || {
        let backends = RepositoryBackends::new(Arc::new(Nothing), None);
        let repo = Rustic::new_with_progress(&options(), &backends, Silent)?.init(
            &Credentials::Masterkey(MasterKey::new()),
            &KeyOptions::default(),
            &ConfigOptions::default(),
        )?;
        let config = repo.config();
        Ok(Config {
            version: config.version,
            id: config.id.to_hex().as_str().to_owned(),
            chunker_polynomial: config.chunker_polynomial.clone(),
            others: serde_json::Map::new(),
        })
    })
}

/// The configuration rustic gets to see: the repository's, with packs of a bounded size and fast
/// compression where the repository does not say otherwise.
fn effective_config(repo: &Repository) -> Result<Bytes> {
    let mut config = repo.config().clone();
    let others = &mut config.others;
    others.insert("datapack_size".to_owned(), PACK_SIZE.into());
    others.insert("datapack_growfactor".to_owned(), 0.into());
    others.insert("treepack_growfactor".to_owned(), 0.into());
    if config.version >= 2 && !others.contains_key("compression") {
        others.insert("compression".to_owned(), 1.into());
    }
    let json = config
        .encode()
        .map_err(|why| Error::Bug(format!("the configuration cannot be encoded: {why}")))?;
    Ok(repo.key().seal(&json).into())
}

fn open(
    repo: &Repository,
    store: Store,
    session: &Arc<Session>,
) -> Result<Rustic<rustic_core::OpenStatus>> {
    let backend = RusticStore {
        store,
        runtime: repo.runtime().clone(),
        session: Arc::clone(session),
        config: effective_config(repo)?,
    };
    let credentials = Credentials::Masterkey(master_key(repo.key())?);
    guarded("opening the repository", || {
        let backends = RepositoryBackends::new(Arc::new(backend), None);
        Rustic::new_with_progress(&options(), &backends, Silent)?.open(&credentials)
    })
}

/// What [`archive`] made.
pub(crate) struct Archived {
    pub(crate) tree: Id,
    pub(crate) summary: Summary,
}

/// Chunks, packs and indexes everything the walk finds, and returns its root tree. The session knows
/// what failed on the way: rustic itself only logs most errors.
pub(crate) fn archive(
    repo: &Repository,
    store: Store,
    session: &Arc<Session>,
    shared: &Arc<Shared>,
    parent: Option<&str>,
) -> Result<Archived> {
    let rustic = open(repo, store, session)?;
    let mut options = BackupOptions::default();
    options.no_scan = true;
    options.parent_opts = ParentOptions::default();
    // All snapshots are in one group: the parent was chosen by the caller.
    options.parent_opts.group_by = Some(SnapshotGroupCriterion::new());
    options.parent_opts.force = parent.is_none();
    options.parent_opts.parents = parent.iter().map(|id| (*id).to_owned()).collect();
    // Named the wrong way round: this makes it compare inode numbers.
    options.parent_opts.ignore_inode = true;
    let source = Source(Arc::clone(shared));
    let root = [PathBuf::from("/")];
    let done = guarded("archiving", || {
        rustic
            .to_indexed_ids()?
            .archive(&options, &source, SnapshotFile::default(), &root)
    })?;
    let tree = Id::parse(done.tree.to_hex().as_str())
        .ok_or_else(|| Error::Bug("a tree id is not hexadecimal".to_owned()))?;
    let counted = done.summary.unwrap_or_default();
    let summary = Summary {
        backup_start: time::format(counted.backup_start.timestamp()),
        backup_end: time::format(counted.backup_end.timestamp()),
        files_new: counted.files_new,
        files_changed: counted.files_changed,
        files_unmodified: counted.files_unmodified,
        dirs_new: counted.dirs_new,
        dirs_changed: counted.dirs_changed,
        dirs_unmodified: counted.dirs_unmodified,
        data_blobs: i64::try_from(counted.data_blobs).unwrap_or(i64::MAX),
        tree_blobs: i64::try_from(counted.tree_blobs).unwrap_or(i64::MAX),
        data_added: counted.data_added,
        data_added_packed: counted.data_added_packed,
        total_files_processed: counted.total_files_processed,
        total_bytes_processed: counted.total_bytes_processed,
    };
    Ok(Archived { tree, summary })
}

/// The walk as rustic wants a source.
struct Source(Arc<Shared>);

struct Entries(Walk);

impl ReadSourceOpen for Opened {
    type Reader = Reader;

    fn open(self) -> RusticResult<Reader> {
        Ok(self.reader())
    }
}

impl ReadSource for Source {
    type Open = Opened;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Entries {
        Entries(Walk::new(Arc::clone(&self.0)))
    }
}

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Opened>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| {
            let (path, node, open) = node(entry);
            Ok(ReadSourceEntry { path, node, open })
        })
    }
}

fn node(entry: WalkEntry) -> (PathBuf, Node, Option<Opened>) {
    let meta = entry.meta;
    let kind = match meta.kind {
        Kind::File => NodeType::File,
        Kind::Dir => NodeType::Dir,
        Kind::Symlink => NodeType::from_link(Path::new(&entry.link_target.unwrap_or_default())),
        Kind::Block => NodeType::Dev {
            device: meta.special,
        },
        Kind::Char => NodeType::Chardev {
            device: meta.special,
        },
        Kind::Fifo => NodeType::Fifo,
        Kind::Socket => NodeType::Socket,
    };
    let attributes: Vec<_> = entry
        .attributes
        .into_iter()
        .map(|(name, value)| serde_json::json!({"name": name, "value": STANDARD.encode(value)}))
        .collect();
    let metadata = Metadata {
        mode: Some(go_mode(meta.kind, meta.mode)),
        mtime: Some(meta.mtime),
        // The time of access is not kept; restoring must set some time.
        atime: Some(meta.mtime),
        ctime: Some(meta.ctime),
        uid: Some(meta.uid),
        gid: Some(meta.gid),
        user: None,
        group: None,
        inode: meta.inode,
        device_id: entry.device_id,
        size: if meta.kind == Kind::File {
            meta.size
        } else {
            0
        },
        links: if meta.kind == Kind::Dir {
            0
        } else {
            meta.links
        },
        // Through JSON, because the type cannot be named; it is a name and base64.
        extended_attributes: serde_json::from_value(attributes.into()).unwrap_or_default(),
    };
    (
        entry.path,
        Node::new_node(&entry.name, kind, metadata),
        entry.open,
    )
}

/// Findings of a check.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Checks packs, index, trees and, if asked, all data.
pub(crate) fn check(
    repo: &Repository,
    store: Store,
    session: &Arc<Session>,
    read_data: bool,
) -> Result<Findings> {
    let rustic = open(repo, store, session)?;
    let results = guarded("checking", || {
        let mut options = CheckOptions::default();
        options.read_data = read_data;
        rustic.check(options)
    })?;
    let mut findings = Findings::default();
    for (level, finding) in results.0 {
        // Its type cannot be named; its level is one of two words.
        let list = match format!("{level:?}").as_str() {
            "Warn" => &mut findings.warnings,
            _ => &mut findings.errors,
        };
        list.push(finding.to_string());
    }
    Ok(findings)
}

/// No progress bars: progress is counted where the work is.
#[derive(Debug)]
struct Silent;

impl ProgressBars for Silent {
    fn progress(&self, _kind: ProgressType, _prefix: &str) -> Progress {
        Progress::hidden()
    }
}
