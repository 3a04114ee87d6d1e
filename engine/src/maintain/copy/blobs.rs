//! Blobs on their way from one repository to another: read in the order of packs, opened, verified,
//! sealed anew.
//!
//! A blob whose first copy is damaged is taken from another, if the source has one. What cannot be
//! read is `Damaged`. Memory: four bytes for each blob, beside what each thread reads and opens.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::BytesMut;

use crate::{
    Cancel, Progress, Repository,
    archive::native::budget::{Budget, Permit},
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, compressed::Unpacker},
    index::{
        Bits, Index, Place, Record,
        ranges::{Placed, Range, ranges},
    },
    maintain::packing::{Allowed, Filler, Packing},
    repo::blobs::{read_sealed, unseal, worst},
    storage::Store,
};

/// Blobs that one thread plans together.
const BATCH: usize = 4096;
/// The most read at once, unless one blob is larger.
const WINDOW: u32 = 4 << 20;
/// Bytes of a thread: what it reads, plans and opens.
const WORKER: u64 = 24 << 20;
/// A blob that takes more, sealed and opened, asks for it.
const USUAL: u64 = 16 << 20;

/// What is moved, and where.
pub(super) struct Moving<'a> {
    pub(super) source: (&'a Repository, &'a Store),
    pub(super) destination: (&'a Repository, &'a Store),
    /// The source's.
    pub(super) index: &'a Index,
    pub(super) budget: &'a Arc<Budget>,
    pub(super) allowed: Allowed<'a>,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
}

/// A blob to be moved.
#[derive(Clone, Copy)]
struct Wanted {
    position: u32,
    record: Record,
}

impl Placed for Wanted {
    fn place(&self) -> Place {
        self.record.place
    }
}

impl Moving<'_> {
    /// Moves the blobs at these positions; how many there were, and their plain bytes.
    pub(super) fn all(&self, needed: &Bits) -> Result<(u64, u64)> {
        let count = needed.count();
        if count == 0 {
            return Ok((0, 0));
        }
        let budget = self.budget;
        let mut held = budget.take(
            count * size_of::<u32>() as u64,
            "the places of what is copied",
        )?;
        let positions = self.in_order(needed);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let able = usize::try_from(budget.left() / 3 / WORKER).unwrap_or(1);
        let workers = able.clamp(1, cores);
        held.join(budget.take(WORKER * workers as u64, "the least number of threads")?);
        let packing = Packing::new(
            self.destination,
            workers,
            budget,
            self.allowed,
            (self.progress, self.cancel),
        )?;
        let next = AtomicUsize::new(0);
        let bytes = AtomicU64::new(0);
        packing.run(workers, |filler| {
            let failed = |why: Invalid| Error::Bug(io::Error::other(why.to_string()).to_string());
            let mut unpacker = Unpacker::new().map_err(failed)?;
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed);
                let Some(rest) = positions.get(from..).filter(|rest| !rest.is_empty()) else {
                    return Ok(());
                };
                let batch = &rest[..rest.len().min(BATCH)];
                let moved = self.batch(batch, filler, &mut unpacker)?;
                bytes.fetch_add(moved, Ordering::Relaxed);
            }
        })?;
        drop(held);
        Ok((count, bytes.into_inner()))
    }

    /// The positions, in the order of packs and offsets.
    fn in_order(&self, needed: &Bits) -> Vec<u32> {
        let mut positions: Vec<u32> = self
            .index
            .records()
            .filter(|(position, _)| needed.contains(*position))
            .map(|(position, _)| position)
            .collect();
        // No keys are kept: they would take several times what the positions take.
        positions.sort_unstable_by_key(|position| {
            let place = self.index.place(*position);
            place.map(|place| (place.pack, place.offset))
        });
        positions
    }

    fn batch(
        &self,
        positions: &[u32],
        filler: &mut Filler<'_, '_>,
        unpacker: &mut Unpacker,
    ) -> Result<u64> {
        let wanted = positions.iter().filter_map(|position| {
            let record = self.index.record(*position)?;
            Some(Wanted {
                position: *position,
                record,
            })
        });
        let mut bytes = 0;
        for range in ranges(wanted.collect(), WINDOW) {
            bytes += self.range(&range, filler, unpacker)?;
        }
        Ok(bytes)
    }

    fn range(
        &self,
        range: &Range<Wanted>,
        filler: &mut Filler<'_, '_>,
        unpacker: &mut Unpacker,
    ) -> Result<u64> {
        let _large = self.large(u64::from(range.length))?;
        let mut data = match self.read(range.pack, range.start, range.length) {
            Ok(data) => Some(data),
            // What is missing or damaged may be one of them only.
            Err(error) if error.is_of_one_object() => None,
            Err(error) => return Err(error),
        };
        let mut bytes = 0;
        for wanted in &range.wants {
            let place = wanted.record.place;
            let at = (place.offset - range.start) as usize;
            let sealed = data
                .as_mut()
                .and_then(|data| data.get_mut(at..at + place.length as usize));
            let moved = match sealed {
                Some(sealed) => self.open(wanted, place, sealed, filler, unpacker)?.ok(),
                None => None,
            };
            bytes += match moved {
                Some(moved) => moved,
                None => self.alone(wanted, filler, unpacker)?,
            };
        }
        Ok(bytes)
    }

    /// Moves a blob from the first of its places where it is whole.
    fn alone(
        &self,
        wanted: &Wanted,
        filler: &mut Filler<'_, '_>,
        unpacker: &mut Unpacker,
    ) -> Result<u64> {
        let mut first = None;
        for place in self.index.places(wanted.position) {
            let error = match self.read(place.pack, place.offset, place.length) {
                Ok(mut sealed) => match self.open(wanted, place, &mut sealed, filler, unpacker)? {
                    Ok(moved) => return Ok(moved),
                    Err(why) => {
                        let (pack, _) = self.index.pack(place.pack);
                        let what = format!("a blob at {} of pack {pack}", place.offset);
                        self.source.0.damaged(what, &why)
                    }
                },
                Err(error) if error.is_of_one_object() => error,
                Err(error) => return Err(error),
            };
            worst(&mut first, error);
        }
        Err(first.unwrap_or_else(|| Error::Bug("a blob without a place".to_owned())))
    }

    fn read(&self, pack: u32, start: u32, length: u32) -> Result<BytesMut> {
        let (repo, store) = self.source;
        read_sealed((repo, store, self.index), pack, start, length)
    }

    /// Opens, verifies and hands on one blob. The inner error is of its content.
    fn open(
        &self,
        wanted: &Wanted,
        place: Place,
        sealed: &mut [u8],
        filler: &mut Filler<'_, '_>,
        unpacker: &mut Unpacker,
    ) -> Result<Result<u64, Invalid>> {
        let _large = self.large(u64::from(place.length) + u64::from(place.plain_length()))?;
        let plain = match unseal(self.source.0.key(), place.plain, sealed, unpacker) {
            Ok(plain) => plain,
            Err(why) => return Ok(Err(why)),
        };
        let id = Id::of(plain);
        if !id.0.starts_with(&wanted.record.prefix) {
            return Ok(Err(Invalid::new("its content does not match its id")));
        }
        filler.add(wanted.record.kind, id, plain)?;
        self.progress.bytes_done(plain.len() as u64);
        Ok(Ok(plain.len() as u64))
    }

    /// Memory for what is not usual.
    fn large(&self, bytes: u64) -> Result<Option<Permit>> {
        (bytes > USUAL)
            .then(|| self.budget.take(bytes, "one blob that is copied"))
            .transpose()
    }
}
