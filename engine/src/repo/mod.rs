//! Repositories: made, opened, locked, listed.
//!
//! Does: find and check the key, read the configuration, hold what every operation needs (store, key,
//! runtime, lock identity). Does not: move file data; that is [`mod@crate::archive`] and
//! [`mod@crate::restore`].
//!
//! Methods that are not `async` block: they must run on a thread that is not a worker of an async
//! runtime (a dedicated thread, or `spawn_blocking`), and drive their requests on the runtime
//! given. On a worker thread they panic, as tokio's `Handle::block_on` does. The runtime must be
//! multi-threaded.

pub(crate) mod adapter;
pub(crate) mod blobs;
pub(crate) mod descent;
mod documents;
mod init;
pub(crate) mod keys;
mod left_out;
pub(crate) mod lock;
mod open;
mod passwords;
pub(crate) mod proof;
mod select;
pub(crate) mod snapshots;
pub(crate) mod walk;

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::runtime::Handle;

use left_out::LeftOut;
pub use lock::{Hold, LockTiming, Locked};
pub(crate) use open::CONFIG_LIMIT;
pub use passwords::{KeyInfo, NewKey};
pub use select::SnapshotFilter;
pub use snapshots::Snapshot;

use crate::{
    ceiling::{self, Ceiling},
    crypto::{Id, Key},
    error::{Error, Result},
    format::{Invalid, config::Config},
    storage::Store,
};

/// Who holds a lock. Written into lock files, where everybody with the repository's key can read
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// A name unique to this pod or process group, and never that of a real machine: restic on a
    /// machine of the same name would judge the lock by a process id of its own.
    pub host_name: String,
    /// Which program, for people.
    pub user_name: String,
    /// The process.
    pub pid: u32,
}

impl Default for Holder {
    /// A random, hence unique, host name.
    fn default() -> Self {
        Self {
            host_name: format!("ark-{:016x}", rand::random::<u64>()),
            user_name: "ark".to_owned(),
            pid: std::process::id(),
        }
    }
}

/// Tells whether the holder of a foreign lock still lives.
pub trait HolderLiveness: Send + Sync {
    /// `Some(false)`: certainly dead, its lock may go. `None`: not known.
    fn is_alive(&self, host_name: &str) -> Option<bool>;
}

/// How to open a repository.
#[derive(Clone, Default)]
pub struct OpenOptions {
    /// This process, for lock files.
    pub holder: Holder,
    /// Who can tell whether other holders live.
    pub liveness: Option<Arc<dyn HolderLiveness>>,
    /// When locks are refreshed and given up. The default is restic's.
    pub lock_timing: LockTiming,
    /// Take no lock: for reading with rights that do not allow writing. Whatever would write fails.
    /// What somebody removes meanwhile may be missed.
    pub no_lock: bool,
    /// For how long an operation that meets a lock in its way tries again before it says `Locked`.
    /// The default is not at all.
    pub retry_lock: Duration,
    /// Bytes of memory for operations that have no request with a number of its own: listing a
    /// snapshot, writing what is in a file, repairing. The default is 256 MiB.
    pub memory: Option<u64>,
    /// Bytes of index files and snapshots that are remembered from one operation to the next, so
    /// that several in a row read each file once. The default is none.
    pub remember: u64,
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("holder", &self.holder)
            .field("liveness", &self.liveness.is_some())
            .field("lock_timing", &self.lock_timing)
            .field("no_lock", &self.no_lock)
            .field("retry_lock", &self.retry_lock)
            .field("memory", &self.memory)
            .field("remember", &self.remember)
            .finish()
    }
}

/// A version of the repository format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FormatVersion {
    /// Without compression; every restic reads it.
    V1,
    /// With compression; restic reads it since 0.14.
    #[default]
    V2,
}

/// How to make a repository.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// The version of its format.
    pub version: FormatVersion,
    /// The password has 128 random bits or more, so a cheap key derivation is as safe as a dear
    /// one.
    pub random_password: bool,
    /// How the new repository is opened.
    pub open: OpenOptions,
}

/// An open repository. Clones are cheap.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    store: Store,
    key: Key,
    /// The key file it was opened with.
    key_id: Mutex<Id>,
    config: Config,
    runtime: Handle,
    options: OpenOptions,
    documents: documents::Documents,
    /// The lock that is kept for operations in a row, if one is.
    held: Mutex<Weak<lock::Guard>>,
    left_out: LeftOut,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("location", &self.location())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// The repository's own id, 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.0.config.id
    }

    /// The format's version, 1 or 2.
    pub fn version(&self) -> u32 {
        self.0.config.version
    }

    /// Bytes of its index files, as they lie in the store: about as many an operation takes to hold
    /// them. Blocks.
    pub fn index_bytes(&self) -> Result<u64> {
        let files = self.block_on(crate::index::files(self.store()))?;
        Ok(files.values().copied().fold(0, u64::saturating_add))
    }

    /// Where it is, for messages.
    pub fn location(&self) -> String {
        self.0.store.location()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn key(&self) -> &Key {
        &self.0.key
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    pub(crate) fn options(&self) -> &OpenOptions {
        &self.0.options
    }

    /// The memory of an operation that was not given any of its own.
    pub(crate) fn ceiling(&self) -> Ceiling {
        Ceiling::new(self.0.options.memory.unwrap_or(ceiling::MEMORY))
    }

    /// A document named after its content, if it is remembered.
    pub(crate) fn remembered(&self, path: &str) -> Option<bytes::Bytes> {
        self.0.documents.get(path)
    }

    /// Remembers a document named after its content, which was found right.
    pub(crate) fn remember(&self, path: &str, sealed: &bytes::Bytes) {
        self.0.documents.keep(path, sealed);
    }

    pub(crate) fn damaged(&self, what: impl Into<String>, why: &Invalid) -> Error {
        damaged(&self.0.store, what, why)
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.0.runtime.block_on(work)
    }
}

pub(crate) fn damaged(store: &Store, what: impl Into<String>, why: &Invalid) -> Error {
    Error::Damaged {
        location: store.location(),
        what: what.into(),
        message: why.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::{Timestamp, tz::Offset};

    use super::Snapshot;

    /// A snapshot of nothing.
    pub(crate) fn snapshot() -> Snapshot {
        Snapshot {
            id: String::new(),
            time: Timestamp::UNIX_EPOCH,
            offset: Offset::UTC,
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            paths: Vec::new(),
            tags: Vec::new(),
            excludes: Vec::new(),
            original: None,
            tree: String::new(),
            parent: None,
            program_version: String::new(),
            summary: None,
            coverage: crate::Coverage::default(),
            synced: None,
        }
    }
}
