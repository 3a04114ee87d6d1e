//! The walk: lists directories and hands their entries out.
//!
//! Depth first, names in the order of their bytes. Directories are opened and described here, everything else
//! by the workers. Nothing is followed; mounted file systems are entered only if asked. What cannot be read
//! becomes a row, and the walk goes on.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{FileType, OFlags},
    io::Errno,
};

use super::{Parent, Run, count, dirs::Directory, node, squeeze::Squeezer, trees, worker::Batch};
use crate::{
    archive::attributes,
    error::{Error, Result},
    files::{
        beneath::open_at,
        meta::{Kind, Meta},
    },
    repo::blobs::BlobReader,
    rows::FileOperation,
};

/// Directories kept open on the way down; those above are opened again when the walk comes back.
const KEEP_OPEN: usize = 64;
/// Entries of a batch.
const BATCH: usize = 64;

struct Frame {
    dir: Arc<Directory>,
    fd: Option<Arc<OwnedFd>>,
    inode: u64,
    device: u64,
    names: std::vec::IntoIter<(OsString, bool)>,
    waiting: Vec<OsString>,
    parent: Option<Parent>,
}

struct Walker<'r, 'a> {
    run: &'r Run<'a>,
    reader: BlobReader<'r>,
    squeezer: Squeezer,
    json: Vec<u8>,
    stack: Vec<Frame>,
    mount: u64,
}

/// Walks everything.
pub(super) fn walk(run: &Run<'_>) -> Result<()> {
    let source = |error: Errno| Error::Source {
        path: PathBuf::new(),
        source: error.into(),
    };
    let fd = run.input.root.open_dir(Path::new("")).map_err(source)?;
    let meta = Meta::of(&fd).map_err(source)?;
    run.device_id(meta.device);
    let mut walker = Walker {
        run,
        reader: BlobReader::new(run.repo, run.input.store, &run.index),
        squeezer: Squeezer::new(run.level).map_err(|error| Error::Bug(error.to_string()))?,
        json: Vec::new(),
        stack: Vec::new(),
        mount: meta.mount,
    };
    let parent = match run.input.parent {
        Some((id, _)) => trees::read(run, &mut walker.reader, &id)?,
        None => None,
    };
    let root = Directory::new(None, None, PathBuf::new());
    walker.enter(root, Some(fd), &meta, parent)?;
    while walker.step()? {
        run.go()?;
    }
    Ok(())
}

impl Walker<'_, '_> {
    fn row(&self, path: &Path, operation: FileOperation, error: Errno) {
        super::worker::row(self.run, path, operation, error);
    }

    /// Starts a directory; without a descriptor it stays empty.
    fn enter(
        &mut self,
        dir: Arc<Directory>,
        fd: Option<OwnedFd>,
        meta: &Meta,
        parent: Option<Parent>,
    ) -> Result<()> {
        let Some(fd) = fd else {
            return self.listed(dir);
        };
        let (names, error) = list(fd.as_fd());
        if let Some(error) = error {
            self.row(&dir.path, FileOperation::List, error);
        }
        if let Some(above) = self.stack.len().checked_sub(KEEP_OPEN) {
            self.stack[above].fd = None;
        }
        self.stack.push(Frame {
            dir,
            fd: Some(Arc::new(fd)),
            inode: meta.inode,
            device: meta.device,
            names: names.into_iter(),
            waiting: Vec::new(),
            parent,
        });
        Ok(())
    }

    fn listed(&mut self, dir: Arc<Directory>) -> Result<()> {
        if dir.listed() {
            trees::complete(self.run, dir, &mut self.squeezer, &mut self.json)?;
        }
        Ok(())
    }

    /// Takes the next name of the innermost directory. False at the end.
    fn step(&mut self) -> Result<bool> {
        let Some(top) = self.stack.last_mut() else {
            return Ok(false);
        };
        let Some(fd) = top.fd.clone() else {
            match self
                .run
                .input
                .root
                .open_dir(&top.dir.path)
                .and_then(|fd| Ok((Meta::of(&fd)?, fd)))
            {
                Ok((meta, fd)) if meta.inode == top.inode && meta.device == top.device => {
                    top.fd = Some(Arc::new(fd));
                }
                other => {
                    let error = other.err().unwrap_or(Errno::STALE);
                    let path = top.dir.path.clone();
                    top.names = Vec::new().into_iter();
                    // Nothing waits: the batch was sent before the walk went down.
                    if let Some(frame) = self.stack.pop() {
                        self.row(&path, FileOperation::List, error);
                        self.listed(frame.dir)?;
                    }
                }
            }
            return Ok(true);
        };
        match top.names.next() {
            Some((name, false)) => {
                top.waiting.push(name);
                if top.waiting.len() == BATCH {
                    self.send(&fd)?;
                }
            }
            Some((name, true)) => {
                self.send(&fd)?;
                self.directory(&fd, &name)?;
            }
            None => {
                self.send(&fd)?;
                if let Some(frame) = self.stack.pop() {
                    self.listed(frame.dir)?;
                }
            }
        }
        Ok(true)
    }

    fn send(&mut self, fd: &Arc<OwnedFd>) -> Result<()> {
        let Some(top) = self.stack.last_mut().filter(|top| !top.waiting.is_empty()) else {
            return Ok(());
        };
        let batch = Batch {
            slot: top.dir.slot(),
            dir: Arc::clone(&top.dir),
            fd: Arc::clone(fd),
            names: std::mem::take(&mut top.waiting),
            parent: top.parent.clone(),
        };
        self.run.queue.push(self.run, batch)
    }

    fn directory(&mut self, above: &Arc<OwnedFd>, name: &OsStr) -> Result<()> {
        let Some(top) = self.stack.last() else {
            return Ok(());
        };
        let (run, parent_dir) = (self.run, Arc::clone(&top.dir));
        let path = parent_dir.path.join(name);
        if run.input.filter.excludes(&path, true) {
            return Ok(());
        }
        let subtree = trees::subtree(top.parent.as_ref(), name.as_bytes());
        let described = match open_at(above.as_fd(), name, OFlags::DIRECTORY) {
            Ok(fd) => Meta::of(&fd).map(|meta| (meta, Some(fd))),
            Err(error @ Errno::NOENT) => Err(error),
            // Its metadata is kept; that its content is not is a row.
            Err(error) => {
                self.row(&path, FileOperation::List, error);
                Meta::at(above, name).map(|meta| (meta, None))
            }
        };
        let (meta, mut fd) = match described {
            Ok((meta, fd)) if meta.kind == Kind::Dir => (meta, fd),
            Ok(_) => return Ok(()),
            Err(error) => {
                self.row(&path, FileOperation::Open, error);
                return Ok(());
            }
        };
        if run.input.one_file_system && meta.mount != self.mount {
            let message = "another file system, not entered";
            run.input
                .notes
                .add(&path, FileOperation::Unsupported, message);
            fd = None;
        }
        let attributes = attributes::read(above.as_fd(), &path, name, run.input.rows);
        let node = node::node(name, &meta, attributes, 0);
        count(&run.counts.dirs, 1);
        let slot = parent_dir.slot();
        let dir = Directory::new(Some((parent_dir, slot)), Some(node), path);
        let parent = match (subtree, &fd) {
            (Some(id), Some(_)) => trees::read(run, &mut self.reader, &id)?,
            _ => None,
        };
        self.enter(dir, fd, &meta, parent)
    }
}

/// Names in a directory with whether each is one, sorted by name; what could be read, and the error that
/// ended the reading.
pub(super) fn list(dir: BorrowedFd<'_>) -> (Vec<(OsString, bool)>, Option<Errno>) {
    let mut names = Vec::new();
    let mut failed = None;
    match rustix::fs::Dir::read_from(dir) {
        Ok(entries) => {
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let is_dir = match entry.file_type() {
                    FileType::Unknown => Meta::at(dir, OsStr::from_bytes(name))
                        .is_ok_and(|meta| meta.kind == Kind::Dir),
                    known => known == FileType::Directory,
                };
                names.push((OsString::from_vec(name.to_vec()), is_dir));
            }
        }
        Err(error) => failed = Some(error),
    }
    names.sort_unstable();
    (names, failed)
}
