//! A state being looked up in.
//!
//! Does: open it, find the records of a file, and read them in the order of their offsets, a
//! segment at a time. Does not: hold more than the table of files (36 bytes each), one segment for
//! each file being read, and one more. The file may be anything: what is not authentic is as if it
//! were not there.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use rustix::fs::OFlags;

use super::{
    format::{
        self, ENTRIES, Entry, GENERATION, HEADER, MAGIC, RECORDS, Record, SEGMENT, TAG, TRAILER,
        Trailer,
    },
    keys::{Keys, Kind, Seal},
};

type Segment = Arc<Vec<u8>>;

/// A state.
pub(in crate::archive) struct Reader {
    file: File,
    seal: Seal,
    table: Vec<Entry>,
    /// Files whose records are to be in the successor as they are.
    kept: Vec<AtomicBool>,
    records: u64,
    /// Small files share segments.
    last: Mutex<Option<(u64, Segment)>>,
    damaged: AtomicBool,
}

/// A file's records, from a place on.
pub(in crate::archive) struct Track {
    /// Which file of the state.
    file: usize,
    next: u64,
    end: u64,
    segment: Option<(u64, Segment)>,
}

impl Reader {
    /// Opens the state of this volume. `None` if there is none. Its table may take `room` bytes of
    /// memory.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(in crate::archive) fn open(
        dir: &Path,
        keys: &Keys,
        room: u64,
    ) -> Result<Option<Self>, String> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(dir.join(keys.file_name()));
        match file {
            Ok(file) => Self::of(file, keys, room).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn of(file: File, keys: &Keys, room: u64) -> Result<Self, String> {
        let said = |error: io::Error| error.to_string();
        let meta = file.metadata().map_err(said)?;
        let fixed = (HEADER + TRAILER + TAG) as u64;
        let Some(at) = meta.len().checked_sub((TRAILER + TAG) as u64) else {
            return Err("it is cut off".to_owned());
        };
        if !meta.is_file() || meta.len() < fixed {
            return Err("it is no state".to_owned());
        }
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).map_err(said)?;
        let mut generation = [0; GENERATION];
        generation.copy_from_slice(&header[MAGIC.len()..]);
        if !header.starts_with(&MAGIC) {
            return Err("it is of another version, or no state".to_owned());
        }
        let seal = keys.seal(&generation).map_err(|error| error.to_string())?;
        let segments = (meta.len() - fixed) / (SEGMENT + TAG) as u64;
        let mut last = vec![0; TRAILER + TAG];
        file.read_exact_at(&mut last, at).map_err(said)?;
        let trailer = Some(last)
            .filter(|_| meta.len() == fixed + segments * (SEGMENT + TAG) as u64)
            .and_then(|mut last| {
                seal.open(Kind::Trailer, segments, &mut last)
                    .then_some(last)
            })
            .and_then(|last| Trailer::decode(&last))
            .filter(|trailer| trailer.file_size(TAG) == Some(meta.len()))
            .ok_or("its end is not authentic")?;
        let needed = trailer.entries.saturating_mul(format::ENTRY_MEMORY + 5);
        if needed > room {
            return Err(format!("its table takes {needed} bytes of memory"));
        }
        let mut reader = Self {
            file,
            seal,
            table: Vec::new(),
            kept: Vec::new(),
            records: trailer.records,
            last: Mutex::new(None),
            damaged: AtomicBool::new(false),
        };
        reader.table = reader.table(&trailer).ok_or("its table is not authentic")?;
        reader
            .kept
            .resize_with(reader.table.len(), AtomicBool::default);
        Ok(reader)
    }

    /// Notes that it was of use just now; see `room.rs`.
    pub(in crate::archive) fn touch(&self) -> io::Result<()> {
        self.file.set_modified(SystemTime::now())
    }

    fn table(&self, trailer: &Trailer) -> Option<Vec<Entry>> {
        let mut left = usize::try_from(trailer.entries).ok()?;
        let (first, count) = trailer.segments();
        let mut table: Vec<Entry> = Vec::with_capacity(left);
        for number in first..first + count {
            let plain = self.segment(Kind::Entries, number)?;
            let here = left.min(ENTRIES);
            table.extend(format::decode_entries(&plain, here, trailer.records)?);
            left -= here;
        }
        table.is_sorted_by(|a, b| a.key < b.key).then_some(table)
    }

    fn segment(&self, kind: Kind, number: u64) -> Option<Vec<u8>> {
        let mut segment = vec![0; SEGMENT + TAG];
        let at = HEADER as u64 + number * (SEGMENT + TAG) as u64;
        let read = self.file.read_exact_at(&mut segment, at);
        if read.is_ok() && self.seal.open(kind, number, &mut segment) {
            return Some(segment);
        }
        // Once: a state that was changed on purpose may have many.
        if !self.damaged.swap(true, Ordering::Relaxed) {
            tracing::warn!(number, error = ?read.err(), "a part of the fingerprints is not authentic: blocks are hashed again");
        }
        None
    }

    /// Whether a part of it turned out not to be authentic.
    pub(in crate::archive) fn damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Bytes of memory it takes as long as it is open.
    pub(in crate::archive) fn memory(&self) -> u64 {
        (self.table.len() as u64) * (format::ENTRY_MEMORY + 5)
    }

    /// The records of a file.
    pub(in crate::archive) fn track(&self, key: &[u8; 16]) -> Option<Track> {
        let file = self
            .table
            .binary_search_by(|entry| entry.key.cmp(key))
            .ok()?;
        let entry = self.table.get(file)?;
        Some(Track {
            file,
            next: entry.first,
            end: (entry.first + u64::from(entry.count)).min(self.records),
            segment: None,
        })
    }

    /// The successor is to have the records of this file as they are.
    pub(in crate::archive) fn keep(&self, track: &Track) {
        if let Some(kept) = self.kept.get(track.file) {
            kept.store(true, Ordering::Relaxed);
        }
    }

    /// How many records a file has.
    pub(in crate::archive) fn count(&self, track: &Track) -> usize {
        let entry = self.table.get(track.file);
        entry.map_or(0, |entry| {
            usize::try_from(entry.count).unwrap_or(usize::MAX)
        })
    }

    /// Whether all files are to be kept as they are.
    pub(in crate::archive) fn all_kept(&self) -> bool {
        !self.damaged() && self.kept.iter().all(|kept| kept.load(Ordering::Relaxed))
    }

    /// The files to be kept, in the order in which their records lie.
    pub(in crate::archive) fn kept(&self) -> Vec<u32> {
        let kept = (0_u32..).zip(&self.kept);
        let mut kept: Vec<u32> = kept
            .filter(|(_, kept)| kept.load(Ordering::Relaxed))
            .map(|(file, _)| file)
            .collect();
        kept.sort_unstable_by_key(|file| self.entry(*file).map(|entry| entry.first));
        kept
    }

    fn entry(&self, file: u32) -> Option<&Entry> {
        self.table.get(usize::try_from(file).ok()?)
    }

    /// The path's key and the records of one of the files.
    pub(in crate::archive) fn file(&self, file: u32) -> Option<([u8; 16], Track)> {
        let entry = self.entry(file)?;
        Some((entry.key, self.track(&entry.key)?))
    }

    /// The record at the track's place, which stays there. What cannot be read is skipped.
    fn peek(&self, track: &mut Track) -> Option<Record> {
        while track.next < track.end {
            let number = track.next / RECORDS as u64;
            if track.segment.as_ref().is_none_or(|(n, _)| *n != number) {
                track.segment = Some((number, self.shared(number)));
            }
            let at = usize::try_from(track.next % RECORDS as u64).unwrap_or_default();
            let plain = track.segment.as_ref().map(|(_, segment)| segment);
            match plain.and_then(|plain| format::record_at(plain, at)) {
                Some(record) => return Some(record),
                None if plain.is_none_or(|plain| plain.is_empty()) => {
                    track.next = (number + 1) * RECORDS as u64;
                }
                None => track.next += 1,
            }
        }
        None
    }

    /// A segment of records; an empty one if it is not authentic.
    fn shared(&self, number: u64) -> Segment {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, segment)) = last.as_ref().filter(|(n, _)| *n == number) {
            return Arc::clone(segment);
        }
        let segment = Arc::new(self.segment(Kind::Records, number).unwrap_or_default());
        *last = Some((number, Arc::clone(&segment)));
        segment
    }

    /// All records that are left.
    pub(in crate::archive) fn rest(&self, mut track: Track) -> impl Iterator<Item = Record> {
        std::iter::from_fn(move || {
            let record = self.peek(&mut track)?;
            track.next += 1;
            Some(record)
        })
    }

    /// Skips what begins before `from`, and takes what begins before `to`.
    pub(in crate::archive) fn take(
        &self,
        track: &mut Track,
        from: u64,
        to: u64,
        found: &mut Vec<Record>,
    ) {
        while let Some(record) = self.peek(track).filter(|record| record.offset < to) {
            if record.offset >= from {
                found.push(record);
            }
            track.next += 1;
        }
    }

    /// Skips what begins before `at`, and returns what begins there.
    pub(in crate::archive) fn at(&self, track: &mut Track, at: u64) -> Option<Record> {
        while let Some(record) = self.peek(track) {
            if record.offset >= at {
                return (record.offset == at).then_some(record);
            }
            track.next += 1;
        }
        None
    }
}

impl Track {
    /// The place, to come back to.
    pub(in crate::archive) fn place(&self) -> u64 {
        self.next
    }

    /// Goes back to a place.
    pub(in crate::archive) fn go_back(&mut self, place: u64) {
        self.next = place;
    }
}
