//! All blobs that snapshots need, found by reading every directory once.

use std::collections::HashSet;

use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind},
    repo::{Repository, blobs::BlobReader},
};

/// Calls `needs` for every blob below the roots, some more than once. A directory that cannot be read
/// completely is an error: what it needs is not known.
pub(super) fn all(
    repo: &Repository,
    blobs: &mut BlobReader<'_>,
    roots: Vec<Id>,
    cancel: &Cancel,
    mut needs: impl FnMut(BlobKind, Id) -> Result<()>,
) -> Result<()> {
    let mut seen = HashSet::new();
    let mut todo = roots;
    while let Some(tree) = todo.pop() {
        if !seen.insert(tree) {
            continue;
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        needs(BlobKind::Tree, tree)?;
        let damaged = |why: &Invalid| repo.damaged(format!("tree {tree}"), why);
        let id = |text: &String| {
            Id::parse(text)
                .ok_or_else(|| damaged(&Invalid::new("it names something without an id")))
        };
        for node in blobs.read_tree(&tree)? {
            let node = node.map_err(|why| damaged(&why))?;
            match &node.subtree {
                Some(tree) => todo.push(id(tree)?),
                None if node.kind == "dir" => {
                    return Err(damaged(&Invalid::new("a directory in it has no content")));
                }
                None => {}
            }
            for blob in &node.content {
                needs(BlobKind::Data, id(blob)?)?;
            }
        }
    }
    Ok(())
}
