//! What snapshots need that were made while others worked, with directories in two indexes: one
//! after another, for they are few.

use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, tree::Entries},
    repo::Repository,
};

/// Who is told what snapshots need.
pub(super) trait Needs {
    /// A directory is needed. Whether it has to be read: those met before have been.
    fn tree(&mut self, id: &Id) -> Result<bool>;
    /// A piece of a file is needed.
    fn data(&mut self, id: &Id) -> Result<()>;
    /// Reads a directory.
    fn read(&mut self, id: &Id) -> Result<Entries>;
}

/// Goes through everything below the roots. A directory that cannot be read completely is an error:
/// what it needs is not known.
pub(super) fn all(
    repo: &Repository,
    roots: Vec<Id>,
    cancel: &Cancel,
    needs: &mut impl Needs,
) -> Result<()> {
    let mut todo = roots;
    while let Some(tree) = todo.pop() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if !needs.tree(&tree)? {
            continue;
        }
        let damaged = |why: &Invalid| repo.damaged(format!("tree {tree}"), why);
        let id = |id: Option<Id>| {
            id.ok_or_else(|| damaged(&Invalid::new("it names something without an id")))
        };
        for node in needs.read(&tree)? {
            let node = node.map_err(|why| damaged(&why))?;
            match &node.subtree {
                Some(tree) => todo.push(id(Id::parse(tree))?),
                None if node.kind == "dir" => {
                    return Err(damaged(&Invalid::new("a directory in it has no content")));
                }
                None => {}
            }
            for blob in &node.content {
                needs.data(&id(*blob)?)?;
            }
        }
    }
    Ok(())
}
