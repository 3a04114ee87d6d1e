//! What the directories on the way down a tree take, bounded before they are read.
//!
//! A tree of a few kilobytes can become half a gibibyte. One such directory there may be; one in
//! another, and so on, would take all memory.

use crate::{
    crypto::Id,
    format::{index::BlobKind, tree::Entries},
    index::{Index, MAX_BLOB},
};

/// The largest directory, and usual ones above it.
const MOST: u64 = MAX_BLOB as u64 + (128 << 20);

/// Directories on the way down.
#[derive(Debug, Default)]
pub(crate) struct Descent {
    held: u64,
}

impl Descent {
    /// Why a directory cannot be held beside those above it.
    pub(crate) fn refuses(&self, index: &Index, tree: &Id) -> Option<String> {
        let place = index.find(BlobKind::Tree, tree)?;
        let needed = self.held + u64::from(place.plain_length());
        (needed > MOST).then(|| {
            format!(
                "it and the directories above it take {needed} bytes of memory, where they may take {MOST}"
            )
        })
    }

    /// A directory was entered.
    pub(crate) fn enter(&mut self, entries: &Entries) {
        self.held += entries.memory();
    }

    /// It was left.
    pub(crate) fn leave(&mut self, entries: &Entries) {
        self.held = self.held.saturating_sub(entries.memory());
    }
}
