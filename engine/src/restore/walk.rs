//! Going through the snapshot's trees, directory by directory.
//!
//! Directories are made, or entered, on the way down. Files are collected until there is enough of
//! them, then what is there is compared, and what is missing is asked for in the order of packs.
//! Everything that is not a directory or a regular file is made on the way.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Mode},
    io::Errno,
};

use super::{
    Failure, RestoreAction,
    attributes::{At, Attributes},
    dirs::{Dir, Opened, open_there},
    links::Links,
    run::{Run, count},
    select::{Select, Selected},
    window::Window,
};
use crate::{
    crypto::Id,
    error::{Error, Result},
    files::{
        depth::too_deep,
        meta::{Kind, Meta},
        xattr::Of,
    },
    format::{
        Invalid, name,
        tree::{Entries, Node},
    },
    repo::{blobs::BlobReader, descent::Descent},
    rows::FileOperation,
};

/// The thread that goes through the trees.
pub(super) struct Walker<'r, 'a> {
    pub(super) run: &'r Run<'a>,
    pub(super) tree: Id,
    pub(super) reader: BlobReader<'r>,
    pub(super) links: Links,
    pub(super) window: Window,
    descent: Descent,
}

/// A directory on the way down.
struct Frame {
    dir: Arc<Dir>,
    entries: Entries,
    /// What is selected in it. None: everything.
    select: Option<Select>,
    names: Names,
    /// All its names are known.
    complete: bool,
}

/// The names met in a directory. They come in order, unless somebody forged them.
#[derive(Default)]
struct Names {
    last: Option<OsString>,
    all: Option<HashSet<OsString>>,
}

impl Names {
    /// Whether a name, the last of the entries asked for so far, is met for the first time.
    fn is_new(&mut self, name: &OsStr, entries: &Entries) -> bool {
        if self.all.is_none() && self.last.as_deref().is_none_or(|last| last < name) {
            self.last = Some(name.to_owned());
            return true;
        }
        let before = || names(entries, entries.position().saturating_sub(1));
        self.all.get_or_insert_with(before).insert(name.to_owned())
    }
}

fn names(entries: &Entries, count: usize) -> HashSet<OsString> {
    let nodes = entries.first(count).filter_map(Result::ok);
    nodes
        .filter_map(|node| name::decode(&node.name).ok())
        .collect()
}

/// Restores a tree into the target.
///
/// # Errors
/// What ends the restore; among others, that the tree itself cannot be read.
pub(super) fn walk(
    run: &Run<'_>,
    tree: Id,
    select: Option<Select>,
    attributes: Option<Attributes>,
) -> Result<()> {
    let target = |error: Errno| Error::Target {
        path: run.request.target.clone(),
        source: error.into(),
    };
    let mut walker = Walker {
        run,
        tree,
        reader: BlobReader::new(run.repo, run.store, run.index),
        links: Links::default(),
        window: Window::default(),
        descent: Descent::default(),
    };
    // Without its root there is nothing to restore: not a row.
    let entries = walker.reader.read_tree(&tree)?;
    let fd = run.root.open_dir(Path::new("")).map_err(target)?;
    let whole = select.is_none() && run.deletion.covers(Path::new(""));
    let opened = Opened {
        fd,
        fresh: false,
        whole,
        mode_before: None,
        linked: false,
    };
    let root = run.dir(PathBuf::new(), None, opened, None);
    let root = root.map_err(target)?;
    walker.root_attributes(&root, attributes);
    walker.descent.enter(&entries);
    let mut stack = vec![Frame {
        dir: root,
        entries,
        select,
        names: Names::default(),
        complete: true,
    }];
    while let Some(top) = stack.last_mut() {
        run.go()?;
        let Some(node) = top.entries.next() else {
            if let Some(frame) = stack.pop() {
                walker.descent.leave(&frame.entries);
                walker.leave(&frame)?;
            }
            continue;
        };
        if let Some(mut inside) = walker.enter(top, node)? {
            if let Some(message) = too_deep(stack.len() + 1, &inside.dir.path) {
                run.rows
                    .add(&inside.dir.path, FileOperation::Unsupported, message);
                (inside.entries, inside.complete) = (Entries::default(), false);
            }
            walker.descent.enter(&inside.entries);
            stack.push(inside);
        }
    }
    walker.flush()
}

impl Walker<'_, '_> {
    fn root_attributes(&self, root: &Arc<Dir>, attributes: Option<Attributes>) {
        if let (Some(attributes), Ok(fd)) = (attributes, self.run.open_dir(root)) {
            if let Ok(meta) = Meta::of(&*fd) {
                self.would_set(Path::new(""), Of::Open(fd.as_fd()), &attributes, &meta);
            }
            root.finish_with(attributes);
        }
    }

    /// In a dry run, notes a directory whose metadata would be set.
    fn would_set(&self, path: &Path, of: Of<'_>, attributes: &Attributes, meta: &Meta) {
        let at = At {
            of,
            kind: Kind::Dir,
            path,
        };
        if self.run.request.dry_run && self.run.attributes_differ(at, attributes, meta) {
            self.run.change(path, RestoreAction::Metadata);
        }
    }

    /// Restores one node, or begins to. A directory becomes a new frame.
    fn enter(&mut self, frame: &mut Frame, node: Result<Node, Invalid>) -> Result<Option<Frame>> {
        let rows = &self.run.rows;
        let above = &frame.dir.path;
        let node = match node {
            Ok(node) => node,
            Err(why) => {
                frame.complete = false;
                rows.add(above, FileOperation::Tree, why);
                return Ok(None);
            }
        };
        let name = match name::decode(&node.name) {
            Ok(name) => name,
            Err(why) => {
                frame.complete = false;
                let shown = node.name.escape_debug().to_string().replace('/', "\\x2f");
                rows.add(&above.join(shown), FileOperation::Name, why);
                return Ok(None);
            }
        };
        let path = above.join(&name);
        if !frame.names.is_new(&name, &frame.entries) {
            let message = "a second entry of the same name";
            rows.add(&path, FileOperation::Name, message);
            return Ok(None);
        }
        let below = match &mut frame.select {
            None => None,
            Some(select) => match select.take(&name) {
                Selected::Not => return Ok(None),
                Selected::Part(below) => Some(below),
                Selected::Whole => None,
            },
        };
        let done = if node.kind == "dir" {
            self.directory(&frame.dir, &name, &path, &node, below)
        } else if let Some(below) = below {
            self.not_found(&path, &below);
            Ok(None)
        } else {
            self.entry(&frame.dir, name, &node).map(|()| None)
        };
        match done {
            Ok(inside) => Ok(inside),
            Err(Failure::Row(operation, message)) => {
                self.run.rows.add(&path, operation, message);
                Ok(None)
            }
            Err(Failure::Fatal(error)) => Err(error),
        }
    }

    fn directory(
        &mut self,
        above: &Arc<Dir>,
        name: &OsStr,
        path: &Path,
        node: &Node,
        select: Option<Select>,
    ) -> Result<Option<Frame>, Failure> {
        let tree = node.subtree.as_deref().and_then(Id::parse);
        let refused = tree.and_then(|tree| self.descent.refuses(self.run.index, &tree));
        let read = tree
            .filter(|_| refused.is_none())
            .map(|tree| self.reader.read_tree(&tree));
        let entries = match read {
            Some(Ok(entries)) => Ok(entries),
            Some(Err(error)) if !error.is_of_one_object() => return Err(Failure::Fatal(error)),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(refused.unwrap_or_else(|| "its entry names no content".to_owned())),
        };
        if let Err(message) = &entries {
            let there = self.run.there(above, name)?;
            if there.is_some_and(|meta| meta.kind != Kind::Dir) {
                let message = format!("{message}; what was there stays");
                return Err(Failure::Row(FileOperation::Tree, message));
            }
            self.run.rows.add(path, FileOperation::Tree, message);
        }
        let entries = entries.ok();
        let dir = self.make_dir(above, name, path, node, select.is_some())?;
        count(&self.run.counts.dirs, 1);
        Ok(Some(Frame {
            dir,
            complete: entries.is_some(),
            entries: entries.unwrap_or_default(),
            select,
            names: Names::default(),
        }))
    }

    /// Makes a directory or opens the one that is there. One that only leads to what is selected
    /// keeps its metadata.
    fn make_dir(
        &self,
        above: &Arc<Dir>,
        name: &OsStr,
        path: &Path,
        node: &Node,
        leads: bool,
    ) -> Result<Arc<Dir>, Failure> {
        let run = self.run;
        let there = run.there(above, name)?;
        let on_the_way = leads
            || run
                .ways
                .iter()
                .any(|way| way != path && way.starts_with(path));
        let linked = self.linked(above, name, there.as_ref().filter(|_| on_the_way))?;
        let is_dir = linked.is_some() || there.as_ref().is_some_and(|meta| meta.kind == Kind::Dir);
        if !is_dir {
            run.change(
                path,
                match there {
                    Some(_) => RestoreAction::Replace,
                    None => RestoreAction::Create,
                },
            );
            if run.request.dry_run {
                return Ok(Run::absent_dir(path.to_owned(), above));
            }
        }
        let open = |error| Failure::new(FileOperation::Open, error);
        let fd = run.open_dir(above).map_err(open)?;
        let mut fresh = false;
        if there.is_some() && !is_dir {
            // No rename replaces a file by a directory; what is there goes when the directory is
            // certain.
            let temporary = run.temporary_name();
            let made = rustix::fs::mkdirat(&*fd, &temporary, Mode::RWXU);
            run.step(FileOperation::Create, made)?;
            let placed = rustix::fs::unlinkat(&*fd, name, AtFlags::empty())
                .and_then(|()| rustix::fs::renameat(&*fd, &temporary, &*fd, name));
            if let Err(error) = placed {
                // The error that matters is the one already there.
                _ = rustix::fs::unlinkat(&*fd, &temporary, AtFlags::REMOVEDIR);
                return Err(Failure::new(FileOperation::Create, error));
            }
            fresh = true;
        } else if !is_dir {
            fresh = match rustix::fs::mkdirat(&*fd, name, Mode::RWXU) {
                Err(Errno::EXIST) => false,
                made => run.step(FileOperation::Create, made).map(|()| true)?,
            };
        }
        let (fd, is_link) = match linked {
            Some(fd) => (fd, true),
            None => (
                open_there(fd.as_fd(), name, run.request.dry_run).map_err(open)?,
                false,
            ),
        };
        let known = there.as_ref().filter(|_| is_dir && !is_link);
        let mode_before = known.map(|meta| meta.mode);
        let attributes = (fresh || !leads).then(|| Attributes::of(node));
        if let (Some(attributes), Some(meta)) = (&attributes, &there)
            && !fresh
        {
            self.would_set(path, Of::Open(fd.as_fd()), attributes, meta);
        }
        let whole = !leads && node.error.is_empty() && run.deletion.covers(path);
        let opened = Opened {
            fd,
            fresh,
            whole,
            mode_before,
            linked: is_link,
        };
        run.dir(path.to_owned(), Some(above), opened, attributes)
            .map_err(|error| match error {
                Errno::XDEV => Failure::Row(
                    FileOperation::Open,
                    "another file system is mounted here; nothing below was restored".to_owned(),
                ),
                error => open(error),
            })
    }

    /// The directory that a link on the way to what is selected leads to, if links are gone
    /// through.
    fn linked(
        &self,
        above: &Arc<Dir>,
        name: &OsStr,
        there: Option<&Meta>,
    ) -> Result<Option<OwnedFd>, Failure> {
        let link = there.filter(|meta| meta.kind == Kind::Symlink);
        let Some(link) = link.filter(|_| self.run.request.through_links) else {
            return Ok(None);
        };
        let open = |error| Failure::new(FileOperation::Open, error);
        let above = self.run.open_dir(above).map_err(open)?;
        Run::open_linked(above.as_fd(), name, link).map_err(open)
    }

    /// A directory's entries are all known: what is extra goes, and the rest is waited for.
    fn leave(&self, frame: &Frame) -> Result<()> {
        let run = self.run;
        if let Some(select) = &frame.select {
            self.not_found(&frame.dir.path, select);
        } else if run.request.delete_extra && !frame.dir.fresh {
            if frame.complete {
                let names = names(&frame.entries, usize::MAX);
                run.delete_extra(&frame.dir, &names)?;
            } else if frame.dir.whole {
                let message = "nothing was deleted here: what belongs here is not known";
                run.rows
                    .add(&frame.dir.path, FileOperation::Delete, message);
            }
        }
        if !frame.dir.fresh && !run.request.dry_run {
            run.remove_leftovers(&frame.dir);
        }
        run.release(&frame.dir);
        Ok(())
    }

    fn not_found(&self, path: &Path, select: &Select) {
        for left in select.left() {
            let message = "it was selected, and is not in the snapshot";
            self.run
                .rows
                .add(&path.join(left), FileOperation::Tree, message);
        }
    }
}

impl Run<'_> {
    /// What has this name in the target.
    pub(super) fn there(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<Option<Meta>, Failure> {
        if dir.fresh || !dir.exists() {
            return Ok(None);
        }
        let fd = self
            .open_dir(dir)
            .map_err(|error| Failure::new(FileOperation::Open, error))?;
        match Meta::at(&*fd, name) {
            Ok(meta) if meta.mount != self.mount && !self.request.across_mounts => {
                Err(Failure::Row(
                    FileOperation::Open,
                    "another file system is mounted here; nothing below was restored".to_owned(),
                ))
            }
            Ok(meta) => Ok(Some(meta)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Failure::new(FileOperation::Stat, error)),
        }
    }
}
