//! Reading one file of a snapshot, or a directory as an archive.

use std::{io::Write, path::Path};

use super::{
    early::reading,
    path::{Found, find},
    tar::Tar,
};
use crate::{
    Cancel, Progress,
    error::{Error, Result},
    format::{Invalid, index::BlobKind},
    index::Packs,
    repo::{Repository, Snapshot, blobs::BlobReader},
};

/// Writes the content of a file, or of a directory as a tar archive, and returns its length. Every
/// blob is compared with its id before it is written, so what was written is right up to where an
/// error ends it. Blocks: call it on a thread of its own.
///
/// # Errors
/// `PathNotFound`; `InvalidConfig` if it is neither; `Damaged`, `Output`, `MemoryLimit`, `Locked`, `Cancelled`, and what
/// the store says.
pub fn dump(
    repo: &Repository,
    snapshot: &Snapshot,
    path: &Path,
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
            let blobs = BlobReader::new(repo, &store, &index);
            content((repo, blobs), snapshot, path, out, progress, cancel)
        },
    )
}

fn content(
    (repo, mut blobs): (&Repository, BlobReader<'_>),
    snapshot: &Snapshot,
    path: &Path,
    out: &mut dyn Write,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<u64> {
    let no_file = |what: &str| Error::InvalidConfig {
        what: "path in a snapshot",
        message: format!(
            "{} is a {what}, and only files and directories have content",
            path.display()
        ),
    };
    let node = match find(repo, &mut blobs, snapshot, path)? {
        Found::Dir(tree) => {
            let length = Tar {
                repo,
                blobs: &mut blobs,
                out,
                progress,
                cancel,
            }
            .write(path, &tree)?;
            out.flush().map_err(|source| Error::Output { source })?;
            return Ok(length);
        }
        Found::Entry(node) if node.kind != "file" => {
            return Err(no_file(super::EntryKind::of(&node.kind).as_str()));
        }
        Found::Entry(node) => node,
    };
    progress.found(1, node.size);
    let mut length = 0;
    for blob in &node.content {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let why = Invalid::new("its content list is malformed");
        let id = blob.ok_or_else(|| repo.damaged(format!("entry {}", path.display()), &why))?;
        let data = blobs.read(BlobKind::Data, &id)?;
        out.write_all(&data)
            .map_err(|source| Error::Output { source })?;
        length += data.len() as u64;
        progress.bytes_done(data.len() as u64);
    }
    out.flush().map_err(|source| Error::Output { source })?;
    progress.file_done();
    Ok(length)
}
