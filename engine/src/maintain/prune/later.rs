//! What came since the first look: index files, and snapshots with what they need.
//!
//! Reads only the new ones. Of new snapshots only directories are read that no older one has. A
//! blob that a new snapshot needs and an older index file names counts as needed there, unless a
//! new one names it as well.

use std::collections::BTreeMap;

use super::{
    reach::{self, Needs},
    survey::{Survey, in_no_index},
};
use crate::{
    Cancel,
    ceiling::plus,
    crypto::Id,
    error::Result,
    format::{index::BlobKind, tree::Entries},
    index::{Bits, Copies, Index, Loading, Packs},
    repo::{Repository, blobs::BlobReader},
    storage::Store,
};

/// What came since.
pub(super) struct Later {
    /// Of the new index files only.
    pub(super) index: Index,
    /// Of its positions.
    pub(super) used: Bits,
    /// How many snapshots came.
    pub(super) snapshots: usize,
}

impl Later {
    /// Looks at these snapshots and index files as far as `first` does not know them, and marks in `first` what they need
    /// of it. In so many bytes of memory, together with that.
    pub(super) fn look(
        (repo, store): (&Repository, &Store),
        first: &Survey,
        snapshots: &BTreeMap<String, Id>,
        files: &BTreeMap<Id, u64>,
        memory: u64,
        cancel: &Cancel,
    ) -> Result<Self> {
        let mut new = files.clone();
        new.retain(|file, _| !first.index.files().contains(file));
        let loading = Loading {
            which: Packs::All,
            copies: Copies::All,
            limit: memory.saturating_sub(first.taken),
            unreadable: None,
        };
        let index = repo.block_on(Index::load_files(repo, store, new, loading));
        let index = index.map_err(|error| plus(first.taken, error))?;
        let used = Bits::new(index.len());
        let mut roots = snapshots.clone();
        roots.retain(|id, _| !first.snapshots.contains_key(id));
        let count = roots.len();
        let mut both = Both {
            repo,
            first,
            index: &index,
            used: &used,
            old: BlobReader::new(repo, store, &first.index),
            new: BlobReader::new(repo, store, &index),
        };
        reach::all(repo, roots.into_values().collect(), cancel, &mut both)?;
        Ok(Self {
            index,
            used,
            snapshots: count,
        })
    }
}

struct Both<'a> {
    repo: &'a Repository,
    first: &'a Survey,
    index: &'a Index,
    used: &'a Bits,
    old: BlobReader<'a>,
    new: BlobReader<'a>,
}

impl Both<'_> {
    /// Whether that was not known.
    fn need(&self, kind: BlobKind, id: &Id) -> Result<bool> {
        let old = self.first.index.position(kind, id);
        if old.is_some_and(|position| self.first.used.contains(position)) {
            return Ok(false);
        }
        match (self.index.position(kind, id), old) {
            (Some(position), _) => Ok(self.used.insert(position)),
            (None, Some(position)) => Ok(self.first.used.insert(position)),
            (None, None) => Err(in_no_index(self.repo, id)),
        }
    }
}

impl Needs for Both<'_> {
    fn tree(&mut self, id: &Id) -> Result<bool> {
        self.need(BlobKind::Tree, id)
    }

    fn data(&mut self, id: &Id) -> Result<()> {
        self.need(BlobKind::Data, id).map(drop)
    }

    fn read(&mut self, id: &Id) -> Result<Entries> {
        if self.index.position(BlobKind::Tree, id).is_some() {
            self.new.read_tree(id)
        } else {
            self.old.read_tree(id)
        }
    }
}
