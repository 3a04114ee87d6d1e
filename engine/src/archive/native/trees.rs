//! Trees, written as their directories become complete.

use std::{
    io::Write as _,
    sync::{Arc, PoisonError},
};

use sha2::{Digest as _, Sha256};

use super::{
    Run,
    budget::Permit,
    count,
    dirs::{Directory, Entries},
    packer::{OpenPack, room},
    squeeze::Squeezer,
};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::index::BlobKind,
    index::MAX_BLOB,
    rows::FileOperation,
};

/// What the entry of a directory says of which something is not in the snapshot. A restore deletes
/// nothing there.
const NOT_WHOLE: &str = "not everything in this directory was backed up";

/// Directories of so many bytes are hashed and compressed piece by piece.
const LARGE: u64 = 4 << 20;

/// Writes a complete directory, and those above that it completes.
pub(super) fn complete(
    run: &Run<'_>,
    mut dir: Arc<Directory>,
    squeezer: &mut Squeezer,
    json: &mut Vec<u8>,
) -> Result<()> {
    loop {
        let entries = dir.take();
        if entries.overfull {
            let message =
                format!("some entries are left out: a directory can have {MAX_BLOB} bytes of them");
            let rows = run.input.rows;
            rows.add(&dir.path, FileOperation::Unsupported, message);
            dir.leaves_out();
        }
        let id = if run.level.is_some() && entries.bytes >= LARGE {
            store_large(run, &entries)?
        } else {
            let _memory = run.budget.take(entries.bytes, "one directory")?;
            json.clear();
            entries.each(|piece| {
                json.extend_from_slice(piece);
                Ok(())
            })?;
            drop(entries);
            let id = store(run, json, squeezer)?;
            if json.capacity() > 1 << 20 {
                *json = Vec::new();
            }
            id
        };
        let Some((above, slot)) = dir.parent.clone() else {
            let root = (id, dir.is_whole());
            *run.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(root);
            return Ok(());
        };
        let node = dir
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut part = Vec::new();
        if let Some(mut node) = node {
            node.subtree = Some(id);
            if !dir.is_whole() {
                NOT_WHOLE.clone_into(&mut node.error);
            }
            node.encode(&mut part);
        }
        if !above.fill(slot, 0, part)? {
            return Ok(());
        }
        dir = above;
    }
}

fn store(run: &Run<'_>, json: &[u8], squeezer: &mut Squeezer) -> Result<Id> {
    let id = Id::of(json);
    if is_new(run, &id) {
        pack(run, json.len(), |pack| {
            pack.add(id, json, squeezer, &run.sealer)
        })?;
        count(&run.counts.added, json.len() as u64);
    }
    Ok(id)
}

/// The same for a directory that is never held as plain text as a whole.
fn store_large(run: &Run<'_>, entries: &Entries) -> Result<Id> {
    let mut hash = Sha256::new();
    entries.each(|piece| {
        hash.update(piece);
        run.go()
    })?;
    let id = Id(hash.finalize().into());
    if !is_new(run, &id) {
        return Ok(id);
    }
    let plain = usize::try_from(entries.bytes).unwrap_or(usize::MAX);
    if entries.bytes > u64::from(MAX_BLOB) {
        return Err(Error::Bug(format!(
            "a directory of {plain} bytes is beyond the format"
        )));
    }
    let failed =
        |error: std::io::Error| Error::Bug(format!("a directory cannot be packed: {error}"));
    let mut out =
        zstd::stream::write::Encoder::new(Vec::new(), run.level.unwrap_or(1)).map_err(failed)?;
    out.set_pledged_src_size(Some(entries.bytes))
        .map_err(failed)?;
    let mut memory = Permit::empty(&run.budget);
    entries.each(|piece| {
        run.go()?;
        out.write_all(piece).map_err(failed)?;
        let held = out.get_ref().capacity() as u64;
        if held > memory.bytes() {
            memory.join(
                run.budget
                    .take(held - memory.bytes(), "one directory, compressed,")?,
            );
        }
        Ok(())
    })?;
    let squeezed = out.finish().map_err(failed)?;
    pack(run, squeezed.len(), |pack| {
        pack.add_squeezed(id, plain, &squeezed, &run.sealer)
    })?;
    count(&run.counts.added, entries.bytes);
    Ok(id)
}

fn is_new(run: &Run<'_>, id: &Id) -> bool {
    if run.index.use_blob(BlobKind::Tree, id).is_some() {
        count(&run.counts.dirs_known, 1);
        return false;
    }
    run.fresh.claim(BlobKind::Tree, id)
}

/// Adds a blob of at most so many bytes to the pack of trees.
fn pack(run: &Run<'_>, len: usize, add: impl FnOnce(&mut OpenPack) -> u32) -> Result<()> {
    let mut open = run.trees.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(full) = open.take_if(|pack| !pack.fits(len)) {
        run.uploads.push(full.finish(&run.sealer));
    }
    let mut pack = if let Some(pack) = open.take() {
        pack
    } else {
        let buffer = run.buffers.take(room(len), || run.go())?;
        OpenPack::new(BlobKind::Tree, buffer)
    };
    let packed = add(&mut pack);
    *open = Some(pack);
    drop(open);
    count(&run.counts.tree_blobs, 1);
    count(&run.counts.added_packed, u64::from(packed));
    Ok(())
}
