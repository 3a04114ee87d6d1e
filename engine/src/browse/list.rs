//! Listing what is in a snapshot.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{
    EntryInfo, EntryKind,
    early::reading,
    path::{Found, find, subtree},
};
use crate::{
    Cancel,
    error::{Error, Result},
    files::depth::too_deep,
    format::{
        Invalid, name,
        tree::{Entries, Node},
    },
    index::{Index, Packs},
    repo::{Repository, Snapshot, blobs::BlobReader, descent::Descent},
};

/// An entry of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its absolute path in the snapshot.
    pub path: PathBuf,
    /// What the snapshot says of it; `None` if that makes no sense, and `problem` says why.
    pub info: Option<EntryInfo>,
    /// Why it cannot be read or restored, if it cannot.
    pub problem: Option<String>,
}

/// Lists what is below an absolute path of a snapshot, or the entry itself if it is no directory:
/// each directory before its content, in the order of the snapshot. Not `recursive`: one level.
/// Blocks: call it on a thread of its own.
///
/// A directory that cannot be read is listed with the problem, and the rest goes on.
///
/// # Errors
/// `PathNotFound`, `MemoryLimit`, `Locked`, `Cancelled`, what the store says, and what `each` returns.
pub fn list(
    repo: &Repository,
    snapshot: &Snapshot,
    path: &Path,
    recursive: bool,
    cancel: &Cancel,
    each: &mut dyn FnMut(Listed) -> Result<()>,
) -> Result<()> {
    reading(
        repo,
        cancel,
        |reader| {
            let index = reader.index_for_blobs(Packs::Trees)?;
            Ok((index, reader.store.clone()))
        },
        |(index, _)| index,
        |(index, store)| {
            let mut walk = Walk {
                repo,
                index: &index,
                descent: Descent::default(),
                blobs: BlobReader::new(repo, &store, &index),
                recursive,
                cancel,
                each,
            };
            match find(repo, &mut walk.blobs, snapshot, path)? {
                Found::Dir(tree) => {
                    let nodes = walk.blobs.read_tree(&tree)?;
                    walk.below(path, nodes)
                }
                Found::Entry(node) => (walk.each)(Listed {
                    path: path.to_owned(),
                    info: Some(EntryInfo::of(&node)),
                    problem: None,
                }),
            }
        },
    )
}

struct Walk<'a> {
    repo: &'a Repository,
    index: &'a Index,
    descent: Descent,
    blobs: BlobReader<'a>,
    recursive: bool,
    cancel: &'a Cancel,
    each: &'a mut dyn FnMut(Listed) -> Result<()>,
}

impl Walk<'_> {
    fn below(&mut self, path: &Path, nodes: Entries) -> Result<()> {
        self.descent.enter(&nodes);
        let mut stack = vec![(path.to_owned(), nodes)];
        while let Some((path, nodes)) = stack.last_mut() {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let Some(node) = nodes.next() else {
                self.descent.leave(nodes);
                stack.pop();
                continue;
            };
            let (mut listed, inside) = self.one(path, node)?;
            let deeper = listed.path.clone();
            let mut inside = inside;
            if inside.is_some()
                && let Some(why) = too_deep(stack.len() + 1, &deeper)
            {
                (listed.problem, inside) = (Some(why), None);
            }
            (self.each)(listed)?;
            if let Some(inside) = inside {
                self.descent.enter(&inside);
                stack.push((deeper, inside));
            }
        }
        Ok(())
    }

    /// An entry, and what is in it if it is a directory to be gone through.
    fn one(
        &mut self,
        above: &Path,
        node: Result<Node, Invalid>,
    ) -> Result<(Listed, Option<Entries>)> {
        let broken = |name: OsString, why: String| Listed {
            path: above.join(name),
            info: None,
            problem: Some(why),
        };
        let node = match node {
            Ok(node) => node,
            Err(why) => return Ok((broken("?".into(), why.to_string()), None)),
        };
        let name = match name::decode(&node.name) {
            Ok(name) => name,
            Err(why) => {
                let shown = node.name.escape_debug().to_string().replace('/', "\\x2f");
                return Ok((broken(shown.into(), why.to_string()), None));
            }
        };
        let info = EntryInfo::of(&node);
        let mut listed = Listed {
            path: above.join(name),
            info: Some(info),
            problem: None,
        };
        let is_dir = listed
            .info
            .as_ref()
            .is_some_and(|i| i.kind == EntryKind::Dir);
        if !is_dir || !self.recursive {
            return Ok((listed, None));
        }
        let tree = subtree(self.repo, &node);
        if let Ok(tree) = &tree
            && let Some(why) = self.descent.refuses(self.index, tree)
        {
            listed.problem = Some(why);
            return Ok((listed, None));
        }
        match tree.and_then(|tree| self.blobs.read_tree(&tree)) {
            Ok(inside) => Ok((listed, Some(inside))),
            Err(error) if error.is_of_one_object() => {
                listed.problem = Some(error.to_string());
                Ok((listed, None))
            }
            Err(error) => Err(error),
        }
    }
}
