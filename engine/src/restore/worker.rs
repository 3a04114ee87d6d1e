//! A worker: opens, decompresses, verifies and writes.
//!
//! Every blob's SHA-256 is compared with its id before a byte of it is written. A blob that is
//! wrong is read from another pack, if there is one that has it; else it fails the files that want
//! it. When a range cannot be read whole, its blobs are asked for one by one. A blob whose file
//! another worker is writing into may [wait](super::waiting), until the end of its range at most.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use zstd::bulk::Decompressor;

use super::{
    Failure,
    compare::Comparer,
    content::is_zero,
    file::File,
    plan::{Range, Want},
    queue::Job,
    run::{Run, count},
    waiting::{MOST, Waiting},
};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind, pack},
    index::Place,
    repo::blobs::{another_copy, owned},
    rows::FileOperation,
    sha::Sha,
};

/// Two blobs of at most so many bytes each are opened beside each other.
const BESIDE: u32 = 2 << 20;

/// One thread's buffers and contexts.
pub(super) struct Worker<'r, 'a> {
    run: &'r Run<'a>,
    plain: Vec<u8>,
    /// Of a blob that is opened beside another.
    second: Vec<u8>,
    waiting: Waiting,
    decompressor: Decompressor<'static>,
    comparer: Comparer,
}

impl<'r, 'a> Worker<'r, 'a> {
    pub(super) fn new(run: &'r Run<'a>) -> Result<Self> {
        let failed = |error: io::Error| Error::Bug(format!("no decompressor: {error}"));
        Ok(Self {
            run,
            plain: Vec::new(),
            second: Vec::new(),
            waiting: Waiting::default(),
            decompressor: Decompressor::new().map_err(failed)?,
            comparer: Comparer::new(),
        })
    }

    /// Works until there is nothing more to do.
    pub(super) fn work(mut self) {
        while let Some(job) = self.run.queue.next() {
            match job {
                Job::Files(files) => {
                    for file in files {
                        self.run.done(&file);
                    }
                }
                Job::Compare(comparison) => {
                    let missing = self.comparer.compare(self.run, comparison);
                    self.run.queue.compared(missing);
                }
                Job::Range(range, data) => {
                    let length = range.length;
                    let buffer = self.range(&range, data);
                    write_waiting(self.run, &mut self.waiting);
                    self.run.queue.written(length, buffer);
                }
            }
        }
    }

    /// Writes what was fetched, and returns the memory it came in.
    fn range(&mut self, range: &Range, data: Result<Vec<u8>>) -> Vec<u8> {
        let groups = || {
            let same = |a: &Want, b: &Want| a.place == b.place && a.id == b.id;
            range.wants.chunk_by(same)
        };
        match data {
            Ok(mut data) => {
                count(&self.run.counts.bytes_fetched, u64::from(range.length));
                let place = |wants: &[Want]| {
                    let at = (wants[0].place.offset - range.start) as usize;
                    at..at + wants[0].place.length as usize
                };
                let mut groups = groups().peekable();
                while let Some(wants) = groups.next() {
                    let at = place(wants);
                    let next = groups.next_if(|next| {
                        self.is_small(wants) && self.is_small(next) && place(next).start >= at.end
                    });
                    let Some(next) = next else {
                        self.blob(wants, data.get_mut(at).unwrap_or_default());
                        continue;
                    };
                    let end = at.end.min(data.len());
                    let (before, after) = data.split_at_mut(end);
                    let behind = place(next).start - at.end..place(next).end - at.end;
                    let sealed = before.get_mut(at).unwrap_or_default();
                    self.two(
                        (wants, sealed),
                        (next, after.get_mut(behind).unwrap_or_default()),
                    );
                }
                return data;
            }
            Err(error) if !error.is_of_one_object() => self.run.fail(error),
            Err(error @ Error::ObjectMissing { .. }) => {
                for wants in groups() {
                    rescue(self.run, &mut self.waiting, wants, &error);
                }
            }
            // What is damaged may be a part of it.
            Err(_) => {
                for wants in groups() {
                    match self.fetch(range, wants[0].place) {
                        Ok(data) => self.blob(wants, &mut owned(data)),
                        Err(error) if error.is_of_one_object() => {
                            rescue(self.run, &mut self.waiting, wants, &error);
                        }
                        Err(error) => {
                            self.run.fail(error);
                            break;
                        }
                    }
                }
            }
        }
        Vec::new()
    }

    fn fetch(&self, range: &Range, place: Place) -> Result<Bytes> {
        let (pack, _) = self.run.index.pack(range.pack);
        let path = pack::path(&pack);
        let (start, length) = (u64::from(place.offset), u64::from(place.length));
        let data = self
            .run
            .repo
            .block_on(self.run.store.read_range(&path, start, length))?;
        count(&self.run.counts.bytes_fetched, length);
        Ok(data)
    }

    /// Whether a blob may be opened beside another.
    fn is_small(&self, wants: &[Want]) -> bool {
        wants[0].place.plain_length() <= BESIDE.min(self.run.limits.plain / 6)
    }

    /// Writes two blobs wherever they are wanted. Their content is hashed side by side.
    fn two(
        &mut self,
        (wants, sealed): (&[Want], &mut [u8]),
        (others, other_sealed): (&[Want], &mut [u8]),
    ) {
        let run = self.run;
        if run.go().is_err() {
            return;
        }
        let (place, other_place) = (&wants[0].place, &others[0].place);
        let zstd = &mut self.decompressor;
        let one = open(run, zstd, &mut self.plain, place, sealed);
        let other = open(run, zstd, &mut self.second, other_place, other_sealed);
        let (one, other) = match (one, other) {
            (Ok(one), Ok(other)) => {
                let (id, other_id) = Sha::of_both(one, other);
                (verified(wants, one, id), verified(others, other, other_id))
            }
            (one, other) => {
                let check = |wants, plain| verified(wants, plain, Id::of(plain));
                (
                    one.and_then(|plain| check(wants, plain)),
                    other.and_then(|plain| check(others, plain)),
                )
            }
        };
        for (wants, plain) in [(wants, one), (others, other)] {
            match plain {
                Ok(plain) => put(run, &mut self.waiting, wants, plain),
                Err(why) => damaged(run, &mut self.waiting, wants, &why),
            }
        }
    }

    /// Writes one blob wherever it is wanted.
    fn blob(&mut self, wants: &[Want], sealed: &mut [u8]) {
        let (run, place) = (self.run, &wants[0].place);
        if run.go().is_err() {
            return;
        }
        let large = place.plain_length() > run.limits.plain;
        let _one_at_a_time =
            large.then(|| run.large.lock().unwrap_or_else(PoisonError::into_inner));
        let plain = open(run, &mut self.decompressor, &mut self.plain, place, sealed);
        match plain.and_then(|plain| verified(wants, plain, Id::of(plain))) {
            Ok(plain) => put(run, &mut self.waiting, wants, plain),
            Err(why) => return damaged(run, &mut self.waiting, wants, &why),
        }
        if large {
            self.plain = Vec::new();
        }
    }
}

/// The content, if this hash of it is the id of what is wanted.
fn verified<'b>(wants: &[Want], plain: &'b [u8], id: Id) -> Result<&'b [u8], Invalid> {
    if id == wants[0].id {
        Ok(plain)
    } else {
        Err(Invalid::new("its content does not match its id"))
    }
}

/// What cannot be had from where it was asked for is had from another pack, or the files that want
/// it fail.
fn rescue(run: &Run<'_>, waiting: &mut Waiting, wants: &[Want], error: &Error) {
    let parts = (run.repo, run.store, run.index);
    // Where it belongs in its files follows from the length, and how much memory there must be.
    let (first, most) = (wants[0].place, run.limits.plain);
    let will_do = |other: &Place| {
        other.plain_length() == first.plain_length() && other.length <= first.length.max(most)
    };
    match another_copy(parts, BlobKind::Data, &wants[0].id, will_do) {
        Ok(Some(plain)) => return put(run, waiting, wants, &plain),
        Ok(None) => {}
        // The other files can still be restored.
        Err(refused) if refused.is_of_one_object() => {
            tracing::warn!(%refused, "another copy of a blob cannot be had either");
        }
        Err(other) => return run.fail(other),
    }
    for want in wants {
        let failure = Failure::Row(FileOperation::Read, error.to_string());
        run.fail_file(&want.file, failure);
        run.done(&want.file);
    }
}

fn damaged(run: &Run<'_>, waiting: &mut Waiting, wants: &[Want], why: &Invalid) {
    let what = format!("blob {}", wants[0].id);
    rescue(run, waiting, wants, &run.repo.damaged(what, why));
}

/// Writes verified content wherever it is wanted, or has it wait.
fn put(run: &Run<'_>, waiting: &mut Waiting, wants: &[Want], plain: &[u8]) {
    let most = MOST.min(run.limits.plain as usize / 4);
    if !waiting.has_room(plain.len(), most) {
        write_waiting(run, waiting);
    }
    match wants {
        [Want { file, at, .. }] if plain.len() <= most => {
            match file.turn() {
                Some(_turn) => write(run, file, plain, *at, false),
                None => return waiting.keep(file, *at, plain),
            }
            run.done(file);
        }
        _ => {
            // Of many places it is enough to look once.
            let zero = wants.len() > 1 && run.request.sparse && is_zero(plain);
            for want in wants {
                write(run, &want.file, plain, want.at, zero);
                run.done(&want.file);
            }
        }
    }
}

/// Writes what waits for others.
fn write_waiting(run: &Run<'_>, waiting: &mut Waiting) {
    let (bytes, blobs) = waiting.take();
    for blob in blobs {
        if run.go().is_err() {
            break;
        }
        {
            let _turn = blob.file.wait_for_turn();
            write(run, &blob.file, &bytes[blob.bytes], blob.at, false);
        }
        run.done(&blob.file);
    }
    waiting.reuse(bytes);
}

/// Writes one blob into one file. `zero`: it is known to be zeros only.
fn write(run: &Run<'_>, file: &Arc<File>, plain: &[u8], at: u64, zero: bool) {
    if file.has_failed() {
        return;
    }
    match run.write_blob(file, plain, at, zero) {
        Ok(()) => run.progress.bytes_done(plain.len() as u64),
        Err(failure) => run.fail_file(file, failure),
    }
}

/// The plain bytes of a sealed blob, of exactly the length that the index claims.
fn open<'b>(
    run: &Run<'_>,
    decompressor: &mut Decompressor<'_>,
    buffer: &'b mut Vec<u8>,
    place: &Place,
    sealed: &'b mut [u8],
) -> Result<&'b [u8], Invalid> {
    let text = run
        .sealer
        .open(sealed)
        .map_err(|_| Invalid::new("it is not authentic"))?;
    if place.plain == 0 {
        return Ok(text);
    }
    let length = place.plain as usize;
    buffer.clear();
    buffer.reserve_exact(length);
    match decompressor.decompress_to_buffer(text, buffer) {
        Ok(made) if made == length => Ok(buffer),
        Ok(_) => Err(Invalid::new(
            "it decompresses to another length than the index says",
        )),
        Err(error) => Err(Invalid::new(error)),
    }
}
