//! Large files: any number of workers on one.
//!
//! A worker takes the next piece under the file's lock and works on it outside. With fixed chunks a piece is a
//! matter of arithmetic. With content-defined ones its end must be found first: that is done under the lock, in
//! data read just then, while other workers hash, compress and pack what they took before. Results come in any
//! order and are put in order at the end. Whoever finishes the last piece describes the file.

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

use super::{dirs::Directory, entry, worker::Worker};
use crate::{
    chunk::{
        holes::{self, Part},
        pages,
        policy::{self, Cuts, Facts, Reason},
        rabin,
    },
    crypto::Id,
    error::Result,
    files::meta::{Kind, Meta},
    rows::FileOperation,
};

/// Bytes taken at once where cuts are a matter of arithmetic.
const PIECE: u64 = 1 << 20;
/// Bytes read at once while looking for a cut.
const LOOK_AHEAD: usize = 128 << 10;

/// A large file that waits.
pub(super) struct Large {
    pub(super) dir: Arc<Directory>,
    pub(super) slot: usize,
    pub(super) part: usize,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) name: OsString,
    /// Its content in the parent.
    pub(super) known: Option<Vec<Id>>,
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
    results: Vec<Piece>,
    failed: Option<io::Error>,
    finished: bool,
}

/// A piece of the file, stored.
struct Piece {
    offset: u64,
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
            .map(|meta| meta.size)
            .sum()
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
    let (cuts, reason, parts) = start;
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
            results: Vec::new(),
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
) -> io::Result<(Cuts, Reason, Vec<Part>)> {
    let len = entry::read_up_to(file, &mut worker.buffer[..pages::HEAD], 0)?;
    let facts = Facts {
        size: meta.size,
        head: &worker.buffer[..len],
        directory_bytes: &|| directory_bytes(&large.dir, &large.fd),
        parent: worker.parent_cuts(large.known.as_deref()),
    };
    let (cuts, reason) = policy::decide(worker.run.input.chunking, facts);
    tracing::debug!(?cuts, ?reason, size = meta.size, "large file");
    let align = match cuts {
        Cuts::Rabin => 1,
        Cuts::Fixed(size) => size,
    };
    let blocks = file.metadata()?.blocks();
    Ok((cuts, reason, holes::parts(file, meta.size, blocks, align)?))
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
        let Some(taken) = taken else {
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
            Ok(piece) => cursor.results.push(piece?),
            Err(error) => cursor.fail(error),
        }
    }
}

impl Cursor {
    fn fail(&mut self, error: io::Error) {
        self.parts.clear();
        self.failed.get_or_insert(error);
    }
}

impl Active {
    fn lock(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece.
    fn take(&self, cursor: &mut Cursor, worker: &mut Worker<'_, '_>) -> io::Result<Option<Taken>> {
        let Some(part) = cursor.parts.front_mut() else {
            return Ok(None);
        };
        let (from, end, next) = match part {
            Part::Zeros { start, blobs } => {
                let taken = Taken::Zeros(*start, *blobs);
                cursor.parts.pop_front();
                return Ok(Some(taken));
            }
            Part::Data { start, end } => (*start, *end, start),
        };
        let left = end - from;
        let taken = match self.cuts {
            Cuts::Fixed(size) => Taken::Range(from, to_usize(size.max(PIECE).min(left))),
            Cuts::Rabin if left <= rabin::MIN => Taken::Range(from, to_usize(left)),
            Cuts::Rabin => Taken::Chunk(
                from,
                self.cut(worker, from, to_usize(left.min(rabin::MAX)))?,
            ),
        };
        let (Taken::Range(_, len) | Taken::Chunk(_, len)) = taken else {
            return Ok(None);
        };
        *next += len as u64;
        if *next >= end {
            cursor.parts.pop_front();
        }
        Ok(Some(taken))
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
            Taken::Zeros(start, blobs) => return Ok(zeros(worker, start, blobs)),
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
            Ok(self.chunks(worker, &buffer[..got], offset))
        });
        worker.buffer = buffer;
        piece
    }

    /// Whether the file still has so many bytes.
    fn reaches(&self, end: u64) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() >= end)
    }

    fn chunks(&self, worker: &mut Worker<'_, '_>, data: &[u8], offset: u64) -> Result<Piece> {
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
            offset,
            bytes: data.len() as u64,
            ids,
        })
    }
}

fn zeros(worker: &mut Worker<'_, '_>, start: u64, blobs: u64) -> Result<Piece> {
    let mut buffer = std::mem::take(&mut worker.buffer);
    buffer.fill(0);
    let id = worker.store(&buffer[..to_usize(holes::BLOB)]);
    worker.buffer = buffer;
    let bytes = blobs * holes::BLOB;
    worker.run.input.progress.bytes_done(bytes);
    Ok(Piece {
        offset: start,
        bytes,
        ids: vec![id?; to_usize(blobs)],
    })
}

/// Puts the pieces in order and describes the file.
fn finish(worker: &mut Worker<'_, '_>, active: &Active) -> Result<()> {
    let run = worker.run;
    let (large, path) = (&active.large, &active.path);
    let mut cursor = active.lock();
    let mut pieces = std::mem::take(&mut cursor.results);
    let failed = cursor.failed.take();
    drop(cursor);
    let mut json = Vec::new();
    if let Some(error) = failed {
        run.input.rows.add(path, FileOperation::Read, error);
    } else {
        pieces.sort_unstable_by_key(|piece| piece.offset);
        let mut meta = active.meta.clone();
        let mut content = Vec::with_capacity(pieces.iter().map(|piece| piece.ids.len()).sum());
        meta.size = 0;
        // Of a file that has become shorter, what there is without a gap.
        for piece in pieces {
            if piece.offset != meta.size {
                break;
            }
            meta.size += piece.bytes;
            content.extend(piece.ids);
        }
        entry::compare(run, path, &active.file, &active.meta, meta.size);
        meta.ctime = run.input.stored_ctime(&active.meta, active.now);
        let attributes = entry::attributes_of(run, large.fd.as_fd(), path, &large.name, &mut meta);
        let mut node = worker.node(&large.name, &meta, attributes);
        node.content = Some(content);
        node.encode(&mut json);
        worker.count_file(meta.size, large.known.is_some());
        let tally = run.input.tally;
        tally.add(path, meta.size, active.cuts, active.reason);
    }
    if large.dir.fill(large.slot, large.part, json)? {
        worker.complete(Arc::clone(&large.dir))?;
    }
    Ok(())
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
