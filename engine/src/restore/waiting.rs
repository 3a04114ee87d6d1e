//! Verified blobs that wait for their turn to be written.
//!
//! A file system lets one thread at a time write into a file, and the others spin or sleep until it
//! has. A worker that finds another one writing into its file keeps the blob, a few at most, and
//! goes on with the next: by the time it has opened that, the other is done. Nothing waits longer
//! than the range it came with.

use std::{mem, ops::Range, sync::Arc};

use super::file::File;

/// The most bytes of a worker that wait.
pub(super) const MOST: usize = 1 << 20;

/// What waits, of one worker.
#[derive(Default)]
pub(super) struct Waiting {
    bytes: Vec<u8>,
    blobs: Vec<Blob>,
}

/// A blob that waits, its bytes within those of all.
pub(super) struct Blob {
    pub(super) file: Arc<File>,
    /// Where in the file.
    pub(super) at: u64,
    pub(super) bytes: Range<usize>,
}

impl Waiting {
    /// Whether a blob of this length may wait, too.
    pub(super) fn has_room(&self, length: usize, most: usize) -> bool {
        self.bytes.len() + length <= most
    }

    /// Has a blob wait.
    pub(super) fn keep(&mut self, file: &Arc<File>, at: u64, plain: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(plain);
        self.blobs.push(Blob {
            file: Arc::clone(file),
            at,
            bytes: start..self.bytes.len(),
        });
    }

    /// All that waited, in the order in which it came. Give the bytes back with [`Self::reuse`].
    pub(super) fn take(&mut self) -> (Vec<u8>, Vec<Blob>) {
        (mem::take(&mut self.bytes), mem::take(&mut self.blobs))
    }

    /// Saves making the buffer anew.
    pub(super) fn reuse(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.bytes = bytes;
    }
}
