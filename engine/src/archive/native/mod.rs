//! The archiver: one walk, many workers, packs uploaded as they fill.
//!
//! ```text
//!  walk ─► batches of entries ─┐                       ┌─► upload ─► index files
//!                              ├─► workers: read, cut, ─┤
//!  large files, many on one ───┘   hash, look up,       └─► trees, as directories become complete
//!                                  compress, seal, pack
//! ```
//!
//! Order of writes: packs of data and trees as they fill; index files of packs that the store has; at the end
//! the last packs and the last index file. The caller writes the snapshot, after [`verify`](super::verify).
//! Memory: one [`budget`], in bytes. Packs live in a fixed number of buffers, and whoever needs one waits; a worker
//! reads into one buffer of a chunk's size; the walk waits when there is enough to do. Besides: 40 bytes for each
//! blob of the repository, 64 for each new one, the names of directories being walked, and the JSON of those that are
//! not complete (about 230 bytes an entry, a fifth of that in directories beyond 1 MiB). Hard links cost nothing: the
//! format keeps their inode numbers. Fingerprints, if they are kept: see [`prints`]. What does not fit is an error that says how much would do.
//!
//! A file that cannot be read is a row. Everything else that fails ends the run, as do a panic and
//! a cancel: all threads look at [`Run::go`] before they wait and while they do.

pub(crate) mod budget;
mod dirs;
mod entry;
mod fresh;
mod large;
mod listing;
mod node;
pub(crate) mod packer;
mod parent;
mod prints;
mod queue;
pub(crate) mod squeeze;
pub(crate) mod start;
pub(super) mod stream;
mod synced;
mod trees;
pub(crate) mod upload;
mod walker;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use self::{
    budget::{Budget, Permit},
    fresh::Fresh,
    packer::{Buffers, OpenPack},
    queue::Queue,
    synced::Devices,
    upload::{Outlet, Uploads},
    worker::Worker,
};
pub(super) use self::{prints::Prints, start::archive};
use super::{cuts::Tally, filter::Filter, fingerprints::StateRequest, source::Origin};
use crate::{
    Cancel, Progress,
    chunk::{policy::Chunking, rabin::Rabin},
    crypto::Id,
    error::{Error, Result},
    format::snapshot::Synced,
    index::Index,
    panics::caught,
    repo::{Repository, blobs::Windows},
    rows::Rows,
    seal::Sealer,
    storage::Store,
};

/// What the snapshot is made of.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// Files and directories.
    Tree {
        origin: &'a Origin,
        filter: &'a Filter,
        one_file_system: bool,
    },
    /// One file of what a reader gives, at this path below the root.
    Stream {
        names: &'a [String],
        reader: &'a (dyn stream::Reader + 'a),
        allow_empty: bool,
    },
}

/// What to archive, and how.
pub(super) struct Input<'a> {
    pub(super) repo: &'a Repository,
    pub(super) store: &'a Store,
    pub(super) content: Content<'a>,
    pub(super) chunking: Chunking,
    /// Bytes.
    pub(super) memory: u64,
    /// Root tree of the parent, and whether this program wrote it.
    pub(super) parent: Option<(Id, bool)>,
    /// What the parent says of files of fixed chunks.
    pub(super) synced: Option<&'a Synced>,
    /// Files that changed after this cannot be told from the parent's by their times.
    pub(super) distrust_after: Option<Timestamp>,
    /// Differs from run to run: see [`node`].
    pub(super) mark: SignedDuration,
    pub(super) rows: &'a Rows,
    pub(super) notes: &'a Rows,
    pub(super) tally: &'a Tally,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
    /// Where fingerprints are kept, and of which volume: the snapshot's host and paths.
    pub(super) state: Option<&'a StateRequest>,
    pub(super) host: &'a str,
    pub(super) paths: &'a [String],
    /// Set when the state of fingerprints told something wrong: the run fails then, and the next
    /// one does not use it.
    pub(super) distrusted: &'a AtomicBool,
    /// Says whether writing is still allowed.
    pub(super) allowed: &'a (dyn Fn() -> Result<()> + Send + Sync),
}

/// What was counted.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) files_new: AtomicU64,
    pub(super) files_changed: AtomicU64,
    pub(super) files_unchanged: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) dirs: AtomicU64,
    pub(super) dirs_known: AtomicU64,
    pub(super) excluded: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) data_blobs: AtomicU64,
    pub(super) tree_blobs: AtomicU64,
    pub(super) added: AtomicU64,
    pub(super) added_packed: AtomicU64,
}

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What was made.
pub(super) struct Done {
    pub(super) tree: Id,
    /// Everything in the root directory is in its tree.
    pub(super) root_is_whole: bool,
    pub(super) index: Index,
    pub(super) packs: BTreeMap<Id, u64>,
    pub(super) indexes: Vec<Id>,
    pub(super) written: u64,
    pub(super) counts: Counts,
    /// For the snapshot: what the next run may know of files of fixed chunks.
    pub(super) synced: Option<Synced>,
    /// To be published when the snapshot is written.
    pub(super) prints: Option<Prints>,
}

/// One run, shared by its threads.
struct Run<'a> {
    input: Input<'a>,
    repo: &'a Repository,
    sealer: Sealer,
    level: Option<i32>,
    index: Index,
    budget: Arc<Budget>,
    /// What the run holds from its start to its end.
    _held: Permit,
    fresh: Fresh,
    rabin: Rabin,
    prints: Option<Prints>,
    /// Where files of fixed chunks can be told from changed ones by their times.
    synced: Devices,
    buffers: Arc<Buffers>,
    uploads: Uploads,
    queue: Queue,
    /// Of the parent's directories.
    windows: Mutex<Windows>,
    trees: Mutex<Option<OpenPack>>,
    /// What workers have left at the end, as few packs as possible.
    left: Mutex<Vec<OpenPack>>,
    /// The root's tree, and whether everything in the root is in it.
    root: Mutex<Option<(Id, bool)>>,
    devices: Mutex<Vec<u64>>,
    counts: Counts,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Run<'_> {
    /// Whether to go on.
    fn go(&self) -> Result<()> {
        if self.input.cancel.is_cancelled() || self.stopped.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// Ends the run; the first error says why.
    fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// 1 for the file system met first, more for others: the system's own numbers differ between
    /// machines.
    fn device_id(&self, device: u64) -> u64 {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let at = devices
            .iter()
            .position(|known| *known == device)
            .unwrap_or_else(|| {
                devices.push(device);
                devices.len() - 1
            });
        at as u64 + 1
    }
}

impl Outlet for Run<'_> {
    fn repo(&self) -> &Repository {
        self.repo
    }

    fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    fn go(&self) -> Result<()> {
        Run::go(self)
    }

    fn write(&self, path: &str, data: Bytes) -> Result<()> {
        (self.input.allowed)()?;
        let len = data.len() as u64;
        self.repo.block_on(self.input.store.write(path, data))?;
        self.input.progress.uploaded(len);
        Ok(())
    }
}

impl Run<'_> {
    fn threads(&self, workers: usize) -> Result<()> {
        std::thread::scope(|scope| {
            for _ in 0..upload::PARALLEL {
                scope.spawn(|| self.part("an upload", || self.uploads.work(self)));
            }
            let pool: Vec<_> = (0..workers)
                .map(|_| {
                    scope.spawn(|| {
                        self.part("a worker of the archive", || Worker::new(self)?.work());
                    })
                })
                .collect();
            self.part("reading the source", || match self.input.content {
                Content::Tree {
                    origin,
                    filter,
                    one_file_system,
                } => walker::walk(self, origin, filter, one_file_system),
                Content::Stream {
                    names,
                    reader,
                    allow_empty,
                } => stream::feed(self, names, reader, allow_empty),
            });
            self.queue.walked();
            for worker in pool {
                if worker.join().is_err() {
                    self.fail(Error::Bug("a worker of the archive is gone".to_owned()));
                }
            }
            self.part("finishing the last packs", || {
                if self.go().is_ok() {
                    for pack in self.left() {
                        self.uploads.push(pack.finish(&self.sealer));
                    }
                }
                Ok(())
            });
            self.uploads.close();
        });
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if self.input.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match failure {
            Some(error) => Err(error),
            None => self.uploads.finish(self),
        }
    }

    /// Does one thread's part. Whatever ends it, a panic as well, the others hear of it: they wait
    /// for what it would have done.
    fn part(&self, what: &str, work: impl FnOnce() -> Result<()>) {
        if let Err(error) = caught(what, work) {
            self.fail(error);
        }
    }

    /// Keeps a worker's last pack, joined with another's if they fit into one.
    fn leave(&self, pack: OpenPack) {
        let mut pack = Box::new(pack);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        for other in left.iter_mut() {
            match other.absorb(pack) {
                Ok(buffer) => {
                    let size = buffer.len();
                    return self.buffers.give(buffer, size);
                }
                Err(back) => pack = back,
            }
        }
        left.push(*pack);
    }

    /// The last packs, of data and of trees.
    fn left(&self) -> Vec<OpenPack> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        left.drain(..).chain(trees.take()).collect()
    }
}
