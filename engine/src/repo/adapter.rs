//! Everything this crate has `rustic_core` do, besides storage: making configurations, and planning and writing a
//! prune. One of the two files that name its types; its errors and panics end
//! here.

use std::sync::{Arc, Mutex};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rustic_core::{
    BytesList, ConfigOptions, Credentials, ErrorKind, FileType, Id as RusticId, KeyOptions,
    LimitOption, Progress, ProgressBars, ProgressType, PruneOptions, ReadBackend,
    Repository as Rustic, RepositoryBackends, RepositoryOptions, RusticError, RusticResult,
    WriteBackend, repofile::MasterKey,
};

use super::{FormatVersion, Repository};
use crate::{
    crypto::{Id, Key},
    error::{Error, Result},
    format::config::Config,
    panics::caught,
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
    caught(operation, || {
        work().map_err(|error| engine(operation, &error))
    })
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
pub(super) fn new_config(version: FormatVersion) -> Result<Config> {
    guarded("making a configuration", || {
        let backends = RepositoryBackends::new(Arc::new(Nothing), None);
        let repo = Rustic::new_with_progress(&options(), &backends, Silent)?.init(
            &Credentials::Masterkey(MasterKey::new()),
            &KeyOptions::default(),
            &ConfigOptions::default(),
        )?;
        let config = repo.config();
        Ok(Config {
            version: match version {
                FormatVersion::V1 => 1,
                FormatVersion::V2 => 2,
            },
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
        sizes: Mutex::default(),
    };
    let credentials = Credentials::Masterkey(master_key(repo.key())?);
    guarded("opening the repository", || {
        let backends = RepositoryBackends::new(Arc::new(backend), None);
        Rustic::new_with_progress(&options(), &backends, Silent)?.open(&credentials)
    })
}

/// What a prune has to be told.
pub(crate) struct PruneSettings {
    /// The most unused bytes to leave in packs that are used as well: `5%`, a number of bytes, or `unlimited`.
    pub(crate) max_unused: String,
    /// The most bytes to write anew.
    pub(crate) max_repack: Option<u64>,
    /// Write packs anew that are too small.
    pub(crate) repack_small: bool,
    /// Write packs anew that hold uncompressed blobs.
    pub(crate) repack_uncompressed: bool,
    /// Snapshots that do not count; only for a dry run.
    pub(crate) ignore: Vec<Id>,
}

/// What a prune does, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PruneCounts {
    pub(crate) repack: (u64, u64),
    pub(crate) repack_drops: (u64, u64),
    pub(crate) delete: (u64, u64),
    pub(crate) remaining: (u64, u64),
    pub(crate) unused_after: u64,
    pub(crate) unreferenced: (u64, u64),
}

/// Plans a prune and, unless it is `dry`, writes the new packs and index files. What it wants removed is noted in
/// the session, and not removed.
pub(crate) fn prune(
    repo: &Repository,
    store: Store,
    session: &Arc<Session>,
    settings: &PruneSettings,
    dry: bool,
) -> Result<PruneCounts> {
    let rustic = open(repo, store, session)?;
    guarded("pruning", || {
        let mut options = PruneOptions::default();
        options.max_unused = settings.max_unused.parse()?;
        options.max_repack = match settings.max_repack {
            Some(bytes) => bytes.to_string().parse()?,
            None => LimitOption::Unlimited,
        };
        // Nobody else is there: what is not needed goes at once. Marks would mean nothing to others.
        options.instant_delete = true;
        options.no_resize = !settings.repack_small;
        options.repack_uncompressed = settings.repack_uncompressed;
        if dry {
            let ids = settings.ignore.iter().map(|id| RusticId::new(id.0).into());
            options.ignore_snaps = ids.collect();
        }
        let plan = rustic.prune_plan(&options)?;
        let (blobs, size) = (plan.stats.blobs_sum(), plan.stats.size_sum());
        let marked = plan.stats.packs_to_delete.total();
        let counts = PruneCounts {
            repack: (blobs.repack, size.repack),
            repack_drops: (blobs.repackrm, size.repackrm),
            delete: (blobs.remove, size.remove),
            remaining: (blobs.total_after_prune(), size.total_after_prune()),
            unused_after: size.unused_after_prune(),
            unreferenced: (
                plan.stats.packs_unref + marked,
                plan.stats.size_unref + plan.stats.size_to_delete.total(),
            ),
        };
        if !dry {
            rustic.prune(&options, plan)?;
        }
        Ok(counts)
    })
}

/// No progress bars: progress is counted where the work is.
#[derive(Debug)]
struct Silent;

impl ProgressBars for Silent {
    fn progress(&self, _kind: ProgressType, _prefix: &str) -> Progress {
        Progress::hidden()
    }
}
