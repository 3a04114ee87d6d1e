//! Blobs put into new packs by several threads, for whatever moves blobs: a prune, a copy.
//!
//! Does: fill packs (of file content one a thread, of directories one for all), upload them while
//! others are filled, and write index files of what the store has, as a backup does. Does not: read
//! blobs, or know which. A blob of this repository can be taken as it is sealed.
//!
//! Order: packs; index files of them. The first failure ends it for all threads; what was uploaded
//! by then stays, in an index or not. Memory: a [`Budget`] of the caller's; whoever needs a buffer
//! waits until one has been uploaded.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;

use crate::{
    Cancel, Progress, Repository,
    archive::native::{
        budget::{Budget, Permit},
        packer::{Buffers, OpenPack, room},
        squeeze::Squeezer,
        start::{LEVEL, PACK},
        upload::{self, Outlet, Uploads},
    },
    crypto::{Id, OVERHEAD},
    error::{Error, Result},
    format::{index::BlobKind, pack},
    panics::caught,
    seal::Sealer,
    storage::Store,
};

/// Whether writing is still allowed.
pub(super) type Allowed<'a> = &'a (dyn Fn() -> Result<()> + Send + Sync);

/// Packs being made.
pub(super) struct Packing<'a> {
    repo: &'a Repository,
    store: &'a Store,
    sealer: Sealer,
    buffers: Arc<Buffers>,
    uploads: Uploads,
    trees: Mutex<Option<OpenPack>>,
    /// What threads have left at the end.
    left: Mutex<Vec<OpenPack>>,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
    allowed: Allowed<'a>,
    progress: &'a Progress,
    cancel: &'a Cancel,
    _held: Permit,
}

/// One thread's end of it.
pub(super) struct Filler<'p, 'a> {
    packing: &'p Packing<'a>,
    data: Option<OpenPack>,
    squeezer: Squeezer,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Packing<'a> {
    /// For so many threads.
    ///
    /// # Errors
    /// `MemoryLimit` if the least number of buffers does not fit.
    pub(super) fn new(
        (repo, store): (&'a Repository, &'a Store),
        workers: usize,
        budget: &Arc<Budget>,
        allowed: Allowed<'a>,
        (progress, cancel): (&'a Progress, &'a Cancel),
    ) -> Result<Self> {
        let size = PACK + pack::header_room(0);
        // Every thread and the directories fill one; one is on its way.
        let least = workers + 2;
        let held = budget.take((size * least) as u64, "the least number of packs")?;
        let most = workers + 1 + upload::PARALLEL;
        let buffers = Arc::new(Buffers::new(size, least, most, budget));
        let reserve = Arc::downgrade(&buffers);
        budget.set_reserve(reserve);
        Ok(Self {
            repo,
            store,
            sealer: Sealer::new(repo.key()),
            buffers,
            uploads: Uploads::new(),
            trees: Mutex::new(None),
            left: Mutex::default(),
            stopped: AtomicBool::new(false),
            failure: Mutex::new(None),
            allowed,
            progress,
            cancel,
            _held: held,
        })
    }

    /// Runs `work` on each of the threads, and is done when all they added is in packs that the
    /// store has, and in index files.
    pub(super) fn run(
        self,
        workers: usize,
        work: impl Fn(&mut Filler<'_, 'a>) -> Result<()> + Sync,
    ) -> Result<()> {
        std::thread::scope(|scope| {
            for _ in 0..upload::PARALLEL {
                scope.spawn(|| self.part("an upload", || self.uploads.work(&self)));
            }
            let pool: Vec<_> = (0..workers)
                .map(|_| scope.spawn(|| self.part("moving blobs", || self.fill(&work))))
                .collect();
            for worker in pool {
                if worker.join().is_err() {
                    self.fail(Error::Bug("a thread that moves blobs is gone".to_owned()));
                }
            }
            self.part("finishing the last packs", || {
                if self.go().is_ok() {
                    let left = lock(&self.left).drain(..).collect::<Vec<_>>();
                    for pack in left.into_iter().chain(lock(&self.trees).take()) {
                        self.uploads.push(pack.finish(&self.sealer));
                    }
                }
                Ok(())
            });
            self.uploads.close();
        });
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        self.uploads.finish(&self)
    }

    fn fill(&self, work: impl Fn(&mut Filler<'_, 'a>) -> Result<()>) -> Result<()> {
        let level = (self.repo.version() >= 2).then_some(LEVEL);
        let squeezer = Squeezer::new(level).map_err(|error| Error::Bug(error.to_string()))?;
        let mut filler = Filler {
            packing: self,
            data: None,
            squeezer,
        };
        work(&mut filler)?;
        if let Some(pack) = filler.data.take() {
            self.leave(pack);
        }
        Ok(())
    }

    /// Keeps a thread's last pack, joined with another's if they fit into one.
    fn leave(&self, pack: OpenPack) {
        let mut pack = Box::new(pack);
        let mut left = lock(&self.left);
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

    /// Does one thread's part; the others hear of its failure.
    fn part(&self, what: &str, work: impl FnOnce() -> Result<()>) {
        if let Err(error) = caught(what, work) {
            self.fail(error);
        }
    }

    /// Ends it; the first error says why.
    fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Has a pack that a blob of so many bytes fits into.
    fn put(
        &self,
        kind: BlobKind,
        slot: &mut Option<OpenPack>,
        plain_length: usize,
        add: impl FnOnce(&mut OpenPack),
    ) -> Result<()> {
        self.go()?;
        if let Some(full) = slot.take_if(|pack| !pack.fits(plain_length)) {
            self.uploads.push(full.finish(&self.sealer));
        }
        let mut pack = if let Some(pack) = slot.take() {
            pack
        } else {
            let buffer = self.buffers.take(room(plain_length), || self.go())?;
            OpenPack::new(kind, buffer)
        };
        add(&mut pack);
        *slot = Some(pack);
        Ok(())
    }
}

impl Outlet for Packing<'_> {
    fn repo(&self) -> &Repository {
        self.repo
    }

    fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    fn go(&self) -> Result<()> {
        if self.cancel.is_cancelled() || self.stopped.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn write(&self, path: &str, data: Bytes) -> Result<()> {
        (self.allowed)()?;
        let len = data.len() as u64;
        self.repo.block_on(self.store.write(path, data))?;
        self.progress.uploaded(len);
        Ok(())
    }
}

impl Filler<'_, '_> {
    /// The id of some content, computed beside that of the pack being filled.
    pub(super) fn id_of(&mut self, plain: &[u8]) -> Id {
        match &mut self.data {
            Some(pack) => pack.hash_beside(plain),
            None => Id::of(plain),
        }
    }

    /// Adds a blob of this repository as it is sealed; `plain_length` if it is compressed.
    pub(super) fn add_sealed(
        &mut self,
        kind: BlobKind,
        id: Id,
        sealed: &[u8],
        plain_length: Option<u32>,
    ) -> Result<()> {
        let length = sealed.len().saturating_sub(OVERHEAD);
        self.with(kind, length, |pack, _, _| {
            pack.add_sealed(id, sealed, plain_length);
        })
    }

    /// Compresses, where the repository's version allows it, seals and adds a blob.
    pub(super) fn add(&mut self, kind: BlobKind, id: Id, plain: &[u8]) -> Result<()> {
        self.with(kind, plain.len(), |pack, squeezer, sealer| {
            pack.add(id, plain, squeezer, sealer);
        })
    }

    fn with(
        &mut self,
        kind: BlobKind,
        plain_length: usize,
        add: impl FnOnce(&mut OpenPack, &mut Squeezer, &Sealer),
    ) -> Result<()> {
        let packing = self.packing;
        let squeezer = &mut self.squeezer;
        let add = |pack: &mut OpenPack| add(pack, squeezer, &packing.sealer);
        match kind {
            BlobKind::Data => packing.put(kind, &mut self.data, plain_length, add),
            BlobKind::Tree => packing.put(kind, &mut lock(&packing.trees), plain_length, add),
        }
    }
}
