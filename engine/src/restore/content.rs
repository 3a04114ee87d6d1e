//! Writing the content of one file, blob by blob, with holes where asked.

use std::{os::fd::BorrowedFd, path::Path};

use rustix::io::Errno;

use super::{Failure, step, tree::Restorer};
use crate::{
    crypto::Id,
    error::Error,
    format::{index::BlobKind, tree::Node},
    repo::blobs::is_content,
    rows::FileOperation,
};

/// Zeros in whole blocks of this size become holes.
const BLOCK: usize = 4096;

impl Restorer<'_> {
    /// Writes all blobs of a file into a new, empty one. Returns its length.
    pub(super) fn content(
        &mut self,
        fd: BorrowedFd<'_>,
        path: &Path,
        node: &Node,
    ) -> Result<u64, Failure> {
        let mut end = 0;
        for blob in &node.content {
            if self.cancel.is_cancelled() {
                return Err(Failure::Fatal(Error::Cancelled));
            }
            let id = Id::parse(blob).ok_or_else(|| {
                Failure::Row(
                    FileOperation::Tree,
                    "its content list is malformed".to_owned(),
                )
            })?;
            let data = self.blobs.read(BlobKind::Data, &id).map_err(|error| {
                if is_content(&error) {
                    Failure::Row(FileOperation::Read, error.to_string())
                } else {
                    Failure::Fatal(error)
                }
            })?;
            let written = self.write(fd, &data, end);
            step(&self.request.target, FileOperation::Write, written)?;
            end += data.len() as u64;
            self.progress.bytes_done(data.len() as u64);
        }
        // The last bytes may be a hole.
        let sized = rustix::fs::ftruncate(fd, end);
        step(&self.request.target, FileOperation::Write, sized)?;
        if end != node.size {
            let message = format!(
                "it has {end} bytes in the snapshot, where its entry says {}",
                node.size
            );
            self.notes
                .add(path, FileOperation::ChangedWhileReading, message);
        }
        Ok(end)
    }

    fn write(&self, fd: BorrowedFd<'_>, data: &[u8], offset: u64) -> Result<(), Errno> {
        if !self.request.sparse {
            return write_all(fd, data, offset);
        }
        for (start, end) in data_runs(data, offset) {
            write_all(fd, &data[start..end], offset + start as u64)?;
        }
        Ok(())
    }
}

fn write_all(fd: BorrowedFd<'_>, mut data: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !data.is_empty() {
        match rustix::io::pwrite(fd, data, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(len) => {
                data = &data[len..];
                offset += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ranges of `data`, which starts at `offset` of the file, outside whole blocks of zeros.
fn data_runs(data: &[u8], offset: u64) -> Vec<(usize, usize)> {
    let first = (BLOCK - usize::try_from(offset % BLOCK as u64).unwrap_or(0)) % BLOCK;
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let end = if start < first { first } else { start + BLOCK }.min(data.len());
        let whole = end - start == BLOCK;
        if !(whole && is_zero(&data[start..end])) {
            match runs.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => runs.push((start, end)),
            }
        }
        start = end;
    }
    runs
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().fold(0, |all, byte| all | byte) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_leave_out_whole_aligned_blocks_of_zeros() {
        let mut data = vec![0; 5 * BLOCK + 10];
        assert_eq!(data_runs(&data, 0), [(5 * BLOCK, 5 * BLOCK + 10)]);
        data[BLOCK] = 1;
        data[2 * BLOCK] = 1;
        assert_eq!(
            data_runs(&data, 0),
            [(BLOCK, 3 * BLOCK), (5 * BLOCK, 5 * BLOCK + 10)]
        );
        // Blocks are those of the file, not of the blob.
        assert_eq!(data_runs(&data, 4095)[0], (0, 1 + 2 * BLOCK));
        assert!(data_runs(&[], 3).is_empty());
    }
}
