//! Reading directories beforehand, on several threads, for the state that nearly all are met in.

use super::{
    items::Items,
    memo::Memo,
    query::{Query, USUAL},
    too_much,
};
use crate::{
    error::{Error, Result},
    format::Invalid,
    repo::walk::{Node, Tree, Visitor},
};

pub(super) struct Prefetch<'a> {
    pub(super) query: &'a Query,
    pub(super) memo: &'a Memo,
}

impl<'a> Visitor for Prefetch<'a> {
    type Dir = Items<'a>;

    fn enter(&self, _tree: &Tree) -> Result<Items<'a>> {
        if self.memo.is_full() {
            // Ends the walk; whoever began it knows why.
            return Err(too_much("a search", 0, self.memo.limit()));
        }
        // Several threads hold one each.
        Ok(Items::new(self.query, USUAL, self.memo.limit() / 16))
    }

    fn node(
        &self,
        _tree: &Tree,
        dir: &mut Items<'a>,
        node: Result<&Node<'_>, Invalid>,
    ) -> Result<()> {
        dir.node(node)
    }

    fn leave(&self, tree: &Tree, dir: Items<'a>) -> Result<()> {
        if let Some(position) = tree.position {
            let (items, memory) = dir.finish();
            self.memo.keep((position, USUAL), items, memory);
        }
        Ok(())
    }

    /// The search meets it again, and tells it.
    fn unreadable(&self, _tree: &Tree, _error: Error) -> Result<()> {
        Ok(())
    }

    fn too_large(&self, _tree: &Tree, _error: Error) -> Result<()> {
        Ok(())
    }
}
