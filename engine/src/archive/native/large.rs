//! Large files: any number of workers on one.
//!
//! A worker takes the next piece under the file's lock and works on it outside. With fixed chunks a piece is a
//! matter of arithmetic. With content-defined ones its end must be found first: that is done under the lock, in
//! data read just then, while other workers hash, compress and pack what they took before. Results come in any
//! order and are put where they belong. Whoever finishes the last piece describes the file.
//!
//! Cost: [`ID`] bytes for each blob, in the run's budget before anything is read. A file for which there is not as
//! much is a row: anybody can make a hole without an end.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use rustix::fs::FileType;

use super::{
    budget::{Budget, Permit},
    dirs::Directory,
    entry,
    worker::Worker,
};
use crate::{
    chunk::{
        holes::{self, Part},
        pages,
        policy::{self, Cuts, Facts, ParentCuts, Reason},
        rabin,
    },
    crypto::Id,
    error::Result,
    files::meta::{Kind, Meta},
    rows::FileOperation,
};

/// Bytes taken at once where cuts are a matter of arithmetic.
const PIECE: u64 = 1 << 20;
/// Bytes for each blob: its id, and its text in the directory.
const ID: u64 = 100;
/// Bytes read at once while looking for a cut.
const LOOK_AHEAD: usize = 128 << 10;

/// A large file that waits.
pub(super) struct Large {
    pub(super) dir: Arc<Directory>,
    pub(super) slot: usize,
    pub(super) part: usize,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) name: OsString,
    /// The parent has it.
    pub(super) known: bool,
    /// How it was cut there.
    pub(super) parent: Option<ParentCuts>,
}

/// A large file being read.
pub(super) struct Active {
    large: Large,
    path: PathBuf,
    file: File,
    meta: Meta,
    now: Timestamp,
    cuts: Cuts,
    reason: Reason,
    cursor: Mutex<Cursor>,
}

/// How far it is.
struct Cursor {
    parts: VecDeque<Part>,
    /// Pieces taken and not finished.
    taken: usize,
    /// The blobs of what was taken so far, each known when its piece is finished.
    content: Vec<Id>,
    /// Bytes of what was taken so far.
    size: u64,
    /// Bytes and blobs up to where it ends, if it has become shorter.
    end: Option<(u64, usize)>,
    /// For the content.
    memory: Permit,
    failed: Option<io::Error>,
    finished: bool,
}

/// A piece of the file, stored.
struct Piece {
    bytes: u64,
    ids: Vec<Id>,
}

/// A piece taken.
#[derive(Clone, Copy)]
enum Taken {
    /// To be read.
    Range(u64, usize),
    /// In the worker's buffer from a chunk's least length minus the window on; the rest is to be read.
    Chunk(u64, usize),
    Zeros(u64, u64),
}

/// Bytes of a directory's large files together.
pub(super) fn directory_bytes(dir: &Directory, fd: &OwnedFd) -> u64 {
    *dir.bytes.get_or_init(|| {
        let entries = rustix::fs::Dir::read_from(fd).into_iter().flatten();
        let metas = entries
            .filter_map(std::result::Result::ok)
            .filter(|entry| matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown))
            .filter_map(|entry| Meta::at(fd, entry.file_name()).ok());
        metas
            .filter(|meta| meta.kind == Kind::File && meta.size > policy::SMALL)
            .fold(0, |sum: u64, meta| sum.saturating_add(meta.size))
    })
}

/// Opens a file, decides how it is cut, and starts on it.
pub(super) fn open(worker: &mut Worker<'_, '_>, large: Large) -> Result<()> {
    let run = worker.run;
    let path = large.dir.path.join(&large.name);
    let now = Timestamp::now();
    let Some((file, meta)) = entry::open(run, &large.fd, &path, &large.name) else {
        return give_up(worker, large);
    };
    let start = match begin(worker, &large, &file, &meta) {
        Ok(start) => start,
        Err(error) => {
            run.input.rows.add(&path, FileOperation::Read, error);
            return give_up(worker, large);
        }
    };
    let (cuts, reason, parts, memory) = start;
    let active = Arc::new(Active {
        large,
        path,
        file,
        meta,
        now,
        cuts,
        reason,
        cursor: Mutex::new(Cursor {
            parts: parts.into(),
            taken: 0,
            content: Vec::new(),
            size: 0,
            end: None,
            memory,
            failed: None,
            finished: false,
        }),
    });
    run.queue.activate(Arc::clone(&active));
    join(worker, &active)
}

fn begin(
    worker: &mut Worker<'_, '_>,
    large: &Large,
    file: &File,
    meta: &Meta,
) -> io::Result<(Cuts, Reason, Vec<Part>, Permit)> {
    let len = entry::read_up_to(file, &mut worker.buffer[..pages::HEAD], 0)?;
    let facts = Facts {
        size: meta.size,
        head: &worker.buffer[..len],
        directory_bytes: &|| directory_bytes(&large.dir, &large.fd),
        parent: large.parent,
    };
    let (cuts, reason) = policy::decide(worker.run.input.chunking, facts);
    tracing::debug!(?cuts, ?reason, size = meta.size, "large file");
    let align = match cuts {
        Cuts::Rabin => 1,
        Cuts::Fixed(size) => size,
    };
    let blocks = file.metadata()?.blocks();
    let parts = holes::parts(file, meta.size, blocks, align)?;
    let memory = memory(&worker.run.budget, blobs(&parts, cuts))?;
    Ok((cuts, reason, parts, memory))
}

/// How many blobs there will be, about.
fn blobs(parts: &[Part], cuts: Cuts) -> u64 {
    let usual = match cuts {
        Cuts::Rabin => rabin::MIN + (1 << 20),
        Cuts::Fixed(size) => size,
    };
    let blobs = |part: &Part| match part {
        Part::Data { start, end } => (end - start).div_ceil(usual),
        Part::Zeros { blobs, .. } => *blobs,
    };
    parts.iter().map(blobs).fold(0, u64::saturating_add)
}

/// Memory for the content of one file. A quarter of what is left stays for everything else.
fn memory(budget: &Arc<Budget>, blobs: u64) -> io::Result<Permit> {
    let bytes = blobs.saturating_mul(ID);
    let what = format!("the list of its {blobs} blobs");
    let taken = budget.take(bytes.saturating_add(bytes / 3), &what);
    let mut memory = taken.map_err(io::Error::other)?;
    memory.give_back(bytes / 3);
    Ok(memory)
}

/// The file will not be in the snapshot; there is a row.
fn give_up(worker: &mut Worker<'_, '_>, large: Large) -> Result<()> {
    if large.dir.fill(large.slot, large.part, Vec::new())? {
        worker.complete(large.dir)?;
    }
    Ok(())
}

/// Works on a file as long as there is something to take.
pub(super) fn join(worker: &mut Worker<'_, '_>, active: &Arc<Active>) -> Result<()> {
    loop {
        worker.run.go()?;
        let mut cursor = active.lock();
        let taken = match active.take(&mut cursor, worker) {
            Ok(taken) => taken,
            Err(error) => {
                cursor.fail(error);
                None
            }
        };
        let Some((taken, slot)) = taken else {
            let last = cursor.taken == 0 && !std::mem::replace(&mut cursor.finished, true);
            drop(cursor);
            worker.run.queue.deactivate(active);
            return if last { finish(worker, active) } else { Ok(()) };
        };
        cursor.taken += 1;
        drop(cursor);
        let done = active.process(worker, taken);
        let mut cursor = active.lock();
        cursor.taken -= 1;
        match done {
            Ok(piece) => cursor.place(taken, slot, &piece?),
            Err(error) => cursor.fail(error),
        }
    }
}

impl Cursor {
    /// Room for the blobs of what is taken.
    fn room(&mut self, blobs: u64, bytes: u64, budget: &Arc<Budget>) -> io::Result<usize> {
        let slot = self.content.len();
        let needed = (slot as u64).saturating_add(blobs).saturating_mul(ID);
        let missing = needed.saturating_sub(self.memory.bytes());
        if missing > 0 {
            self.memory.join(memory(budget, missing.div_ceil(ID))?);
        }
        self.content.resize(slot + to_usize(blobs), Id([0; 32]));
        self.size += bytes;
        Ok(slot)
    }

    /// Puts a piece where it belongs.
    fn place(&mut self, taken: Taken, slot: usize, piece: &Piece) {
        let room = self.content.get_mut(slot..).unwrap_or_default();
        let (offset, bytes) = match (taken, &piece.ids[..]) {
            (Taken::Zeros(start, blobs), [id]) => {
                room.iter_mut()
                    .take(to_usize(blobs))
                    .for_each(|to| *to = *id);
                (start, piece.bytes)
            }
            (Taken::Zeros(start, _), _) => (start, 0),
            (Taken::Range(start, len) | Taken::Chunk(start, len), ids) => {
                room.iter_mut().zip(ids).for_each(|(to, id)| *to = *id);
                (start, len as u64)
            }
        };
        if piece.bytes < bytes {
            let end = (offset + piece.bytes, slot + piece.ids.len());
            self.end = Some(self.end.map_or(end, |before| before.min(end)));
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.parts.clear();
        self.failed.get_or_insert(error);
    }
}

impl Active {
    fn lock(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece, and which of the file's blobs is its first.
    fn take(
        &self,
        cursor: &mut Cursor,
        worker: &mut Worker<'_, '_>,
    ) -> io::Result<Option<(Taken, usize)>> {
        let budget = &worker.run.budget;
        let (from, end) = match cursor.parts.front() {
            None => return Ok(None),
            Some(Part::Zeros { start, blobs }) => {
                let (start, blobs) = (*start, *blobs);
                cursor.parts.pop_front();
                let slot = cursor.room(blobs, blobs * holes::BLOB, budget)?;
                return Ok(Some((Taken::Zeros(start, blobs), slot)));
            }
            Some(Part::Data { start, end }) => (*start, *end),
        };
        let left = end - from;
        let (taken, len, blobs) = match self.cuts {
            Cuts::Fixed(size) => {
                let len = size.max(PIECE).min(left);
                (Taken::Range(from, to_usize(len)), len, len.div_ceil(size))
            }
            Cuts::Rabin if left <= rabin::MIN => (Taken::Range(from, to_usize(left)), left, 1),
            Cuts::Rabin => {
                let len = self.cut(worker, from, to_usize(left.min(rabin::MAX)))?;
                (Taken::Chunk(from, len), len as u64, 1)
            }
        };
        let slot = cursor.room(blobs, len, &worker.run.budget)?;
        match cursor.parts.front_mut() {
            Some(Part::Data { start, .. }) if from + len < end => *start += len,
            _ => drop(cursor.parts.pop_front()),
        }
        Ok(Some((taken, slot)))
    }

    /// The length of the chunk at `from`, which has at most `most` bytes. Reads from just before the least
    /// length on.
    fn cut(&self, worker: &mut Worker<'_, '_>, from: u64, most: usize) -> io::Result<usize> {
        let least = to_usize(rabin::MIN);
        let mut filled = least - rabin::WINDOW;
        while filled < most {
            let want = (filled + LOOK_AHEAD).min(most);
            let read = entry::read_up_to(
                &self.file,
                &mut worker.buffer[filled..want],
                from + filled as u64,
            )?;
            let (before, ended) = (filled, filled + read < want);
            filled += read;
            let found = worker
                .run
                .rabin
                .candidate(&worker.buffer[..filled], before.max(least));
            if let Some(cut) = found {
                return Ok(cut);
            }
            if ended {
                // It has become shorter; reading the piece shows by how much.
                break;
            }
        }
        Ok(most)
    }

    /// Reads and stores a piece. The outer error is of the file, the inner one of the run.
    fn process(&self, worker: &mut Worker<'_, '_>, taken: Taken) -> io::Result<Result<Piece>> {
        let (offset, len, from) = match taken {
            Taken::Zeros(_, blobs) => return Ok(zeros(worker, blobs)),
            Taken::Range(offset, len) => (offset, len, len),
            // What the search read is there already.
            Taken::Chunk(offset, len) => (offset, len, to_usize(rabin::MIN) - rabin::WINDOW),
        };
        let mut buffer = std::mem::take(&mut worker.buffer);
        let read = entry::read_up_to(&self.file, &mut buffer[..from.min(len)], offset);
        let piece = read.and_then(|read| {
            let complete =
                read == from.min(len) && (from >= len || self.reaches(offset + len as u64)?);
            // Of a file that has become shorter, all there is, as one chunk.
            let got = if complete {
                len
            } else {
                entry::read_up_to(&self.file, &mut buffer[..len], offset)?
            };
            Ok(self.chunks(worker, &buffer[..got]))
        });
        worker.buffer = buffer;
        piece
    }

    /// Whether the file still has so many bytes.
    fn reaches(&self, end: u64) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() >= end)
    }

    fn chunks(&self, worker: &mut Worker<'_, '_>, data: &[u8]) -> Result<Piece> {
        let size = match self.cuts {
            Cuts::Fixed(size) => to_usize(size),
            Cuts::Rabin => data.len().max(1),
        };
        let ids = data
            .chunks(size)
            .map(|chunk| worker.store(chunk))
            .collect::<Result<_>>()?;
        worker.run.input.progress.bytes_done(data.len() as u64);
        Ok(Piece {
            bytes: data.len() as u64,
            ids,
        })
    }
}

/// Stores a blob of zeros, once for all.
fn zeros(worker: &mut Worker<'_, '_>, blobs: u64) -> Result<Piece> {
    let mut buffer = std::mem::take(&mut worker.buffer);
    buffer.fill(0);
    let id = worker.store(&buffer[..to_usize(holes::BLOB)]);
    worker.buffer = buffer;
    let bytes = blobs * holes::BLOB;
    worker.run.input.progress.bytes_done(bytes);
    Ok(Piece {
        bytes,
        ids: vec![id?],
    })
}

/// Describes the file.
fn finish(worker: &mut Worker<'_, '_>, active: &Active) -> Result<()> {
    let run = worker.run;
    let (large, path) = (&active.large, &active.path);
    let mut cursor = active.lock();
    let mut content = std::mem::take(&mut cursor.content);
    let mut meta = active.meta.clone();
    meta.size = cursor.size;
    // Of a file that has become shorter, what there is without a gap.
    if let Some((size, blobs)) = cursor.end {
        meta.size = size;
        content.truncate(blobs);
    }
    let memory = std::mem::replace(&mut cursor.memory, Permit::empty(&run.budget));
    let failed = cursor.failed.take();
    drop(cursor);
    let mut json = Vec::new();
    if let Some(error) = failed {
        run.input.rows.add(path, FileOperation::Read, error);
    } else {
        entry::compare(run, path, &active.file, &active.meta, meta.size);
        meta.ctime = run.input.stored_ctime(&active.meta, active.now);
        let attributes = entry::attributes_of(run, large.fd.as_fd(), path, &large.name, &mut meta);
        let mut node = worker.node(&large.name, &meta, attributes);
        node.content = Some(content);
        node.encode(&mut json);
        worker.count_file(meta.size, large.known);
        let tally = run.input.tally;
        tally.add(path, meta.size, active.cuts, active.reason);
    }
    // From here on its text counts as the directory's.
    drop(memory);
    if large.dir.fill(large.slot, large.part, json)? {
        worker.complete(Arc::clone(&large.dir))?;
    }
    Ok(())
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
