//! Two trees gone through side by side.
//!
//! Directories on the way down are held with their nodes' places, and the nodes are parsed as they
//! are compared: first all that is before an entry in order, then the entry, then what is in it.

use std::{
    cmp::Ordering,
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use super::{Change, Compared, ComparedEach, DiffReport, alike::alike, count::Counted};
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    files::depth::too_deep,
    format::{Invalid, index::BlobKind, name, nodes::Node, tree::Entries},
    index::Index,
    repo::blobs::BlobReader,
};

/// Two directories, or one of which the other side has nothing.
pub(super) enum Sides {
    Both(Id, Id),
    Before(Id),
    After(Id),
}

impl Sides {
    pub(super) fn both((before, after): (Id, Id)) -> Self {
        Self::Both(before, after)
    }

    fn ids(&self) -> [Option<Id>; 2] {
        match self {
            Self::Both(before, after) => [Some(*before), Some(*after)],
            Self::Before(id) => [Some(*id), None],
            Self::After(id) => [None, Some(*id)],
        }
    }
}

/// A directory of one side.
struct Side {
    entries: Entries,
    next: usize,
}

impl Side {
    /// The entry that is next.
    fn node(&self) -> Option<Result<Node<'_>, Invalid>> {
        self.entries.text(self.next).map(Node::parse)
    }
}

/// A directory being compared.
struct Level {
    path: PathBuf,
    sides: [Option<Side>; 2],
    /// Bytes of both.
    bytes: u64,
}

pub(super) struct Walk<'a, 'e> {
    pub(super) blobs: BlobReader<'a>,
    pub(super) index: &'a Index,
    pub(super) counted: Counted<'a>,
    /// Bytes for directories on the way down.
    pub(super) room: u64,
    pub(super) metadata: bool,
    pub(super) cancel: &'a Cancel,
    pub(super) each: ComparedEach<'e>,
    pub(super) report: DiffReport,
}

/// What one step found.
enum Step {
    /// All was compared.
    Done,
    /// Nothing to go into.
    Next,
    Into(PathBuf, Sides),
}

impl Walk<'_, '_> {
    /// Goes through both. The first directories have to be readable.
    pub(super) fn run(&mut self, top: &Sides) -> Result<()> {
        if let Sides::Both(before, after) = top
            && before == after
        {
            self.counted.share(*before);
            return Ok(());
        }
        let mut levels = vec![self.level(PathBuf::from("/"), top, 0)?];
        let mut held = levels[0].bytes;
        while let Some(level) = levels.last_mut() {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match self.step(level)? {
                Step::Done => {
                    held -= level.bytes;
                    levels.pop();
                }
                Step::Next => {}
                Step::Into(path, sides) => {
                    if let Some(why) = too_deep(levels.len() + 1, &path) {
                        self.problem(&path, why)?;
                        continue;
                    }
                    match self.level(path.clone(), &sides, held) {
                        Ok(level) => {
                            held += level.bytes;
                            levels.push(level);
                        }
                        Err(error) if error.is_of_one_object() || is_limit(&error) => {
                            self.problem(&path, error.to_string())?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads directories beside those that are held.
    fn level(&mut self, path: PathBuf, sides: &Sides, held: u64) -> Result<Level> {
        let ids = sides.ids();
        let plain = |id: &Id| {
            let place = self.index.find(BlobKind::Tree, id);
            place.map_or(0, |place| u64::from(place.plain_length()))
        };
        // Sealed, opened, and where nodes lie.
        let needed = held + 2 * ids.iter().flatten().map(plain).sum::<u64>();
        if needed > self.room {
            return Err(Error::MemoryLimit {
                what: "a directory and those above it".to_owned(),
                needed,
                limit: self.room,
            });
        }
        let mut read = |id: &Id| -> Result<Side> {
            let entries = self.blobs.read_tree(id)?;
            Ok(Side { entries, next: 0 })
        };
        let [before, after] = ids;
        let sides = [
            before.as_ref().map(&mut read).transpose()?,
            after.as_ref().map(&mut read).transpose()?,
        ];
        let bytes = sides.iter().flatten().map(|side| side.entries.memory());
        Ok(Level {
            path,
            bytes: bytes.sum(),
            sides,
        })
    }

    /// Compares the next entry of a directory.
    fn step(&mut self, level: &mut Level) -> Result<Step> {
        let Level { path, sides, .. } = level;
        // Entries that make no sense have no name to be compared by.
        for side in sides.iter_mut().flatten() {
            let bad = match side.node() {
                Some(Err(why)) => Some(why),
                _ => None,
            };
            if let Some(why) = bad {
                side.next += 1;
                self.problem(path, format!("an entry of it makes no sense: {why}"))?;
                return Ok(Step::Next);
            }
        }
        let nodes = sides
            .each_ref()
            .map(|side| side.as_ref().and_then(|side| side.node()?.ok()));
        let names = nodes.each_ref().map(|node| node.as_ref().map(raw));
        let order = match &names {
            [None, None] => return Ok(Step::Done),
            [Some(_), None] => Ordering::Less,
            [None, Some(_)] => Ordering::Greater,
            [Some(before), Some(after)] => before.cmp(after),
        };
        let [before, after] = &nodes;
        let (before, after) = match order {
            Ordering::Less => (before.as_ref(), None),
            Ordering::Greater => (None, after.as_ref()),
            Ordering::Equal => (before.as_ref(), after.as_ref()),
        };
        self.counted.entry(before, after);
        let step = match (before, after) {
            (Some(before), Some(after)) => self.changed(path, before, after)?,
            (Some(node), None) => {
                let inside = self.alone(path, node, Change::Removed)?;
                inside.map_or(Step::Next, |(path, id)| Step::Into(path, Sides::Before(id)))
            }
            (None, Some(node)) => {
                let inside = self.alone(path, node, Change::Added)?;
                inside.map_or(Step::Next, |(path, id)| Step::Into(path, Sides::After(id)))
            }
            (None, None) => Step::Done,
        };
        let taken = [order != Ordering::Greater, order != Ordering::Less];
        for (side, taken) in sides.iter_mut().zip(taken) {
            if let Some(side) = side {
                side.next += usize::from(taken);
            }
        }
        Ok(step)
    }

    /// An entry of one side only, and what is in it.
    fn alone(
        &mut self,
        above: &Path,
        node: &Node<'_>,
        change: Change,
    ) -> Result<Option<(PathBuf, Id)>> {
        let counts = match change {
            Change::Added => &mut self.report.added,
            _ => &mut self.report.removed,
        };
        let is_dir = node.kind == "dir";
        match &*node.kind {
            "file" => counts.files += 1,
            "dir" => counts.dirs += 1,
            _ => counts.others += 1,
        }
        let path = above.join(shown(node));
        (self.each)(Compared::Changed {
            path: path.clone(),
            is_dir,
            change,
        })?;
        if !is_dir {
            return Ok(None);
        }
        self.inside(&path, node).map(|id| id.map(|id| (path, id)))
    }

    /// An entry of both.
    fn changed(&mut self, above: &Path, before: &Node<'_>, after: &Node<'_>) -> Result<Step> {
        let is = |node: &Node<'_>, kind: &str| node.kind == kind;
        let path = above.join(shown(after));
        let other_kind = before.kind != after.kind;
        let files = is(before, "file") && is(after, "file");
        let other_content = files && !before.blobs().eq(after.blobs());
        let change = if other_content {
            self.report.changed_files += 1;
            Some(if alike(before.text(), after.text()) {
                Change::Unexplained
            } else {
                Change::Content
            })
        } else if self.metadata && !alike(before.text(), after.text()) {
            Some(if other_kind {
                Change::KindAndMetadata
            } else {
                Change::Metadata
            })
        } else {
            other_kind.then_some(Change::Kind)
        };
        if let Some(change) = change {
            (self.each)(Compared::Changed {
                path: path.clone(),
                is_dir: is(after, "dir"),
                change,
            })?;
        }
        if !(is(before, "dir") && is(after, "dir")) {
            return Ok(Step::Next);
        }
        let ids = (self.inside(&path, before)?, self.inside(&path, after)?);
        Ok(match ids {
            (Some(before), Some(after)) if before == after => {
                self.counted.share(before);
                Step::Next
            }
            (Some(before), Some(after)) => Step::Into(path, Sides::Both(before, after)),
            _ => Step::Next,
        })
    }

    fn inside(&mut self, path: &Path, node: &Node<'_>) -> Result<Option<Id>> {
        match node.directory() {
            Ok(id) => Ok(id),
            Err(why) => self.problem(path, why.to_string()).map(|()| None),
        }
    }

    fn problem(&mut self, path: &Path, message: String) -> Result<()> {
        self.report.problems += 1;
        (self.each)(Compared::Problem {
            path: path.to_owned(),
            message,
        })
    }
}

fn is_limit(error: &Error) -> bool {
    matches!(error, Error::MemoryLimit { .. })
}

/// What directories are ordered by.
fn raw(node: &Node<'_>) -> Vec<u8> {
    let name = name::decode(&node.name);
    name.map_or_else(|_| node.name.as_bytes().to_vec(), OsString::into_vec)
}

/// A name; what no file can be named is shown escaped.
fn shown(node: &Node<'_>) -> OsString {
    name::decode(&node.name).unwrap_or_else(|_| {
        let name = node.name.escape_debug().to_string();
        name.replace('/', "\\x2f").into()
    })
}
