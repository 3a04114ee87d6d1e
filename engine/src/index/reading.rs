//! Reading index files: several are asked for at a time, and decoded beside whatever is done with
//! those before.
//!
//! Decoding takes as long as what follows. It has a thread of its own, and only one: an allocator
//! keeps for each thread what it freed, and an index file takes some 20 MiB. With two it was 50 MiB
//! more.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    crypto::{Id, Key},
    error::{Error, Result},
    format::{Invalid, index::IndexFile, unpacked},
    repo::Repository,
    storage::Store,
};

/// Larger index files are refused.
pub(crate) const LIMIT: u64 = 512 << 20;
/// Index files asked for at the same time.
const PARALLEL: usize = 4;

/// These index files, of these sizes, in their order. `None` for one that is gone: another has
/// replaced it.
pub(crate) fn read_all(
    repo: &Repository,
    store: &Store,
    files: BTreeMap<Id, u64>,
) -> impl Stream<Item = (Id, Result<Option<IndexFile>>)> + use<> {
    let decoder = Arc::new(Decoder::start(repo.key()));
    let (repo, store) = (repo.clone(), store.clone());
    futures::stream::iter(files)
        .map(move |(id, size)| {
            let (repo, store) = (repo.clone(), store.clone());
            let decoder = Arc::clone(&decoder);
            // By itself, for whoever goes through them may be long at one: a request that nobody
            // attends to runs out of time.
            let runtime = repo.runtime().clone();
            let reading = async move { read(&repo, &store, id, size, &decoder).await };
            let reading = AbortOnDropHandle::new(runtime.spawn(reading));
            async move {
                let read = reading.await;
                let ended = |error| Error::Bug(format!("reading index {id} did not end: {error}"));
                (id, read.map_err(ended).and_then(|read| read))
            }
        })
        .buffered(PARALLEL)
}

async fn read(
    repo: &Repository,
    store: &Store,
    id: Id,
    size: u64,
    decoder: &Decoder,
) -> Result<Option<IndexFile>> {
    // The time a request may take follows from its size, so that has to be a true one.
    let path = format!("index/{id}");
    let sealed = match repo.remembered(&path) {
        Some(sealed) => sealed,
        None => match store.read(&path, size.min(LIMIT)).await? {
            Some(sealed) => sealed,
            None => return Ok(None),
        },
    };
    match decoder.decode(id, sealed.clone()).await {
        Some(file) => {
            let file = file.map_err(|why| repo.damaged(format!("index {id}"), &why))?;
            repo.remember(&path, &sealed);
            Ok(Some(file))
        }
        None => Err(Error::Bug(format!("decoding index {id} did not end"))),
    }
}

/// A thread that decodes index files. It ends with this.
struct Decoder {
    key: Key,
    /// `None` if there is no thread.
    jobs: Option<mpsc::Sender<Job>>,
}

struct Job {
    id: Id,
    sealed: Bytes,
    done: oneshot::Sender<Result<IndexFile, Invalid>>,
}

impl Decoder {
    fn start(key: &Key) -> Self {
        let (sender, jobs) = mpsc::channel::<Job>();
        let its_key = key.clone();
        let work = move || {
            // Used again: taking it anew for each file costs more than what is done with it.
            let mut json = Vec::new();
            for Job { id, sealed, done } in jobs {
                // Nobody waits for it any more if that fails.
                drop(done.send(decode(&mut json, &its_key, id, &sealed)));
            }
        };
        let thread = std::thread::Builder::new().name("index".to_owned());
        // Without it, files are decoded where they are wanted.
        let started = thread.spawn(work).is_ok();
        Self {
            key: key.clone(),
            jobs: started.then_some(sender),
        }
    }

    /// What an index file says. `None` if the thread was ended by a panic.
    async fn decode(&self, id: Id, sealed: Bytes) -> Option<Result<IndexFile, Invalid>> {
        let Some(jobs) = &self.jobs else {
            return Some(decode(&mut Vec::new(), &self.key, id, &sealed));
        };
        let (done, decoded) = oneshot::channel();
        jobs.send(Job { id, sealed, done }).ok()?;
        decoded.await.ok()
    }
}

fn decode(json: &mut Vec<u8>, key: &Key, id: Id, sealed: &[u8]) -> Result<IndexFile, Invalid> {
    unpacked::decode_named_into(json, key, &id, sealed, unpacked::MAX_INDEX)?;
    IndexFile::decode(json)
}
