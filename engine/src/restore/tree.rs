//! Going through the snapshot's trees, directory by directory.
//!
//! Keeps a bounded number of directories open; one that was closed on the way down is opened again beneath
//! the root, and must still be the same directory.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode},
    io::Errno,
};

use super::{Failure, RestoreReport, RestoreRequest, step};
use crate::{
    Cancel, Progress,
    crypto::Id,
    error::{Error, Result},
    files::{
        beneath::{DIR, Root},
        meta::{Kind, Meta},
    },
    format::{Invalid, name, tree::Node},
    repo::blobs::{BlobReader, is_content},
    rows::{FileOperation, Rows},
};

/// Directories kept open on the way down.
const KEEP_OPEN: usize = 64;
/// Deeper trees are not restored.
const MAX_DEPTH: usize = 4096;

/// A restore in progress.
pub(super) struct Restorer<'a> {
    pub(super) root: &'a Root,
    pub(super) mount: u64,
    pub(super) blobs: BlobReader<'a>,
    pub(super) request: &'a RestoreRequest,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) rows: Rows,
    pub(super) notes: Rows,
    /// Files with several names, by inode and device, as restored first.
    pub(super) links: HashMap<(u64, u64), First>,
    pub(super) report: RestoreReport,
}

/// The first restored name of a file with several.
pub(super) struct First {
    pub(super) dir: PathBuf,
    pub(super) name: OsString,
    pub(super) content: Id,
}

struct Frame {
    path: PathBuf,
    dir: Option<OwnedFd>,
    inode: u64,
    device: u64,
    nodes: std::vec::IntoIter<Result<Node, Invalid>>,
    names: HashSet<OsString>,
    /// The directory's own node; none for the root.
    node: Option<Node>,
}

impl Restorer<'_> {
    /// Restores a tree into the root.
    pub(super) fn tree(&mut self, tree: Id) -> Result<()> {
        // Without its root there is nothing to restore: not a row.
        let nodes = self.blobs.read_tree(&tree)?;
        let fd = self
            .root
            .open_dir(Path::new(""))
            .map_err(|error| self.target(error))?;
        let mut stack = Vec::new();
        let frame = self.frame(PathBuf::new(), fd, nodes, None);
        stack.push(frame.map_err(|error| self.target(error))?);
        while let Some(top) = stack.last_mut() {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let Some(node) = top.nodes.next() else {
                self.leave(top);
                stack.pop();
                continue;
            };
            if let Some(inside) = self.enter(top, node)? {
                stack.push(inside);
                if let Some(above) = stack.len().checked_sub(KEEP_OPEN) {
                    stack[above].dir = None;
                }
                if stack.len() > MAX_DEPTH
                    && let Some(top) = stack.last_mut()
                {
                    let message = format!("deeper than {MAX_DEPTH} directories");
                    self.rows
                        .add(&top.path, FileOperation::Unsupported, message);
                    top.nodes = Vec::new().into_iter();
                }
            }
        }
        Ok(())
    }

    pub(super) fn target(&self, error: Errno) -> Error {
        Error::Target {
            path: self.request.target.clone(),
            source: error.into(),
        }
    }

    fn frame(
        &self,
        path: PathBuf,
        dir: OwnedFd,
        nodes: Vec<Result<Node, Invalid>>,
        node: Option<Node>,
    ) -> Result<Frame, Errno> {
        let meta = Meta::of(&dir)?;
        if meta.mount != self.mount {
            return Err(Errno::XDEV);
        }
        Ok(Frame {
            path,
            dir: Some(dir),
            inode: meta.inode,
            device: meta.device,
            nodes: nodes.into_iter(),
            names: HashSet::new(),
            node,
        })
    }

    /// The directory of a frame, opened again if it was closed.
    fn dir(&self, frame: &mut Frame) -> Result<OwnedFd, Errno> {
        if let Some(dir) = frame.dir.take() {
            return Ok(dir);
        }
        let dir = self.root.open_dir(&frame.path)?;
        let meta = Meta::of(&dir)?;
        if meta.inode == frame.inode && meta.device == frame.device {
            Ok(dir)
        } else {
            Err(Errno::STALE)
        }
    }

    /// Restores one node. A directory becomes a new frame.
    fn enter(&mut self, frame: &mut Frame, node: Result<Node, Invalid>) -> Result<Option<Frame>> {
        let node = match node {
            Ok(node) => node,
            Err(why) => {
                self.rows.add(&frame.path, FileOperation::Tree, why);
                return Ok(None);
            }
        };
        let name = match name::decode(&node.name) {
            Ok(name) => name,
            Err(why) => {
                let shown = frame
                    .path
                    .join(node.name.escape_debug().to_string().replace('/', "\\x2f"));
                self.rows.add(&shown, FileOperation::Name, why);
                return Ok(None);
            }
        };
        let path = frame.path.join(&name);
        if !frame.names.insert(name.clone()) {
            let message = "a second entry of the same name";
            self.rows.add(&path, FileOperation::Name, message);
            return Ok(None);
        }
        let dir = match self.dir(frame) {
            Ok(dir) => dir,
            Err(error) => {
                let message = std::io::Error::from(error);
                self.rows.add(&frame.path, FileOperation::Open, message);
                frame.nodes = Vec::new().into_iter();
                return Ok(None);
            }
        };
        let done = if node.kind == "dir" {
            self.make_dir(dir.as_fd(), &name, &path, node)
        } else {
            self.node(dir.as_fd(), &frame.path, &name, &node)
                .map(|()| None)
        };
        frame.dir = Some(dir);
        match done {
            Ok(inside) => Ok(inside),
            Err(Failure::Row(operation, message)) => {
                self.rows.add(&path, operation, message);
                Ok(None)
            }
            Err(Failure::Fatal(error)) => Err(error),
        }
    }

    fn make_dir(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        node: Node,
    ) -> Result<Option<Frame>, Failure> {
        let create = |error| Failure::new(FileOperation::Create, error);
        if Meta::at(dir, name).is_ok_and(|meta| meta.kind != Kind::Dir) {
            rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(create)?;
        }
        match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            result => step(&self.request.target, FileOperation::Create, result)?,
        }
        let fd = rustix::fs::openat(dir, name, DIR, Mode::empty())
            .map_err(|error| Failure::new(FileOperation::Open, error))?;
        let tree = node.subtree.as_deref().and_then(Id::parse);
        let nodes = match tree.map(|tree| self.blobs.read_tree(&tree)) {
            Some(Ok(nodes)) => nodes,
            Some(Err(error)) if !is_content(&error) => return Err(Failure::Fatal(error)),
            Some(Err(error)) => {
                self.rows.add(path, FileOperation::Tree, error);
                Vec::new()
            }
            None => {
                self.rows
                    .add(path, FileOperation::Tree, "its entry names no content");
                Vec::new()
            }
        };
        let frame = self.frame(path.to_owned(), fd, nodes, Some(node));
        let frame = frame.map_err(|error| match error {
            Errno::XDEV => Failure::Row(
                FileOperation::Open,
                "another file system is mounted here; nothing below was restored".to_owned(),
            ),
            error => Failure::new(FileOperation::Open, error),
        })?;
        self.report.dirs += 1;
        Ok(Some(frame))
    }

    /// Sets a directory's own metadata, after its content.
    fn leave(&mut self, frame: &mut Frame) {
        let Some(node) = frame.node.take() else {
            return;
        };
        match self.dir(frame) {
            Ok(dir) => self.metadata(dir.as_fd(), OsStr::new("."), &frame.path, &node, Kind::Dir),
            Err(error) => {
                let message = std::io::Error::from(error);
                self.rows.add(&frame.path, FileOperation::Open, message);
            }
        }
    }
}
