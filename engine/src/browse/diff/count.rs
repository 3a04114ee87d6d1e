//! Which blobs only one of two snapshots needs.
//!
//! As restic counts: blobs of what was compared, without those that both sides have there, or that
//! are in a directory that both share. Blobs in no index are not counted.

use super::{DiffCounts, DiffReport};
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind, nodes},
    index::{Bits, Index},
    repo::{
        Repository,
        walk::{self, Tree, Visitor},
    },
    storage::Store,
};

/// Blobs by their positions in an index.
pub(super) struct Counted<'a> {
    index: &'a Index,
    before: Bits,
    after: Bits,
    /// Directories that both share.
    shared: Vec<Id>,
}

impl<'a> Counted<'a> {
    pub(super) fn new(index: &'a Index) -> Self {
        let bits = || Bits::new(index.len());
        Self {
            index,
            before: bits(),
            after: bits(),
            shared: Vec::new(),
        }
    }

    /// The directories at the top.
    pub(super) fn tree(&mut self, before: &Id, after: &Id) {
        for (id, bits) in [(before, &self.before), (after, &self.after)] {
            if let Some(position) = self.index.position(BlobKind::Tree, id) {
                bits.insert(position);
            }
        }
    }

    /// An entry of one side, or of both.
    pub(super) fn entry(&self, before: Option<&nodes::Node<'_>>, after: Option<&nodes::Node<'_>>) {
        for (node, bits) in [(before, &self.before), (after, &self.after)] {
            let Some(node) = node else { continue };
            match &*node.kind {
                "file" => {
                    let ids = node.blobs().flatten();
                    let positions = ids.filter_map(|id| self.index.position(BlobKind::Data, &id));
                    for position in positions {
                        bits.insert(position);
                    }
                }
                "dir" => {
                    let id = node.directory().ok().flatten();
                    if let Some(position) =
                        id.and_then(|id| self.index.position(BlobKind::Tree, &id))
                    {
                        bits.insert(position);
                    }
                }
                _ => {}
            }
        }
    }

    /// Both have this directory.
    pub(super) fn share(&mut self, tree: Id) {
        self.shared.push(tree);
    }

    /// Counts.
    pub(super) fn finish(
        self,
        (repo, store, index): (&Repository, &Store, &Index),
        memory: u64,
        cancel: &Cancel,
        report: &mut DiffReport,
    ) -> Result<()> {
        let shared = Shared {
            index,
            used: Bits::new(index.len()),
        };
        let one_only =
            |position: u32| self.before.contains(position) != self.after.contains(position);
        if index.records().any(|(position, _)| one_only(position)) {
            let walk = walk::Walk {
                repo,
                store,
                index,
                seen: &Bits::new(index.len()),
                memory,
                cancel,
            };
            walk.run(&self.shared, &shared)?;
        }
        for (position, record) in index.records() {
            if !one_only(position) || shared.used.contains(position) {
                continue;
            }
            let counts: &mut DiffCounts = if self.after.contains(position) {
                &mut report.added
            } else {
                &mut report.removed
            };
            match record.kind {
                BlobKind::Data => counts.data_blobs += 1,
                BlobKind::Tree => counts.tree_blobs += 1,
            }
            counts.bytes += u64::from(record.place.plain_length());
        }
        Ok(())
    }
}

/// Notes what shared directories use.
struct Shared<'a> {
    index: &'a Index,
    used: Bits,
}

impl Visitor for Shared<'_> {
    type Dir = ();

    fn enter(&self, _: &Tree) -> Result<()> {
        Ok(())
    }

    fn node(&self, _: &Tree, (): &mut (), node: Result<&walk::Node<'_>, Invalid>) -> Result<()> {
        let Ok(node) = node else { return Ok(()) };
        let ids = node.blobs().flatten();
        let data = ids.filter_map(|id| self.index.position(BlobKind::Data, &id));
        let tree = node.directory().ok().flatten();
        let tree = tree.and_then(|id| self.index.position(BlobKind::Tree, &id));
        for position in data.chain(tree) {
            self.used.insert(position);
        }
        Ok(())
    }

    fn leave(&self, _: &Tree, (): ()) -> Result<()> {
        Ok(())
    }

    /// It is the same in both: nothing in it changed, and a check tells what is wrong with it.
    fn unreadable(&self, _: &Tree, error: Error) -> Result<()> {
        if error.is_content() {
            Ok(())
        } else {
            Err(error)
        }
    }
}
