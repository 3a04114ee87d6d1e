//! Reading a part of one file.
//!
//! Does: find the blobs that hold the bytes asked for by the lengths the index claims, read only
//! those, and compare each with its id. A blob that is longer or shorter than claimed is `Damaged`,
//! so no byte comes out at a wrong place. Holes are stored as zeros and read as zeros; a blob that
//! follows itself is read once.
//!
//! What lies beyond the end of the file is not there: fewer bytes, or none, are no error, as with `pread`.

use std::{io::Write, path::Path};

use super::{
    early::reading,
    path::{Found, find},
};
use crate::{
    Cancel, Progress,
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind},
    index::Packs,
    repo::{Repository, Snapshot, blobs::BlobReader},
};

/// Ids between two looks whether to go on.
const LOOK: usize = 4096;

/// Writes at most `length` bytes of a file from `offset` on, and returns how many there were: fewer
/// at the end of the file, none beyond it. Every blob is compared with its id before anything of it
/// is written, so what was written is right up to where an error ends it. Blocks: call it on a
/// thread of its own.
///
/// # Errors
/// `PathNotFound`; `InvalidConfig` if it is no file; `Damaged`, `Output`, `MemoryLimit`, `Locked`, `Cancelled`, and what the
/// store says.
pub fn dump_range(
    repo: &Repository,
    snapshot: &Snapshot,
    path: &Path,
    (offset, length): (u64, u64),
    out: &mut dyn Write,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<u64> {
    reading(
        repo,
        cancel,
        |reader| {
            let index = reader.index_for_blobs(Packs::All)?;
            Ok((index, reader.store.clone()))
        },
        |(index, _)| index,
        |(index, store)| {
            let mut blobs = BlobReader::new(repo, &store, &index);
            let node = match find(repo, &mut blobs, snapshot, path)? {
                Found::Entry(node) if node.kind == "file" => node,
                Found::Entry(_) | Found::Dir(_) => {
                    return Err(Error::InvalidConfig {
                        what: "path in a snapshot",
                        message: format!("{} is no file: only files have ranges", path.display()),
                    });
                }
            };
            let end = offset.saturating_add(length);
            let (mut at, mut written) = (0_u64, 0);
            let mut last: Option<(Id, Vec<u8>)> = None;
            for (number, blob) in node.content.iter().enumerate() {
                if at >= end {
                    break;
                }
                if number % LOOK == 0 && cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let why = Invalid::new("its content list is malformed");
                let id =
                    blob.ok_or_else(|| repo.damaged(format!("entry {}", path.display()), &why))?;
                let begins = at;
                at = at.saturating_add(u64::from(blobs.plain_length(BlobKind::Data, &id)?));
                let Some((from, to)) = overlap((begins, at), (offset, end)) else {
                    continue;
                };
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let data = match last.take() {
                    Some((known, data)) if known == id => data,
                    _ => blobs.read(BlobKind::Data, &id)?,
                };
                let why = Invalid::new("it is shorter than the index says");
                let part = data
                    .get(from..to)
                    .ok_or_else(|| repo.damaged(format!("blob {id}"), &why))?;
                out.write_all(part)
                    .map_err(|source| Error::Output { source })?;
                written += part.len() as u64;
                progress.bytes_done(part.len() as u64);
                last = Some((id, data));
            }
            out.flush().map_err(|source| Error::Output { source })?;
            Ok(written)
        },
    )
}

/// Which bytes of a blob are inside a range, counted from the blob's beginning.
fn overlap((begins, ends): (u64, u64), (from, to): (u64, u64)) -> Option<(usize, usize)> {
    let (first, last) = (from.max(begins), to.min(ends));
    if first >= last {
        return None;
    }
    let inside = |at: u64| usize::try_from(at - begins).ok();
    Some((inside(first)?, inside(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_blobs() {
        let blob = (100, 200);
        assert_eq!(overlap(blob, (0, 100)), None);
        assert_eq!(overlap(blob, (200, 300)), None);
        assert_eq!(overlap(blob, (150, 150)), None);
        assert_eq!(overlap(blob, (0, 101)), Some((0, 1)));
        assert_eq!(overlap(blob, (199, 900)), Some((99, 100)));
        assert_eq!(overlap(blob, (0, u64::MAX)), Some((0, 100)));
        assert_eq!(overlap((5, 5), (0, 9)), None);
    }
}
