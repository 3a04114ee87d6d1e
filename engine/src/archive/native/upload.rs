//! Finished packs on their way to the store, and the index files that name them.
//!
//! Order: a pack is written; only when the store has it, it is put on the list of the next index
//! file. Index files are written every [`INDEX_BYTES`], [`INDEX_BLOBS`] or [`INDEX_AGE`], so that a
//! run that is killed has lost little. The first failure ends the run.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::packer::{Buffers, LOOK, Pack};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{index, pack, unpacked},
    repo::Repository,
};

/// Packs written at the same time.
pub(crate) const PARALLEL: usize = 4;
const INDEX_BYTES: u64 = 1 << 30;
const INDEX_BLOBS: usize = 50_000;
const INDEX_AGE: Duration = Duration::from_mins(1);

/// The run that packs are uploaded for.
pub(crate) trait Outlet: Sync {
    /// Where they go.
    fn repo(&self) -> &Repository;
    /// Where their buffers go back to.
    fn buffers(&self) -> &Buffers;
    /// Whether to go on.
    fn go(&self) -> Result<()>;
    /// Writes an object, if that is still allowed.
    fn write(&self, path: &str, data: Bytes) -> Result<()>;
}

/// What is on its way, and what arrived.
pub(crate) struct Uploads {
    queue: Mutex<Queue>,
    arrived: Condvar,
    list: Mutex<List>,
}

#[derive(Default)]
struct Queue {
    packs: VecDeque<Pack>,
    closed: bool,
}

/// What the next index file will say, and what was written.
struct List {
    json: Vec<u8>,
    blobs: usize,
    bytes: u64,
    since: Instant,
    packs: BTreeMap<Id, u64>,
    indexes: Vec<Id>,
    written: u64,
}

impl Uploads {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            list: Mutex::new(List {
                json: index::START.to_vec(),
                blobs: 0,
                bytes: 0,
                since: Instant::now(),
                packs: BTreeMap::new(),
                indexes: Vec::new(),
                written: 0,
            }),
        }
    }

    /// Hands over a pack. Does not wait: there are only so many buffers.
    pub(crate) fn push(&self, pack: Pack) {
        self.queue().packs.push_back(pack);
        self.arrived.notify_one();
    }

    /// Says that no more will come.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.arrived.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packs with their sizes, index files, and bytes of both.
    pub(crate) fn written(&self) -> (BTreeMap<Id, u64>, Vec<Id>, u64) {
        let list = self.list();
        (list.packs.clone(), list.indexes.clone(), list.written)
    }

    /// Uploads until there is nothing more to come. One thread's work.
    pub(crate) fn work(&self, to: &impl Outlet) -> Result<()> {
        while let Some(pack) = self.next(to)? {
            self.upload(to, pack)?;
        }
        Ok(())
    }

    fn next(&self, to: &impl Outlet) -> Result<Option<Pack>> {
        let mut queue = self.queue();
        loop {
            to.go()?;
            if let Some(pack) = queue.packs.pop_front() {
                return Ok(Some(pack));
            }
            if queue.closed {
                return Ok(None);
            }
            queue = self
                .arrived
                .wait_timeout(queue, LOOK)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
        }
    }

    fn upload(&self, to: &impl Outlet, pack: Pack) -> Result<()> {
        let Pack {
            id,
            buffer,
            len,
            blobs,
        } = pack;
        let size = buffer.len();
        let whole = Bytes::from(buffer);
        to.write(&pack::path(&id), whole.slice(..len))?;
        // The store has let go of it, or else there is one buffer less to reuse.
        let buffer = whole.try_into_mut().map(Vec::from).unwrap_or_default();
        to.buffers().give(buffer, size);
        let mut list = self.list();
        list.packs.insert(id, len as u64);
        list.written += len as u64;
        index::encode_pack(&mut list.json, &id, &blobs);
        list.blobs += blobs.len();
        list.bytes += len as u64;
        let due = list.bytes >= INDEX_BYTES
            || list.blobs >= INDEX_BLOBS
            || list.since.elapsed() >= INDEX_AGE;
        if due {
            self.write_index(to, list)
        } else {
            Ok(())
        }
    }

    /// Writes the last index file. Everything must have been uploaded.
    pub(crate) fn finish(&self, to: &impl Outlet) -> Result<()> {
        let list = self.list();
        if list.blobs == 0 {
            return Ok(());
        }
        self.write_index(to, list)
    }

    fn write_index(&self, to: &impl Outlet, mut list: MutexGuard<'_, List>) -> Result<()> {
        let mut json = mem::replace(&mut list.json, index::START.to_vec());
        (list.blobs, list.bytes, list.since) = (0, 0, Instant::now());
        drop(list);
        json.extend_from_slice(index::END);
        let (id, sealed) = unpacked::encode(to.repo().key(), &json, to.repo().version())
            .map_err(|why| Error::Bug(format!("an index cannot be encoded: {why}")))?;
        let len = sealed.len() as u64;
        to.write(&format!("index/{id}"), sealed.into())?;
        let mut list = self.list();
        list.written += len;
        list.indexes.push(id);
        Ok(())
    }
}
