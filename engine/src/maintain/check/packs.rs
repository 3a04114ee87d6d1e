//! Reading packs: each once, whole, and every blob in it.
//!
//! Several threads, each with a pack of its own: while some wait for the store, others hash and decrypt. A pack's
//! [pieces](super::pieces) are opened in place, its blobs decompressed into one buffer. Packs whose lists of blobs are not
//! what the index says are looked at again, by the index ([`super::slow`]).

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use super::{
    Object, Problem, Run,
    hashes::{Content, Hashes, WrongBlob},
    known::{Known, Pack},
    log::Cause,
    pieces::Pieces,
    slow,
};
use crate::{
    crypto::{Id, NONCE},
    error::{Error, Result},
    format::{Invalid, compressed::Unpacker, index::BlobKind, pack},
    index::{Index, Place},
    panics::caught,
    permits::Pool,
    seal::Sealer,
    sha::Sha,
};

/// What threads and decompressors take.
const THREADS: u64 = 8 << 20;
/// Memory for an entry of a pack's list while it is checked.
const ENTRY: u64 = 128;

/// A pack to read: number, name and size.
pub(super) type Job = (u32, Id, u64);

/// Reads these packs. Returns how many were read, and their bytes. Memory: `room` bytes.
pub(super) fn read(
    run: &Run<'_>,
    index: &Index,
    known: &Known,
    jobs: &[Job],
    room: u64,
) -> Result<(u64, u64)> {
    run.progress.found(0, jobs.iter().map(|job| job.2).sum());
    if jobs.is_empty() {
        return Ok((0, 0));
    }
    let pool = Pool::new(room, THREADS, 0, "reading packs")?;
    let reading = Reading {
        run,
        index,
        known,
        pool: &pool,
        jobs,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        failed: Mutex::default(),
        suspects: Mutex::default(),
        sealer: Sealer::new(run.repo.key()),
        packs: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    let work = || {
        let done = caught("reading packs", || reading.work());
        if let Err(error) = done {
            let mut failed = reading
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
            reading.stop.store(true, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for n in 1..threads() {
            let thread = std::thread::Builder::new().name(format!("check-{n}"));
            // With fewer threads it takes longer.
            drop(thread.spawn_scoped(scope, work));
        }
        work();
    });
    if let Some(error) = reading
        .failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        return Err(error);
    }
    let suspects = reading.suspects.into_inner();
    let suspects = suspects.unwrap_or_else(PoisonError::into_inner);
    slow::look(run, index, &pool, known, suspects)?;
    Ok((reading.packs.into_inner(), reading.bytes.into_inner()))
}

/// Some wait for the store while others work.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores * 2).clamp(4, 16)
}

struct Reading<'a> {
    run: &'a Run<'a>,
    index: &'a Index,
    known: &'a Known,
    pool: &'a Pool,
    jobs: &'a [Job],
    next: AtomicUsize,
    stop: AtomicBool,
    failed: Mutex<Option<Error>>,
    suspects: Mutex<Vec<Job>>,
    sealer: Sealer,
    packs: AtomicU64,
    bytes: AtomicU64,
}

/// What reading a pack found wrong with it.
#[derive(Default)]
struct Wrong {
    problems: Vec<Problem>,
    blobs: Vec<WrongBlob>,
    /// The index has to be asked what should be there.
    suspect: bool,
}

impl Reading<'_> {
    fn go(&self) -> Result<()> {
        if self.run.cancel.is_cancelled() || self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn work(&self) -> Result<()> {
        let mut unpacker = Unpacker::new().map_err(|why| Error::Bug(why.to_string()))?;
        while let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.go()?;
            self.one(*job, &mut unpacker)?;
        }
        Ok(())
    }

    fn one(&self, job: Job, unpacker: &mut Unpacker) -> Result<()> {
        let (number, id, size) = job;
        let known = self.known.get(number).copied().unwrap_or_default();
        let (store, list) = (self.run.store, known.list());
        // What a pack holds that is not what the index says of it, may be as large as that.
        let largest = if size == known.size() && known.is_filled() {
            u64::from(known.largest)
        } else {
            size
        };
        let bytes = Pieces::memory(store, size, largest, list) + beside(&known, size);
        let _permit = self.pool.take(bytes, &format!("pack {id}"), || self.go())?;
        let mut pieces = Pieces::new((self.run.repo, store), pack::path(&id), size);
        let wrong = match self.verify((number, id, size), &known, &mut pieces, unpacker) {
            Ok(wrong) => {
                self.packs.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(size, Ordering::Relaxed);
                wrong
            }
            Err(error) if error.is_content() => Wrong {
                problems: vec![match error {
                    Error::ObjectMissing { .. } => Problem::PackMissing,
                    error => Problem::PackUnreadable {
                        message: error.to_string(),
                    },
                }],
                suspect: true,
                ..Wrong::default()
            },
            Err(error) => return Err(error),
        };
        self.run.progress.bytes_done(size);
        self.tell(job, wrong);
        Ok(())
    }

    fn tell(&self, job: Job, wrong: Wrong) {
        let name = job.1.to_string();
        for problem in wrong.problems {
            let object = Object::Pack(name.clone());
            self.run.log.add(object, problem, Cause::Nothing);
        }
        if wrong.suspect {
            let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
            suspects.push(job);
            return;
        }
        for (position, kind, id, why) in wrong.blobs {
            self.run.blob(position, kind, &id, &name, &why);
        }
    }

    /// Looks at all bytes of a pack. Content of one blob is hashed beside the sealed bytes of the
    /// next.
    ///
    /// # Errors
    /// Those of reading it.
    fn verify(
        &self,
        (number, id, size): Job,
        known: &Pack,
        pieces: &mut Pieces<'_>,
        unpacker: &mut Unpacker,
    ) -> Result<Wrong> {
        let mut wrong = Wrong::default();
        let blobs = match self.header(pieces, known, size)? {
            Ok(blobs) => blobs,
            Err(why) => {
                if self.hash(pieces, size)? != id {
                    wrong.problems.push(Problem::PackContent);
                }
                let message = why.to_string();
                wrong.problems.push(Problem::PackHeader { message });
                wrong.suspect = true;
                return Ok(wrong);
            }
        };
        let mut hashes = Hashes::new();
        let (mut offset, mut matched, mut unknown) = (0_u32, 0_u32, 0_u64);
        for blob in blobs {
            let place = Place {
                pack: number,
                offset,
                length: blob.length,
                plain: blob.plain_length.unwrap_or(0),
            };
            offset = place.end();
            pieces.want(u64::from(place.offset)..u64::from(offset))?;
            hashes.up_to(u64::from(offset), pieces, unpacker, &mut wrong.blobs)?;
            let Some(position) = self.position(blob.kind, &blob.id, place) else {
                unknown += 1;
                continue;
            };
            matched += 1;
            match self.open(place, pieces, unpacker) {
                Ok(content) => hashes.compare_next(content, (position, blob.kind, blob.id)),
                Err(why) => wrong.blobs.push((position, blob.kind, blob.id, why)),
            }
            self.go()?;
        }
        pieces.want(u64::from(offset)..size)?;
        hashes.up_to(size, pieces, unpacker, &mut wrong.blobs)?;
        if hashes.finish() != id {
            wrong.problems.push(Problem::PackContent);
        }
        let absent = u64::from(known.count.saturating_sub(matched));
        if unknown > 0 || absent > 0 {
            wrong
                .problems
                .push(Problem::IndexDiffers { unknown, absent });
            wrong.suspect = absent > 0;
        }
        Ok(wrong)
    }

    /// Opens a blob of a pack where it lies. What it holds is not compared with its id yet.
    fn open(
        &self,
        place: Place,
        pieces: &mut Pieces<'_>,
        unpacker: &mut Unpacker,
    ) -> Result<Content, Invalid> {
        let (from, to) = (u64::from(place.offset), u64::from(place.end()));
        let sealed = pieces
            .get_mut(from..to)
            .ok_or_else(|| Invalid::new("it lies behind the end of its pack"))?;
        let text = self.sealer.open(sealed);
        let text = text.map_err(|_| Invalid::new("it is not authentic"))?;
        if place.plain != 0 {
            unpacker.decompress(text, place.plain)?;
            return Ok(Content::Unpacked);
        }
        let from = from + NONCE as u64;
        Ok(Content::Inside(from..from + text.len() as u64))
    }

    /// The list of its blobs. The inner error is of its content.
    fn header(
        &self,
        pieces: &mut Pieces<'_>,
        known: &Pack,
        size: u64,
    ) -> Result<Result<Vec<pack::Blob>, Invalid>> {
        let tail = pieces.tail(known.list())?;
        let Some((_, trailer)) = tail.split_last_chunk() else {
            return Ok(Err(Invalid::new("the pack is too short")));
        };
        let length = match pack::header_length(*trailer, size) {
            Ok(length) => length as usize,
            Err(why) => return Ok(Err(why)),
        };
        // The index may know nothing of it.
        let tail = pieces.tail((length + pack::TRAILER) as u64)?;
        let from = tail.len().saturating_sub(length + pack::TRAILER);
        let list = &tail[from..tail.len() - pack::TRAILER];
        let plain = self.run.repo.key().open(list);
        Ok(plain
            .map_err(|_| Invalid::new("it is not authentic"))
            .and_then(|plain| pack::decode_header(&plain, size)))
    }

    /// The hash of a pack.
    fn hash(&self, pieces: &mut Pieces<'_>, size: u64) -> Result<Id> {
        let mut sha = Sha::new();
        let mut done = 0;
        while done < size {
            self.go()?;
            let bytes = pieces.next(done)?;
            sha.update(bytes);
            done += bytes.len() as u64;
        }
        Ok(sha.finish())
    }

    /// Position of the record that says exactly this.
    fn position(&self, kind: BlobKind, id: &Id, place: Place) -> Option<u32> {
        let first = self.index.position(kind, id)?;
        let mut copies = (first..).zip(self.index.places(first));
        copies
            .find(|(_, at)| *at == place)
            .map(|(position, _)| position)
    }
}

/// Memory for a pack of this size: itself, and what is beside it.
pub(super) fn needed(known: &Pack, size: u64) -> u64 {
    size + beside(known, size)
}

/// Memory for a pack beside its own bytes: its largest blob opened, its list.
fn beside(known: &Pack, size: u64) -> u64 {
    u64::from(known.largest)
        + u64::from(known.count) * ENTRY
        + u64::from(pack::MAX_HEADER).min(size)
}

impl Run<'_> {
    /// A blob of a pack is not what it should be.
    pub(super) fn blob(&self, position: u32, kind: BlobKind, id: &Id, pack: &str, why: &Invalid) {
        let object = match kind {
            BlobKind::Data => Object::Data(id.to_string()),
            BlobKind::Tree => Object::Tree(id.to_string()),
        };
        let problem = Problem::BlobContent {
            pack: pack.to_owned(),
            message: why.to_string(),
        };
        self.log.add(object, problem, Cause::Record(position));
    }
}
