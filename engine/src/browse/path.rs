//! Finding the entry of a path.

use std::{
    ffi::OsStr,
    path::{Component, Path},
};

use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, name, tree::Node},
    repo::{Repository, Snapshot, blobs::BlobReader},
};

/// What a path leads to.
pub(super) enum Found {
    /// A directory's content.
    Dir(Id),
    /// Anything else.
    Entry(Box<Node>),
}

/// The root directory of a snapshot.
pub(super) fn root(repo: &Repository, snapshot: &Snapshot) -> Result<Id> {
    let why = Invalid::new("its tree is not an id");
    Id::parse(&snapshot.tree).ok_or_else(|| repo.damaged(format!("snapshot {}", snapshot.id), &why))
}

/// The content of a directory's node.
pub(super) fn subtree(repo: &Repository, node: &Node) -> Result<Id> {
    let why = Invalid::new("its entry names no content");
    let id = node.subtree.as_deref().and_then(Id::parse);
    id.ok_or_else(|| repo.damaged(format!("directory {}", node.name.escape_debug()), &why))
}

/// Goes down an absolute path.
pub(super) fn find(
    repo: &Repository,
    blobs: &mut BlobReader<'_>,
    snapshot: &Snapshot,
    path: &Path,
) -> Result<Found> {
    let mut found = Found::Dir(root(repo, snapshot)?);
    for part in names(path)? {
        let missing = || Error::PathNotFound {
            location: repo.location(),
            snapshot: snapshot.id.clone(),
            path: path.to_owned(),
        };
        let Found::Dir(tree) = found else {
            return Err(missing());
        };
        let node = entry(blobs, &tree, part)?.ok_or_else(missing)?;
        found = if node.kind == "dir" {
            Found::Dir(subtree(repo, &node)?)
        } else {
            Found::Entry(Box::new(node))
        };
    }
    Ok(found)
}

fn entry(blobs: &mut BlobReader<'_>, tree: &Id, wanted: &OsStr) -> Result<Option<Node>> {
    // An entry that makes no sense is not the one asked for.
    let nodes = blobs.read_tree(tree)?.flatten();
    let mut fits = nodes.filter(|node| name::decode(&node.name).is_ok_and(|name| name == wanted));
    Ok(fits.next())
}

/// The names on an absolute path.
fn names(path: &Path) -> Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    let mut parts = path.components();
    let absolute = parts.next() == Some(Component::RootDir);
    for part in parts {
        match part {
            Component::Normal(name) if absolute => names.push(name),
            _ => return Err(not_absolute(path)),
        }
    }
    if absolute {
        Ok(names)
    } else {
        Err(not_absolute(path))
    }
}

fn not_absolute(path: &Path) -> Error {
    Error::InvalidConfig {
        what: "path in a snapshot",
        message: format!("{} must begin with / and have no ..", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths_of_plain_names() {
        let count = |path: &str| names(Path::new(path)).map(|names| names.len()).ok();
        assert_eq!(count("/"), Some(0));
        assert_eq!(count("/a//b/"), Some(2));
        assert_eq!(count("/a/./b"), Some(2));
        for bad in ["", "a", "a/b", "/a/../b", "../a"] {
            assert_eq!(count(bad), None, "{bad}");
        }
    }
}
