//! Large files: any number of workers on one.
//!
//! A worker takes the next piece under the file's lock and works on it outside. With fixed chunks a
//! piece is a matter of arithmetic. With content-defined ones its end must be found first: that is
//! done under the lock, in data read just then, while other workers hash, compress and pack what
//! they took before. Results come in any order and are put where they belong. Whoever finishes the
//! last piece describes the file. A file is read up to its end: when all is taken that its size
//! promised, it is asked for more.
//!
//! Cost: [`ID`] bytes for each blob, in the run's budget before anything is read. A file for which
//! there is not as much is a row: anybody can make a hole without an end. What is to be remembered
//! takes [`MARK`] more; without that nothing is remembered.

mod cursor;
mod piece;

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use rustix::fs::FileType;

use cursor::{Cursor, What};
use piece::Next;

use super::{
    budget::{Budget, Permit},
    dirs::Directory,
    entry,
    packer::LOOK,
    synced,
    worker::Worker,
};
use crate::{
    chunk::{
        holes::{self, Part},
        pages,
        policy::{self, Cuts, Facts, ParentCuts, Reason},
        rabin,
    },
    error::Result,
    files::meta::{Kind, Meta},
    rows::FileOperation,
};

/// Bytes taken at once where cuts are a matter of arithmetic.
const PIECE: u64 = 1 << 20;
/// Bytes for each blob: its id, and its text in the directory.
const ID: u64 = 100;
/// Bytes for what is remembered of each.
const MARK: u64 = 56;

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
    /// The next run has to read it, whatever its times say.
    doubted: bool,
    cuts: Cuts,
    reason: Reason,
    cursor: Mutex<Cursor>,
    /// Told when it is known whether a chunk is as remembered.
    settled: Condvar,
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
    let start = match begin(worker, &large, &path, (&file, meta), now) {
        Ok(start) => start,
        Err(error) => {
            run.input.rows.add(&path, FileOperation::Read, error);
            return give_up(worker, large);
        }
    };
    let Start {
        meta,
        doubted,
        cuts,
        reason,
        cursor,
    } = start;
    let active = Arc::new(Active {
        large,
        path,
        file,
        meta,
        now,
        doubted,
        cuts,
        reason,
        cursor: Mutex::new(cursor),
        settled: Condvar::new(),
    });
    run.queue.activate(Arc::clone(&active));
    join(worker, &active)
}

/// What is known before a file is read.
struct Start {
    meta: Meta,
    doubted: bool,
    cuts: Cuts,
    reason: Reason,
    cursor: Cursor,
}

fn begin(
    worker: &mut Worker<'_, '_>,
    large: &Large,
    path: &Path,
    (file, meta): (&File, Meta),
    now: Timestamp,
) -> io::Result<Start> {
    let run = worker.run;
    let len = entry::read_up_to(file, &mut worker.buffer[..pages::HEAD], 0)?;
    let facts = Facts {
        size: meta.size,
        head: &worker.buffer[..len],
        directory_bytes: &|| directory_bytes(&large.dir, &large.fd),
        parent: large.parent,
    };
    let (cuts, reason) = policy::decide(worker.run.input.chunking, facts);
    tracing::debug!(?cuts, ?reason, size = meta.size, "large file");
    let (align, (meta, doubted)) = match cuts {
        Cuts::Rabin => (1, (meta, false)),
        Cuts::Fixed(size) => (size, synced::sync(run, file, meta, now)),
    };
    let blocks = file.metadata()?.blocks();
    let parts = holes::parts(file, meta.size, blocks, align)?;
    let blobs = blobs(&parts, cuts);
    let memory = memory(&run.budget, blobs.saturating_mul(ID))?;
    let start = |cursor| Start {
        meta,
        doubted,
        cuts,
        reason,
        cursor,
    };
    let Some(prints) = &run.prints else {
        let cursor = Cursor::new(parts, memory, None, None);
        return Ok(start(cursor));
    };
    let (mut memory, mut marks) = (memory, None);
    if let Some(more) = run.budget.try_take(blobs.saturating_mul(MARK)) {
        memory.join(more);
        marks = Some(Vec::new());
    }
    let track = prints.track(path);
    Ok(start(Cursor::new(parts, memory, marks, track)))
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
fn memory(budget: &Arc<Budget>, bytes: u64) -> io::Result<Permit> {
    let what = format!("the list of its {} blobs", bytes / ID);
    let taken = budget.take(bytes.saturating_add(bytes / 3), &what);
    let mut memory = taken.map_err(io::Error::other)?;
    memory.give_back(bytes / 3);
    Ok(memory)
}

/// The file will not be in the snapshot; there is a row.
fn give_up(worker: &mut Worker<'_, '_>, large: Large) -> Result<()> {
    large.dir.leaves_out();
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
        let next = active.take(&mut cursor, worker).unwrap_or_else(|error| {
            cursor.fail(error);
            Next::Nothing
        });
        let taken = match next {
            Next::Piece(taken) => Some(taken),
            Next::Wait => {
                drop(active.settled.wait_timeout(cursor, LOOK));
                continue;
            }
            Next::Nothing => None,
        };
        let Some(taken) = taken else {
            let last = cursor.taken == 0 && !std::mem::replace(&mut cursor.finished, true);
            drop(cursor);
            worker.run.queue.deactivate(active);
            return if last { finish(worker, active) } else { Ok(()) };
        };
        cursor.taken += 1;
        drop(cursor);
        let done = active.process(worker, &taken);
        let mut cursor = active.lock();
        cursor.taken -= 1;
        if matches!(taken.what, What::Probe(..)) {
            cursor.probing -= 1;
            active.settled.notify_all();
        }
        match done {
            Ok(piece) => match (piece?, taken.what) {
                (Some(piece), _) => {
                    let bytes = cursor.place(&taken, &piece);
                    worker.run.input.progress.bytes_done(bytes);
                }
                (None, What::Probe(record, place)) => cursor.miss(&taken, &record, place),
                (None, _) => {}
            },
            Err(error) => cursor.fail(error),
        }
    }
}

impl Active {
    fn lock(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    let (marks, track) = (cursor.marks.take(), cursor.track.take());
    drop(cursor);
    let mut json = Vec::new();
    if let Some(error) = failed {
        large.dir.leaves_out();
        run.input.rows.add(path, FileOperation::Read, error);
    } else {
        entry::compare(run, path, &active.file, &active.meta, meta.size);
        meta.ctime = run.input.stored_ctime(&active.meta, active.now);
        if active.doubted {
            meta.ctime = run.input.marked(active.meta.ctime);
        }
        let attributes = entry::attributes_of(run, large.fd.as_fd(), path, &large.name, &mut meta);
        if let (Some(prints), Some(marks)) = (&run.prints, marks) {
            prints.learn(path, track.as_ref(), &marks, &content);
        }
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
