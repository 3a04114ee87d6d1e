//! Pieces of a large file: taken under its lock, read and stored outside.
//!
//! Blocks at fixed places are read a few at a time, so that what is hashed is still in the cache
//! next to the processor. The end of a content-defined chunk is looked for under the lock, in data
//! read just then, unless a chunk was remembered to begin there: then its bytes are compared by
//! their fingerprint, outside, and only if they are others its end is looked for.

use std::io;

use super::{
    Active, PIECE,
    cursor::{Cursor, Piece, Taken, What},
    to_usize,
};
use crate::{
    archive::{
        fingerprints::{Cut, Print, Record},
        native::{entry, prints::Stored, worker::Worker},
    },
    chunk::{
        holes::{self, Part},
        policy::Cuts,
        rabin,
    },
    error::Result,
};

/// Bytes read at once while looking for a cut.
const LOOK_AHEAD: usize = 128 << 10;
/// Bytes read at once before they are hashed, but for larger blocks.
const READ: usize = 256 << 10;

/// Bytes supposed to be behind the size that a file claims, when there is one. If they are fewer it
/// is found out as that of any file that has become shorter; if they are more it is asked again.
const TAIL: u64 = 1 << 30;

/// What comes next.
pub(super) enum Next {
    Piece(Taken),
    /// It depends on whether chunks being read are as remembered.
    Wait,
    /// Everything is taken.
    Nothing,
}

impl Active {
    /// The next piece.
    pub(super) fn take(
        &self,
        cursor: &mut Cursor,
        worker: &mut Worker<'_, '_>,
    ) -> io::Result<Next> {
        let run = worker.run;
        let budget = &run.budget;
        worker.known.clear();
        loop {
            // What was found to be its end is one, whatever was supposed to come; and so is the end
            // of one that is described.
            if cursor.finished || cursor.has_ended() {
                return Ok(Next::Nothing);
            }
            let end = match cursor.part() {
                None if cursor.failed.is_none() && self.has_more(cursor.size)? => {
                    cursor.add_tail(TAIL);
                    continue;
                }
                None => return Ok(Next::Nothing),
                Some(Part::Zeros { start, blobs }) => {
                    let (what, bytes) = (What::Zeros(start, blobs), blobs * holes::BLOB);
                    return cursor.take(what, blobs, bytes, budget).map(Next::Piece);
                }
                Some(Part::Data { end, .. }) => end,
            };
            let from = cursor.size;
            let left = end - from;
            if let Cuts::Fixed(size) = self.cuts {
                let len = size.max(PIECE).min(left);
                if let (Some(prints), Some(track)) = (&run.prints, &mut cursor.track) {
                    prints.between(track, from, from + len, &mut worker.known);
                }
                let what = What::Range(from, to_usize(len), to_usize(size), Cut::Arithmetic);
                let taken = cursor.take(what, len.div_ceil(size), len, budget);
                return taken.map(Next::Piece);
            }
            if cursor.take_aside(end, budget)? {
                continue;
            }
            if let Some((record, place)) = remembered(cursor, worker, end) {
                let what = What::Probe(record, place);
                let taken = cursor.take(what, 1, u64::from(record.length), budget)?;
                cursor.probing += 1;
                return Ok(Next::Piece(taken));
            }
            if cursor.probing > 0 {
                return Ok(Next::Wait);
            }
            let (what, len) = if left <= rabin::MIN {
                let len = to_usize(left);
                (What::Range(from, len, len, Cut::Forced), len)
            } else {
                let (len, cut) = self.cut(worker, from, left)?;
                let what = match cut {
                    Some(cut) => What::Chunk(from, len, cut),
                    // What the buffer holds is not the file's any more.
                    None => What::Range(from, len, len, Cut::Arithmetic),
                };
                (what, len)
            };
            return cursor.take(what, 1, len as u64, budget).map(Next::Piece);
        }
    }

    /// The length of the chunk at `from`, where `left` bytes are left to be cut, and why it ends
    /// there, unless the file ended before. Reads from just before the least length on.
    fn cut(
        &self,
        worker: &mut Worker<'_, '_>,
        from: u64,
        left: u64,
    ) -> io::Result<(usize, Option<Cut>)> {
        let (least, most) = (to_usize(rabin::MIN), to_usize(left.min(rabin::MAX)));
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
                return Ok((cut, Some(Cut::Natural)));
            }
            if ended {
                // It has become shorter; reading the piece shows by how much.
                return Ok((most, None));
            }
        }
        let cut = if most as u64 == rabin::MAX {
            Cut::Natural
        } else {
            Cut::Forced
        };
        Ok((most, Some(cut)))
    }

    /// Reads and stores a piece; none if it is not as remembered. The outer error is of the file,
    /// the inner one of the run.
    pub(super) fn process(
        &self,
        worker: &mut Worker<'_, '_>,
        taken: &Taken,
    ) -> io::Result<Result<Option<Piece>>> {
        let mut buffer = std::mem::take(&mut worker.buffer);
        let known = std::mem::take(&mut worker.known);
        let done = match taken.what {
            What::Zeros(_, blobs) => Ok(zeros(worker, &mut buffer, blobs).map(Some)),
            What::Range(from, len, size, _) => self
                .range(worker, &mut buffer, (from, len, size), &known)
                .map(|piece| piece.map(Some)),
            What::Chunk(from, len, _) => self
                .chunk(worker, &mut buffer, from, len)
                .map(|piece| piece.map(Some)),
            What::Probe(record, _) => self.probe(worker, &mut buffer, &record),
        };
        worker.buffer = buffer;
        worker.known = known;
        done
    }

    /// Reads blocks of a size, and stores those that are not as remembered.
    fn range(
        &self,
        worker: &mut Worker<'_, '_>,
        buffer: &mut [u8],
        (from, len, size): (u64, usize, usize),
        known: &[Record],
    ) -> io::Result<Result<Piece>> {
        let mut piece = Piece::default();
        let at_once = size.max(READ / size * size);
        let (mut at, mut ended) = (0, false);
        while at < len && !ended {
            let want = at_once.min(len - at);
            let read = entry::read_up_to(&self.file, &mut buffer[..want], from + at as u64)?;
            ended = read < want;
            let mut blocks = &buffer[..read];
            while let Some((block, rest)) = first(blocks, size) {
                blocks = rest;
                if let Some((other, rest)) = first(rest, size) {
                    match worker.two(block, other) {
                        Ok(Some(stored)) => {
                            piece.blocks.extend(stored);
                            at += block.len() + other.len();
                            blocks = rest;
                            continue;
                        }
                        Ok(None) => {}
                        Err(error) => return Ok(Err(error)),
                    }
                }
                let offset = from + at as u64;
                let found = known.binary_search_by(|record| record.offset.cmp(&offset));
                let known = found.ok().and_then(|n| known.get(n));
                match worker.block(block, known) {
                    Ok(stored) => piece.blocks.push(stored),
                    Err(error) => return Ok(Err(error)),
                }
                at += block.len();
            }
        }
        piece.bytes = at as u64;
        Ok(Ok(piece))
    }

    /// Stores a chunk, whose later part was read when its end was looked for.
    fn chunk(
        &self,
        worker: &mut Worker<'_, '_>,
        buffer: &mut [u8],
        from: u64,
        len: usize,
    ) -> io::Result<Result<Piece>> {
        let missing = (to_usize(rabin::MIN) - rabin::WINDOW).min(len);
        let read = entry::read_up_to(&self.file, &mut buffer[..missing], from)?;
        let complete = read == missing && self.reaches(from + len as u64)?;
        // Of a file that has become shorter, all there is, as one chunk.
        let got = if complete {
            len
        } else {
            entry::read_up_to(&self.file, &mut buffer[..len], from)?
        };
        let stored = match got {
            0 => Ok(Vec::new()),
            _ => worker
                .block(&buffer[..got], None)
                .map(|stored| vec![stored]),
        };
        Ok(stored.map(|blocks| Piece {
            bytes: got as u64,
            blocks,
        }))
    }

    /// Reads what was a chunk once. None if it is not the same.
    fn probe(
        &self,
        worker: &mut Worker<'_, '_>,
        buffer: &mut [u8],
        record: &Record,
    ) -> io::Result<Result<Option<Piece>>> {
        let run = worker.run;
        let Some(prints) = &run.prints else {
            return Ok(Ok(None));
        };
        let len = to_usize(u64::from(record.length));
        let mut hasher = prints.hasher();
        let mut at = 0;
        while at < len {
            let want = READ.min(len - at);
            let read = entry::read_up_to(
                &self.file,
                &mut buffer[at..at + want],
                record.offset + at as u64,
            )?;
            hasher.update(&buffer[at..at + read]);
            if read < want {
                return Ok(Ok(None));
            }
            at += read;
        }
        let print = Print(*hasher.finalize().as_bytes());
        if print != record.print {
            return Ok(Ok(None));
        }
        // The same bytes. If the blob is gone they are stored again, and end where they did.
        let stored = worker.printed(&buffer[..len], Some(print), Some(record));
        Ok(stored.map(|stored| {
            Some(Piece {
                bytes: len as u64,
                blocks: vec![stored],
            })
        }))
    }

    /// Whether there is content at an offset.
    fn has_more(&self, at: u64) -> io::Result<bool> {
        Ok(entry::read_up_to(&self.file, &mut [0], at)? > 0)
    }

    /// Whether the file still has so many bytes.
    fn reaches(&self, end: u64) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() >= end)
    }
}

/// The first block of a size, or what is left of one, and what comes after it.
fn first(data: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    (!data.is_empty()).then(|| data.split_at(size.min(data.len())))
}

/// A chunk that was remembered to begin here, if it would end where it did, and the place of its
/// record.
fn remembered(cursor: &mut Cursor, worker: &Worker<'_, '_>, end: u64) -> Option<(Record, u64)> {
    let missed = cursor.is_missed();
    let (from, track) = (cursor.size, cursor.track.as_mut()?);
    let record = worker.run.prints.as_ref()?.at(track, from)?;
    let usable =
        !missed && record.is_cut_again(from, end) && u64::from(record.length) <= rabin::MAX;
    usable.then(|| (record, track.place()))
}

/// Stores a blob of zeros, once for all.
fn zeros(worker: &mut Worker<'_, '_>, buffer: &mut [u8], blobs: u64) -> Result<Piece> {
    buffer.fill(0);
    let id = worker.store(&buffer[..to_usize(holes::BLOB)])?;
    Ok(Piece {
        bytes: blobs * holes::BLOB,
        blocks: vec![Stored {
            id,
            print: None,
            hit: false,
        }],
    })
}
