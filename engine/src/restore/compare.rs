//! Comparing a file that is there with what it should be, blob by blob, by hash.
//!
//! Times and sizes decide nothing: a blob's bytes in the file either have its id as their SHA-256,
//! or are written. Holes are not read.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
};

use rustix::{
    fs::{OFlags, SeekFrom},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{Failure, file::File, open::open_same, plan::Want, run::Run};
use crate::{crypto::Id, rows::FileOperation};

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Content compared by one worker at a time.
pub(super) const BATCH: u64 = 16 << 20;

/// Some of a file's blobs, with their places.
pub(super) struct Comparison {
    pub(super) file: Arc<File>,
    pub(super) blobs: Vec<Want>,
}

/// What a thread needs to compare.
pub(super) struct Comparer {
    buffer: Vec<u8>,
    /// The id of so many zeros, as asked last.
    zeros: (u64, Id),
}

impl Comparer {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            zeros: (0, Id::of(b"")),
        }
    }

    /// Compares, and returns what must be fetched.
    pub(super) fn compare(&mut self, run: &Run<'_>, comparison: Comparison) -> Vec<Want> {
        let Comparison { file, blobs } = comparison;
        match self.missing(run, &file, blobs) {
            Ok(missing) => missing,
            Err((failure, blobs)) => {
                run.fail_file(&file, failure);
                for _ in 0..blobs {
                    run.done(&file);
                }
                Vec::new()
            }
        }
    }

    /// On failure, how many blobs are not done.
    fn missing(
        &mut self,
        run: &Run<'_>,
        file: &Arc<File>,
        blobs: Vec<Want>,
    ) -> Result<Vec<Want>, (Failure, usize)> {
        let Some(old) = &file.old else {
            return Ok(blobs);
        };
        let fd = run
            .open_dir(&file.dir)
            .and_then(|dir| open_same(&dir, file, old, OFlags::RDONLY))
            .map_err(|error| (Failure::new(FileOperation::Open, error), blobs.len()))?;
        let mut missing = Vec::new();
        for blob in blobs {
            if run.go().is_err() {
                break;
            }
            let length = u64::from(blob.place.plain_length());
            let within = blob
                .at
                .checked_add(length)
                .is_some_and(|end| end <= old.size);
            // What cannot be read is written.
            if within
                && self
                    .is_same(fd.as_fd(), blob.at, length, &blob.id)
                    .unwrap_or(false)
            {
                run.progress.bytes_done(length);
                run.done(file);
            } else {
                file.needs(blob.place.plain_length());
                missing.push(blob);
            }
        }
        Ok(missing)
    }

    fn is_same(
        &mut self,
        fd: BorrowedFd<'_>,
        at: u64,
        length: u64,
        id: &Id,
    ) -> Result<bool, Errno> {
        self.buffer.resize(PIECE, 0);
        let end = at + length;
        let hole = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
            Ok(data) => data >= end,
            // There is no data behind it.
            Err(Errno::NXIO) => true,
            Err(_) => false,
        };
        if hole {
            return Ok(self.zeros(length) == *id);
        }
        let mut hash = Sha256::new();
        let mut offset = at;
        while offset < end {
            let most = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
            let read = match rustix::io::pread(fd, &mut self.buffer[..most], offset) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            hash.update(&self.buffer[..read]);
            offset += read as u64;
        }
        Ok(Id(hash.finalize().into()) == *id)
    }

    fn zeros(&mut self, length: u64) -> Id {
        if self.zeros.0 != length {
            let mut hash = Sha256::new();
            let piece = vec![0; PIECE];
            let mut left = length;
            while left > 0 {
                let part = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                hash.update(&piece[..part]);
                left -= part as u64;
            }
            self.zeros = (length, Id(hash.finalize().into()));
        }
        self.zeros.1
    }
}
