//! One reader becomes one file.
//!
//! One thread reads and finds the cuts; the workers hash, compress and pack the chunks. It waits
//! when there are as many chunks as workers. The file's entry is written when all chunks are
//! stored; its times are those of the reading's start, and it belongs to this process's user. A
//! reader that fails ends the run.

use std::{
    ffi::OsStr,
    io::{self, Read},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{Run, count, dirs::Directory, node, squeeze::Squeezer, trees, worker::Worker};
use crate::{
    chunk::{
        policy::{Cuts, Reason},
        rabin,
    },
    crypto::Id,
    error::{Error, Result},
    files::meta::{Kind, Meta},
};

/// Where the bytes come from.
pub(in crate::archive) trait Reader: Sync {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
}

impl<R: Read + Send> Reader for Mutex<R> {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut reader = self.lock().unwrap_or_else(PoisonError::into_inner);
        reader.read(buffer)
    }
}

/// Bytes read at once.
const READ: usize = 256 << 10;

/// A chunk of the stream, to be stored.
pub(super) struct Chunk {
    data: Vec<u8>,
    at: usize,
    stored: Arc<Mutex<Vec<Option<Id>>>>,
}

impl Chunk {
    pub(super) fn store(self, worker: &mut Worker<'_, '_>) -> Result<()> {
        let id = worker.store(&self.data)?;
        worker.run.input.progress.bytes_done(self.data.len() as u64);
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored[self.at] = Some(id);
        Ok(())
    }
}

/// Reads everything, has it stored, and writes the trees. A stream without a byte is refused unless
/// allowed.
pub(super) fn feed(
    run: &Run<'_>,
    names: &[String],
    reader: &dyn Reader,
    allow_empty: bool,
) -> Result<()> {
    let mut squeezer = Squeezer::new(run.level).map_err(|error| Error::Bug(error.to_string()))?;
    let started = Timestamp::now();
    run.input.progress.found(1, 0);
    let stored = Arc::new(Mutex::new(Vec::new()));
    let mut size = 0;
    let mut cutter = Cutter::default();
    loop {
        let chunk = cutter.next(run, reader).map_err(|source| Error::Source {
            path: names.iter().collect(),
            source,
        })?;
        run.go()?;
        if chunk.is_empty() {
            break;
        }
        size += chunk.len() as u64;
        run.input.progress.found(0, chunk.len() as u64);
        let mut ids = stored.lock().unwrap_or_else(PoisonError::into_inner);
        ids.push(None);
        let at = ids.len() - 1;
        drop(ids);
        run.queue.push_chunk(
            run,
            Chunk {
                data: chunk,
                at,
                stored: Arc::clone(&stored),
            },
        )?;
    }
    if size == 0 && !allow_empty {
        return Err(Error::Refused {
            location: run.repo.location(),
            what: "a snapshot in the repository",
            message:
                "not a single byte came; the program that should have written them may have failed"
                    .to_owned(),
            hint: "see why that program wrote nothing, or allow that the stream is empty",
        });
    }
    run.queue.drained(run)?;
    let ids = stored.lock().unwrap_or_else(PoisonError::into_inner);
    let ids: Option<Vec<Id>> = ids.iter().copied().collect();
    let ids = ids.ok_or_else(|| Error::Bug("a chunk of the stream was not stored".to_owned()))?;
    count(&run.counts.files_new, 1);
    count(&run.counts.bytes, size);
    let path: PathBuf = names.iter().collect();
    let tally = run.input.tally;
    tally.add(&path, size, Cuts::Rabin, Reason::Default);
    run.input.progress.file_done();
    write(run, names, &describe(started, size), ids, &mut squeezer)
}

/// Writes the file's entry and the directories on its path.
fn write(
    run: &Run<'_>,
    names: &[String],
    meta: &Meta,
    ids: Vec<Id>,
    squeezer: &mut Squeezer,
) -> Result<()> {
    let Some((file, dirs)) = names.split_last() else {
        return Err(Error::Bug("a stream without a name".to_owned()));
    };
    let mut dir = Directory::new(&run.budget, None, None, PathBuf::new());
    for name in dirs {
        let above = Meta {
            kind: Kind::Dir,
            mode: 0o755,
            size: 0,
            ..meta.clone()
        };
        let node = node::node(OsStr::new(name), &above, Vec::new(), 0);
        let slot = dir.slot();
        // It is complete but for the one below.
        dir.listed();
        let path = dir.path.join(name);
        dir = Directory::new(&run.budget, Some((dir, slot)), Some(node), path);
        count(&run.counts.dirs, 1);
    }
    let mut node = node::node(OsStr::new(file), meta, Vec::new(), 0);
    node.content = Some(ids);
    let mut json = Vec::new();
    node.encode(&mut json);
    let slot = dir.slot();
    dir.listed();
    dir.fill(slot, 0, json)?;
    trees::complete(run, dir, squeezer, &mut Vec::new())
}

fn describe(at: Timestamp, size: u64) -> Meta {
    Meta {
        kind: Kind::File,
        mode: 0o644,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        size,
        links: 1,
        inode: 0,
        mtime: at,
        ctime: at,
        device: 0,
        special: 0,
        mount: 0,
    }
}

/// Finds the cuts of a stream.
#[derive(Default)]
struct Cutter {
    /// What was read behind the last cut.
    rest: Vec<u8>,
    ended: bool,
}

impl Cutter {
    /// The next chunk; an empty one at the end.
    fn next(&mut self, run: &Run<'_>, reader: &dyn Reader) -> io::Result<Vec<u8>> {
        let [least, most] = [rabin::MIN, rabin::MAX].map(|n| usize::try_from(n).unwrap_or(8 << 20));
        let mut data = std::mem::take(&mut self.rest);
        let mut searched = least;
        loop {
            let end = data.len().min(most);
            if end > least
                && let Some(cut) = run.rabin.candidate(&data[..end], searched)
            {
                self.rest = data.split_off(cut);
                return Ok(data);
            }
            if data.len() >= most {
                self.rest = data.split_off(most);
                return Ok(data);
            }
            if self.ended || run.go().is_err() {
                return Ok(data);
            }
            searched = end.max(least);
            self.fill(&mut data, reader)?;
        }
    }

    fn fill(&mut self, data: &mut Vec<u8>, reader: &dyn Reader) -> io::Result<()> {
        let len = data.len();
        data.resize(len + READ, 0);
        let read = loop {
            match reader.read(&mut data[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        // A reader may claim more than it was given room for.
        data.truncate(len + (*read.as_ref().unwrap_or(&0)).min(READ));
        self.ended = read? == 0;
        Ok(())
    }
}
