//! Fingerprints in a run: what is known of a file's blocks, and what is learnt.
//!
//! Does: open the state, say of a block that was read whether it is one remembered, collect records
//! of files that were stored, and write the successor when the snapshot is there. Does not: fail a
//! run. The one exception is a remembered id that turns out to be wrong: of all hits the first and
//! one in 256 are hashed in full, and a difference ends the run, because hits before it may be
//! wrong as well. The caller then removes the state and begins again without one.
//!
//! Memory: a fixed part for segments, the table of the state, and a table of the successor that
//! grows with the files that are remembered; all in the run's budget. Without it there are no
//! fingerprints, or fewer.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    Input, Run,
    budget::{Budget, Permit},
};
use crate::{
    archive::fingerprints::{
        Cut, ENTRY_MEMORY, Keys, Print, Reader, Record, SEGMENT, StateReport, StateRequest, Track,
        Volume, Writer, make_room,
    },
    crypto::Id,
    error::{Error, Result},
    format::index::BlobKind,
};

/// Bytes for segments: the writer's, and one for each of the files being read.
const FIXED: u64 = 8 * SEGMENT as u64;
/// Files the successor's table has room for at first.
const FIRST: usize = 1024;

/// The fingerprints of one run.
pub(in crate::archive) struct Prints {
    request: StateRequest,
    keys: Keys,
    reader: Option<Reader>,
    successor: Mutex<Successor>,
    budget: Arc<Budget>,
    /// Which hits are hashed in full; differs from run to run.
    sample: u8,
    sampled: AtomicBool,
    blocks: AtomicU64,
    bytes: AtomicU64,
    looked_up: AtomicU64,
    problem: Mutex<Option<String>>,
}

struct Successor {
    writer: Option<Writer>,
    /// It cannot be written, or there is no memory.
    given_up: bool,
    room: usize,
    memory: Permit,
}

/// A block that is in the repository, or on its way there.
pub(super) struct Stored {
    pub(super) id: Id,
    pub(super) print: Option<Print>,
    /// It was found by its fingerprint.
    pub(super) hit: bool,
}

/// What is remembered of a block but for its id. One without length is of nothing to be remembered.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    print: Print,
    pub(super) offset: u64,
    pub(super) length: u32,
    cut: Cut,
    pub(super) hit: bool,
}

impl Mark {
    /// Of nothing.
    pub(super) const NONE: Self = Self {
        print: Print([0; 32]),
        offset: 0,
        length: 0,
        cut: Cut::Arithmetic,
        hit: false,
    };

    /// Of a stored block.
    pub(super) fn of(stored: &Stored, offset: u64, length: usize, cut: Cut) -> Self {
        match (stored.print, u32::try_from(length)) {
            (Some(print), Ok(length)) => Self {
                print,
                offset,
                length,
                cut,
                hit: stored.hit,
            },
            _ => Self::NONE,
        }
    }

    /// All of it.
    pub(super) fn record(&self, id: Id) -> Record {
        Record {
            offset: self.offset,
            length: self.length,
            cut: self.cut,
            print: self.print,
            id: id.0,
        }
    }
}

impl Prints {
    /// Opens the state, if one is asked for. `None`: there is to be none.
    pub(super) fn open(input: &Input<'_>, budget: &Arc<Budget>) -> Result<Option<Self>> {
        let Some(request) = input.state else {
            return Ok(None);
        };
        let repo = input.repo;
        let volume = Volume {
            repository: repo.id(),
            polynomial: &repo.config().chunker_polynomial,
            host: input.host,
            paths: input.paths,
        };
        let Some(memory) = budget.try_take(FIXED) else {
            tracing::warn!("no memory for fingerprints");
            return Ok(None);
        };
        let mut prints = Self {
            request: request.clone(),
            keys: Keys::new(repo.key(), &volume)?,
            reader: None,
            successor: Mutex::new(Successor {
                writer: None,
                given_up: false,
                room: 0,
                memory,
            }),
            budget: Arc::clone(budget),
            sample: rand::random(),
            sampled: AtomicBool::new(false),
            blocks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            looked_up: AtomicU64::new(0),
            problem: Mutex::new(None),
        };
        if input.distrusted.load(Ordering::Relaxed) {
            prints.trouble(
                "the state was not used",
                "it said of a block that it was another",
            );
            return Ok(Some(prints));
        }
        match Reader::open(&request.dir, &prints.keys, budget.left() / 4) {
            Ok(Some(reader)) => match budget.try_take(reader.memory()) {
                Some(table) => {
                    prints.touch(&reader);
                    prints.successor().memory.join(table);
                    prints.reader = Some(reader);
                }
                None => prints.trouble("the state was not used", "no memory for its table"),
            },
            Ok(None) => {}
            Err(why) => prints.trouble("the state was not used", why),
        }
        Ok(Some(prints))
    }

    fn successor(&self) -> MutexGuard<'_, Successor> {
        self.successor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what went wrong first.
    fn trouble(&self, what: &str, why: impl std::fmt::Display) {
        let text = format!("{what}: {why}");
        tracing::warn!(dir = %self.request.dir.display(), "{text}");
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.get_or_insert(text);
    }

    /// Notes that a state is of use: others go before it.
    fn touch(&self, reader: &Reader) {
        if let Err(error) = reader.touch() {
            self.trouble("when the state was used cannot be noted", error);
        }
    }

    /// What is known of a file.
    pub(super) fn track(&self, path: &Path) -> Option<Track> {
        self.reader.as_ref()?.track(&self.keys.path(path))
    }

    /// A file is the same as before by its metadata: what is known of it stays known.
    pub(super) fn keep(&self, path: &Path) {
        if let Some(reader) = &self.reader
            && let Some(track) = reader.track(&self.keys.path(path))
        {
            reader.keep(&track);
        }
    }

    /// Records that begin in a range, which must not lie before those taken already.
    pub(super) fn between(&self, track: &mut Track, from: u64, to: u64, found: &mut Vec<Record>) {
        found.clear();
        if let Some(reader) = &self.reader {
            reader.take(track, from, to, found);
        }
    }

    /// The record that begins at a place.
    pub(super) fn at(&self, track: &mut Track, at: u64) -> Option<Record> {
        self.reader.as_ref()?.at(track, at)
    }

    pub(super) fn print(&self, data: &[u8]) -> Print {
        self.keys.print(data)
    }

    pub(super) fn hasher(&self) -> blake3::Hasher {
        self.keys.hasher()
    }

    /// The blob of a block that was read just now, if it is the one remembered and that blob is in
    /// the index.
    pub(super) fn remembered(
        &self,
        run: &Run<'_>,
        data: &[u8],
        print: Print,
        record: &Record,
    ) -> Result<Option<Id>> {
        self.looked_up.fetch_add(1, Ordering::Relaxed);
        let length = data.len() as u64;
        if record.print != print || u64::from(record.length) != length {
            return Ok(None);
        }
        let id = Id(record.id);
        let place = run.index.use_blob(BlobKind::Data, &id);
        if place.is_none_or(|place| u64::from(place.plain_length()) != length) {
            return Ok(None);
        }
        let first =
            !self.sampled.load(Ordering::Relaxed) && !self.sampled.swap(true, Ordering::Relaxed);
        if (first || print.0[0] == self.sample) && Id::of(data) != id {
            run.input.distrusted.store(true, Ordering::Relaxed);
            return Err(Error::Damaged {
                location: run.repo.location(),
                what: "the local state of fingerprints".to_owned(),
                message: format!("a block is remembered as {id}, which it is not"),
            });
        }
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(Some(id))
    }

    /// Remembers a file whose content is stored. `known` is what was remembered before.
    pub(super) fn learn(&self, path: &Path, known: Option<&Track>, marks: &[Mark], ids: &[Id]) {
        let told = |(mark, _): &(&Mark, &Id)| mark.length > 0;
        let records = marks.iter().zip(ids).filter(told);
        let count = records.clone().count();
        if let (Some(reader), Some(track)) = (&self.reader, known)
            && reader.count(track) == count
            && records.clone().all(|(mark, _)| mark.hit)
        {
            return reader.keep(track);
        }
        let records = records.map(|(mark, id)| mark.record(*id));
        let mut successor = self.successor();
        self.add(&mut successor, self.keys.path(path), count, records);
    }

    fn add(
        &self,
        successor: &mut Successor,
        key: [u8; 16],
        count: usize,
        records: impl Iterator<Item = Record>,
    ) {
        if successor.given_up || count == 0 {
            return;
        }
        match successor.try_add(self, key, count, records) {
            Ok(true) => {}
            Ok(false) => self.trouble(
                "not all blocks are remembered",
                "the state would become too large, or there is no memory",
            ),
            Err(error) => {
                // Removes the temporary file.
                successor.writer = None;
                successor.given_up = true;
                self.trouble("the state cannot be written", error);
            }
        }
    }

    /// Puts the successor into place. To be called when the snapshot is in the repository.
    pub(in crate::archive) fn publish(self) -> StateReport {
        let written = self.succeed().unwrap_or_else(|error| {
            self.trouble("the state cannot be written", error);
            None
        });
        if self.reader.as_ref().is_some_and(Reader::damaged) {
            self.trouble("the state was not used", "a part of it is not authentic");
        }
        StateReport {
            blocks: self.blocks.into_inner(),
            bytes: self.bytes.into_inner(),
            looked_up: self.looked_up.into_inner(),
            written,
            problem: self
                .problem
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Removes states of other volumes if there are too many.
    fn make_room(&self) {
        let request = &self.request;
        if let Err(error) = make_room(&request.dir, &self.keys.file_name(), request.bytes) {
            self.trouble("old states cannot be removed", error);
        }
    }

    fn succeed(&self) -> io::Result<Option<u64>> {
        let mut successor = self.successor();
        let all_kept = self.reader.as_ref().is_some_and(Reader::all_kept);
        if successor.given_up {
            return Ok(None);
        }
        if let (None, Some(reader), true) = (&successor.writer, &self.reader, all_kept) {
            self.touch(reader);
            return Ok(None);
        }
        if let Some(reader) = &self.reader {
            for (key, track) in reader
                .kept()
                .into_iter()
                .filter_map(|file| reader.file(file))
            {
                let count = reader.count(&track);
                self.add(&mut successor, key, count, reader.rest(track));
            }
        }
        match successor.writer.take().filter(|writer| writer.files() > 0) {
            Some(writer) => {
                let written = writer.publish()?;
                self.make_room();
                Ok(Some(written))
            }
            // Nothing is remembered any more.
            None if self.reader.is_some() && !successor.given_up => {
                crate::archive::fingerprints::remove(&self.request.dir, &self.keys)?;
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

impl Successor {
    fn try_add(
        &mut self,
        prints: &Prints,
        key: [u8; 16],
        count: usize,
        records: impl Iterator<Item = Record>,
    ) -> io::Result<bool> {
        let writer = if let Some(writer) = &mut self.writer {
            writer
        } else {
            let request = &prints.request;
            let writer = Writer::create(&request.dir, &prints.keys, request.bytes)?;
            self.writer.insert(writer)
        };
        if writer.files() == self.room {
            let more = self.room.max(FIRST);
            // While it grows the old table is there as well.
            let bytes = more as u64 * ENTRY_MEMORY * 2;
            let Some(memory) = prints.budget.try_take(bytes) else {
                return Ok(false);
            };
            self.memory.join(memory);
            self.room += more;
        }
        writer.add(key, count, records)
    }
}
