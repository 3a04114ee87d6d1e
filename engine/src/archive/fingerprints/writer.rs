//! A state being written.
//!
//! Order: temporary file, locked; header; segments of records as they fill; at the end segments of
//! entries and the trailer; sync; rename over the state before; sync of the directory. Whatever
//! ends it earlier leaves the state before as it was, and the temporary file is removed, by this
//! run or, after a kill, by the next one in the same directory: it tells those that live by their
//! lock. Does not: retry, or decide what is remembered. Fails with what the system says; a caller
//! gives the state up then, not the backup.

use std::{
    fs::{DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::storage::durable;

use super::{
    format::{ENTRY, Entry, GENERATION, MAGIC, Record, SEGMENT, TAG, Trailer},
    keys::{Keys, Kind, Seal},
    room,
};

/// A state that is not there yet.
pub(in crate::archive) struct Writer {
    dir: PathBuf,
    name: String,
    temporary: PathBuf,
    file: File,
    seal: Seal,
    /// Plain bytes of the segment being filled.
    segment: Vec<u8>,
    segments: u64,
    records: u64,
    table: Vec<Entry>,
    /// Bytes on disk.
    most: u64,
    published: bool,
}

impl Writer {
    /// Begins one in this directory, of at most so many bytes.
    pub(in crate::archive) fn create(dir: &Path, keys: &Keys, most: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let name = keys.file_name();
        room::sweep(dir)?;
        let mut generation = [0; GENERATION];
        rand::fill(&mut generation);
        let seal = keys.seal(&generation).map_err(io::Error::other)?;
        let temporary = dir.join(format!("{name}.{:016x}.tmp", rand::random::<u64>()));
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let mut writer = Self {
            dir: dir.to_owned(),
            name,
            temporary,
            file,
            seal,
            segment: Vec::with_capacity(SEGMENT + TAG),
            segments: 0,
            records: 0,
            table: Vec::new(),
            most,
            published: false,
        };
        writer.file.try_lock()?;
        writer.file.write_all(&[&MAGIC[..], &generation].concat())?;
        Ok(writer)
    }

    /// Files in it so far.
    pub(in crate::archive) fn files(&self) -> usize {
        self.table.len()
    }

    /// Adds a file. False if there is no room for all of its records; then it has none.
    pub(in crate::archive) fn add(
        &mut self,
        key: [u8; 16],
        count: usize,
        records: impl Iterator<Item = Record>,
    ) -> io::Result<bool> {
        let after = Trailer {
            records: self.records + count as u64,
            entries: self.table.len() as u64 + 1,
        };
        let fits = after.file_size(TAG).is_some_and(|size| size <= self.most);
        let first = self.records;
        if !fits || u32::try_from(count).is_err() {
            return Ok(false);
        }
        for record in records.take(count) {
            record.encode(&mut self.segment);
            self.records += 1;
            if self.segment.len() == SEGMENT {
                self.write(Kind::Records)?;
            }
        }
        let count = u32::try_from(self.records - first).unwrap_or_default();
        if count > 0 {
            self.table.push(Entry { key, first, count });
        }
        Ok(true)
    }

    /// Seals and writes what there is of a segment, filled up with zeros.
    fn write(&mut self, kind: Kind) -> io::Result<()> {
        if kind != Kind::Trailer {
            self.segment.resize(SEGMENT, 0);
        }
        self.seal
            .seal(kind, self.segments, &mut self.segment)
            .map_err(io::Error::other)?;
        self.segments += 1;
        self.file.write_all(&self.segment)?;
        self.segment.clear();
        Ok(())
    }

    /// Ends it and puts it in the place of the one before. Returns its bytes.
    pub(in crate::archive) fn publish(mut self) -> io::Result<u64> {
        if !self.segment.is_empty() {
            self.write(Kind::Records)?;
        }
        let mut table = std::mem::take(&mut self.table);
        table.sort_unstable();
        // A file that was read twice is remembered once.
        table.dedup_by_key(|entry| entry.key);
        for entry in &table {
            entry.encode(&mut self.segment);
            if self.segment.len() + ENTRY > SEGMENT {
                self.write(Kind::Entries)?;
            }
        }
        if !self.segment.is_empty() {
            self.write(Kind::Entries)?;
        }
        let trailer = Trailer {
            records: self.records,
            entries: table.len() as u64,
        };
        self.segment = trailer.encode();
        self.write(Kind::Trailer)?;
        durable::sync(&self.file)?;
        std::fs::rename(&self.temporary, self.dir.join(&self.name))?;
        self.published = true;
        durable::sync_dir(&self.dir)?;
        Ok(trailer.file_size(TAG).unwrap_or_default())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = std::fs::remove_file(&self.temporary)
        {
            tracing::debug!(%error, "the next run removes this temporary file");
        }
    }
}

/// Removes a state.
pub(in crate::archive) fn remove(dir: &Path, keys: &Keys) -> io::Result<()> {
    match std::fs::remove_file(dir.join(keys.file_name())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
