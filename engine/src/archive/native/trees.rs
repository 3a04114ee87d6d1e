//! Trees: of the parent, read; of this run, written.

use std::sync::{Arc, PoisonError};

use super::{
    Parent, Run, count,
    dirs::Directory,
    packer::{OpenPack, room},
    squeeze::Squeezer,
};
use crate::{
    crypto::Id,
    error::Result,
    format::{
        index::BlobKind,
        node::{self, Kind, Node},
    },
    repo::blobs::BlobReader,
};

/// Finds an entry by its name.
pub(super) fn find<'n>(nodes: &'n [Node], name: &[u8]) -> Option<&'n Node> {
    let at = nodes
        .binary_search_by(|node| node.name.as_slice().cmp(name))
        .ok()?;
    nodes.get(at)
}

/// The entries of a directory of the parent. One that is lost, or is not what this program understands, costs
/// speed. One that is named by the index and cannot be read is an error: an unchanged directory would be
/// taken for stored there.
pub(super) fn read(run: &Run<'_>, reader: &mut BlobReader<'_>, id: &Id) -> Result<Option<Parent>> {
    run.go()?;
    if run.index.find(BlobKind::Tree, id).is_none() {
        tracing::warn!(tree = %id, "a directory of the parent is in no index");
        return Ok(None);
    }
    let json = reader.read(BlobKind::Tree, id)?;
    let nodes = node::decode_tree(&json).inspect_err(
        |error| tracing::warn!(%error, tree = %id, "a directory of the parent is not used"),
    );
    Ok(nodes.ok().map(Arc::new))
}

/// The parent's tree of a directory in it.
pub(super) fn subtree(parent: Option<&Parent>, name: &[u8]) -> Option<Id> {
    let node = find(parent?, name)?;
    node.subtree.filter(|_| node.kind == Kind::Dir)
}

/// Writes a complete directory, and those above that it completes.
pub(super) fn complete(
    run: &Run<'_>,
    mut dir: Arc<Directory>,
    squeezer: &mut Squeezer,
    json: &mut Vec<u8>,
) -> Result<()> {
    loop {
        dir.encode(json);
        let id = store(run, json, squeezer)?;
        if json.capacity() > 1 << 20 {
            *json = Vec::new();
        }
        let Some((above, slot)) = dir.parent.clone() else {
            *run.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
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
            node.encode(&mut part);
        }
        if !above.fill(slot, 0, part) {
            return Ok(());
        }
        dir = above;
    }
}

fn store(run: &Run<'_>, json: &[u8], squeezer: &mut Squeezer) -> Result<Id> {
    let id = Id::of(json);
    if run.index.use_blob(BlobKind::Tree, &id).is_some() {
        count(&run.counts.dirs_known, 1);
        return Ok(id);
    }
    if !run.fresh.claim(BlobKind::Tree, &id) {
        return Ok(id);
    }
    let mut open = run.trees.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(full) = open.take_if(|pack| !pack.fits(json.len())) {
        run.uploads.push(full.finish(&run.sealer));
    }
    let mut pack = if let Some(pack) = open.take() {
        pack
    } else {
        let buffer = run.buffers.take(room(json.len()), || run.go())?;
        OpenPack::new(BlobKind::Tree, buffer)
    };
    let packed = pack.add(id, json, squeezer, &run.sealer);
    *open = Some(pack);
    drop(open);
    count(&run.counts.tree_blobs, 1);
    count(&run.counts.added, json.len() as u64);
    count(&run.counts.added_packed, u64::from(packed));
    Ok(id)
}
