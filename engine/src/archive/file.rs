//! Reading one file: opened before its turn, counted, and compared with itself afterwards.
//!
//! Order: the metadata was read when the file was opened; then its content, at most as many bytes as the
//! metadata says, so that a file that keeps growing ends; then its metadata again. A difference is a row.
//! A read error is a row, and the file is then missing from the snapshot.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::walk::Shared;
use crate::{files::meta::Meta, rows::FileOperation};

/// Bytes read at once: rustic asks for small pieces.
const BUFFER: usize = 128 << 10;

/// A file whose content may be read. One that is dropped unread was found unchanged.
#[derive(Debug)]
pub(crate) struct Opened(Option<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    path: PathBuf,
    meta: Meta,
    shared: Arc<Shared>,
}

impl Opened {
    pub(super) fn new(fd: OwnedFd, path: PathBuf, meta: Meta, shared: Arc<Shared>) -> Self {
        Self(Some(Inner {
            file: File::from(fd),
            path,
            meta,
            shared,
        }))
    }

    pub(crate) fn reader(mut self) -> Reader {
        Reader {
            left: self.0.as_ref().map_or(0, |inner| inner.meta.size),
            inner: self.0.take(),
            buffer: Vec::new(),
            at: 0,
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take()
            && !inner.shared.cancel.is_cancelled()
        {
            inner
                .shared
                .counts
                .unchanged
                .fetch_add(1, Ordering::Relaxed);
            inner.shared.progress.bytes_done(inner.meta.size);
            inner.shared.progress.file_done();
        }
    }
}

/// The content of a file.
pub(crate) struct Reader {
    inner: Option<Inner>,
    left: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.at = 0;
        let Some(inner) = &mut self.inner else {
            return Ok(());
        };
        if inner.shared.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let want = self.left.min(BUFFER as u64);
        let read = (&mut inner.file).take(want).read_to_end(&mut self.buffer);
        match read {
            Ok(0) => self.finish(),
            Ok(_) => {
                self.left -= self.buffer.len() as u64;
                inner.shared.progress.bytes_done(self.buffer.len() as u64);
            }
            Err(error) => {
                inner
                    .shared
                    .rows
                    .add(&inner.path, FileOperation::Read, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Compares the file with what it was when it was opened.
    fn finish(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        inner.shared.progress.file_done();
        let message = match Meta::of(&inner.file) {
            Ok(now) if now.unchanged_since(&inner.meta) && self.left == 0 => return,
            Ok(now) if now.size != inner.meta.size => {
                format!("its size went from {} to {}", inner.meta.size, now.size)
            }
            Ok(_) => "it was written to, or its metadata changed".to_owned(),
            Err(error) => io::Error::from(error).to_string(),
        };
        inner
            .shared
            .rows
            .add(&inner.path, FileOperation::ChangedWhileReading, message);
    }
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        let len = (self.buffer.len() - self.at).min(buf.len());
        buf[..len].copy_from_slice(&self.buffer[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
