//! Which blobs of the source the destination lacks.

use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind},
    index::{Bits, Index},
    repo::{
        Repository, Snapshot,
        walk::{Node, Tree, Visitor, Walk},
    },
    storage::Store,
};

/// The positions of what these snapshots need and `has` does not know. A directory that cannot be
/// read is an error: what it needs is not known.
pub(super) fn of(
    (repo, store): (&Repository, &Store),
    index: &Index,
    has: &Index,
    snapshots: &[&Snapshot],
    memory: u64,
    cancel: &Cancel,
) -> Result<Bits> {
    let why = Invalid::new("its tree is not an id");
    let root = |snapshot: &&Snapshot| {
        Id::parse(&snapshot.tree)
            .ok_or_else(|| repo.damaged(format!("snapshot {}", snapshot.id), &why))
    };
    let roots = snapshots.iter().map(root).collect::<Result<Vec<_>>>()?;
    let needed = Bits::new(index.len());
    let visitor = Lacks {
        repo,
        index,
        has,
        needed: &needed,
    };
    let walk = Walk {
        repo,
        store,
        index,
        seen: &Bits::new(index.len()),
        memory,
        cancel,
    };
    walk.run(&roots, &visitor)?;
    Ok(needed)
}

struct Lacks<'a> {
    repo: &'a Repository,
    index: &'a Index,
    has: &'a Index,
    needed: &'a Bits,
}

impl Lacks<'_> {
    fn need(&self, kind: BlobKind, id: &Id) -> Result<()> {
        if self.has.find(kind, id).is_some() {
            return Ok(());
        }
        let position = self.index.position(kind, id).ok_or_else(|| {
            let why = Invalid::new("it is in no index");
            self.repo.damaged(format!("blob {id}"), &why)
        })?;
        self.needed.insert(position);
        Ok(())
    }
}

impl Visitor for Lacks<'_> {
    type Dir = ();

    fn enter(&self, tree: &Tree) -> Result<()> {
        self.need(BlobKind::Tree, &tree.id)
    }

    fn node(&self, tree: &Tree, (): &mut (), node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let damaged = |why: Invalid| self.repo.damaged(format!("tree {}", tree.id), &why);
        for id in node.map_err(damaged)?.blobs() {
            self.need(BlobKind::Data, &id.map_err(damaged)?)?;
        }
        Ok(())
    }

    fn leave(&self, _: &Tree, (): ()) -> Result<()> {
        Ok(())
    }

    fn unreadable(&self, _: &Tree, error: Error) -> Result<()> {
        Err(error)
    }
}
