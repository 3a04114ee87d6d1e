//! Directories of the parent: each is read when somebody first asks what is in it.
//!
//! The walk asks for those that have directories in them; of others a worker does, beside other
//! workers. One that is lost, or is not what this program understands, costs speed. One that is
//! named by the index and cannot be read is an error: an unchanged directory would be taken for
//! stored there.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{Run, budget::Permit};
use crate::{
    crypto::Id,
    error::Result,
    format::{
        index::BlobKind,
        node::{self, Kind, Node},
    },
};

/// Bytes in memory for one of a parent's directory, at most: its text, and what it is decoded to.
const DECODED: u64 = 4;

/// A directory of the parent, shared by a directory's batches.
pub(super) struct Known {
    id: Id,
    entries: OnceLock<Option<Entries>>,
    /// Held by who reads it.
    reading: Mutex<()>,
}

struct Entries {
    nodes: Vec<Node>,
    _memory: Permit,
}

pub(super) type Parent = Arc<Known>;

impl Known {
    pub(super) fn new(id: Id) -> Parent {
        Arc::new(Self {
            id,
            entries: OnceLock::new(),
            reading: Mutex::default(),
        })
    }

    /// Its entries, in the order of their names; none if they cannot be used.
    pub(super) fn nodes(&self, run: &Run<'_>) -> Result<&[Node]> {
        if self.entries.get().is_none() {
            let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            if self.entries.get().is_none() {
                let entries = read(run, &self.id)?;
                // Nobody else is here.
                drop(self.entries.set(entries));
            }
        }
        let entries = self.entries.get().and_then(Option::as_ref);
        Ok(entries.map_or(&[], |entries| &entries.nodes))
    }

    /// A directory in it.
    pub(super) fn subtree(&self, run: &Run<'_>, name: &[u8]) -> Result<Option<Id>> {
        let node = find(self.nodes(run)?, name);
        Ok(node
            .filter(|node| node.kind == Kind::Dir)
            .and_then(|node| node.subtree))
    }
}

/// Finds an entry by its name.
pub(super) fn find<'n>(nodes: &'n [Node], name: &[u8]) -> Option<&'n Node> {
    let at = nodes
        .binary_search_by(|node| node.name.as_slice().cmp(name))
        .ok()?;
    nodes.get(at)
}

fn read(run: &Run<'_>, id: &Id) -> Result<Option<Entries>> {
    run.go()?;
    let Some(place) = run.index.find(BlobKind::Tree, id) else {
        tracing::warn!(tree = %id, "a directory of the parent is in no index");
        return Ok(None);
    };
    let bytes = u64::from(place.plain_length()) * DECODED;
    let Some(memory) = run.budget.try_take(bytes) else {
        tracing::warn!(tree = %id, bytes, "no memory for a directory of the parent: its files are read again");
        return Ok(None);
    };
    let mut windows = run.windows.lock().unwrap_or_else(PoisonError::into_inner);
    let from = (run.repo, run.input.store, &run.index);
    let sealed = windows.fetch(from, BlobKind::Tree, id)?;
    drop(windows);
    let json = sealed.open(run.repo, id)?;
    let nodes = node::decode_tree(&json).inspect_err(
        |error| tracing::warn!(%error, tree = %id, "a directory of the parent is not used"),
    );
    Ok(nodes.ok().map(|nodes| Entries {
        nodes,
        _memory: memory,
    }))
}
