//! Looking at every directory: are its entries what they should be, and is everything there that
//! they need?

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Object, Problem,
    log::{Cause, Log},
    unreadable,
};
use crate::{
    Progress,
    browse::EntryKind,
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind, name},
    index::{Bits, Index},
    repo::walk::{Node, Tree, Visitor},
};

/// Notes what is wrong with directories, and which content they use.
pub(super) struct Trees<'a> {
    index: &'a Index,
    used: &'a Bits,
    log: &'a Log,
    progress: &'a Progress,
    count: AtomicU64,
}

/// One directory.
#[derive(Default)]
pub(super) struct Dir {
    last: Option<Vec<u8>>,
    /// Of the names, to find equal ones that are not neighbours.
    hashes: Vec<u64>,
    unordered: bool,
}

impl<'a> Trees<'a> {
    pub(super) fn new(
        index: &'a Index,
        used: &'a Bits,
        log: &'a Log,
        progress: &'a Progress,
    ) -> Self {
        Self {
            index,
            used,
            log,
            progress,
            count: AtomicU64::new(0),
        }
    }

    /// How many directories were seen.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn add(&self, tree: &Tree, problem: Problem) {
        let cause = tree.position.map_or(Cause::Nothing, Cause::Inside);
        self.log
            .add(Object::Tree(tree.id.to_string()), problem, cause);
    }

    fn file(&self, tree: &Tree, node: &Node<'_>) {
        let wrong = |message: &str| {
            let name = shown(&node.name);
            let message = message.to_owned();
            self.add(tree, Problem::Node { name, message });
        };
        if !node.has_content() {
            return wrong("it is a file without a list of content");
        }
        let mut size = Some(0_u64);
        for id in node.blobs() {
            let id = match id {
                Ok(id) => id,
                Err(why) => return wrong(&why.to_string()),
            };
            let Some(position) = self.index.position(BlobKind::Data, &id) else {
                self.log.missing(BlobKind::Data, id);
                size = None;
                continue;
            };
            self.used.insert(position);
            let place = self.index.places(position).next();
            let length = place.map_or(0, |place| u64::from(place.plain_length()));
            size = size.map(|size| size.saturating_add(length));
        }
        if let Some(content) = size.filter(|size| *size != node.size) {
            let name = shown(&node.name);
            let stated = node.size;
            self.add(
                tree,
                Problem::FileSize {
                    name,
                    stated,
                    content,
                },
            );
        }
    }
}

impl Visitor for Trees<'_> {
    type Dir = Dir;

    fn enter(&self, _tree: &Tree) -> Result<Dir> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.progress.found(1, 0);
        Ok(Dir::default())
    }

    fn node(&self, tree: &Tree, dir: &mut Dir, node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let wrong = |name: &str, message: String| {
            let name = shown(name);
            self.add(tree, Problem::Node { name, message });
        };
        let node = match node {
            Ok(node) => node,
            Err(why) => {
                wrong("", why.to_string());
                return Ok(());
            }
        };
        match name::decode(&node.name) {
            Ok(name) => {
                if dir.next(name.as_encoded_bytes()) {
                    wrong(&node.name, "another entry has the same name".to_owned());
                }
            }
            Err(why) => wrong(&node.name, why.to_string()),
        }
        match EntryKind::of(&node.kind) {
            EntryKind::File => self.file(tree, node),
            EntryKind::Other => {
                wrong(&node.name, format!("its type {:?} is unknown", &*node.kind));
            }
            // That of a directory is shown as an error if it is wrong.
            _ => {}
        }
        Ok(())
    }

    fn leave(&self, tree: &Tree, dir: Dir) -> Result<()> {
        self.progress.file_done();
        if dir.unordered {
            if dir.has_twice() {
                let name = String::new();
                let message = "several have the same name".to_owned();
                self.add(tree, Problem::Node { name, message });
            }
            self.add(tree, Problem::Unordered);
        }
        Ok(())
    }

    fn unreadable(&self, tree: &Tree, error: Error) -> Result<()> {
        if !error.is_content() {
            return Err(error);
        }
        let Some(position) = tree.position else {
            self.log.missing(BlobKind::Tree, tree.id);
            return Ok(());
        };
        let object = Object::Tree(tree.id.to_string());
        self.log
            .add(object, unreadable(&error), Cause::Record(position));
        Ok(())
    }
}

impl Dir {
    /// Takes the next name. `true` if it is the same as the one before.
    fn next(&mut self, name: &[u8]) -> bool {
        let hash = Id::of(name).0.first_chunk().copied();
        self.hashes
            .push(u64::from_le_bytes(hash.unwrap_or_default()));
        let order = self.last.as_deref().map(|last| last.cmp(name));
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(name);
        self.unordered |= order == Some(std::cmp::Ordering::Greater);
        order == Some(std::cmp::Ordering::Equal)
    }

    /// Whether a name is there more than once; those side by side were found.
    fn has_twice(mut self) -> bool {
        self.hashes.sort_unstable();
        self.hashes.windows(2).any(|two| two[0] == two[1])
    }
}

/// A stored name for people: of a bounded length, and without what a terminal could take for more
/// than text.
fn shown(name: &str) -> String {
    name.chars()
        .take(255)
        .flat_map(char::escape_debug)
        .collect()
}
