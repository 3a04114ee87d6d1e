//! Walking the source: every entry in the order the format wants, with its metadata.
//!
//! Order: depth first, entries of a directory sorted by their raw names. For each: metadata, then
//! attributes; a regular file is opened here and its metadata read from the open file, so that what is
//! read later is what was described. Nothing is followed: links are entries, mounted file systems are
//! entered only if asked. Whatever cannot be read becomes a row, and the walk goes on. A cancel ends it.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{attributes, file::Opened, filter::Filter};
use crate::{
    Cancel, Progress,
    files::{
        beneath::Root,
        meta::{Kind, Meta},
    },
    rows::{FileOperation, Rows},
};

/// Directories kept open on the way down; those above are opened again when the walk comes back.
const KEEP_OPEN: usize = 64;

/// A file changed this recently may change again without its times showing it.
const MARGIN: SignedDuration = SignedDuration::from_secs(2);

/// What all parts of one archive share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: Arc<Root>,
    pub(crate) filter: Filter,
    pub(crate) one_file_system: bool,
    /// Files that changed after this cannot be told from the parent's by their times.
    pub(crate) distrust_after: Option<Timestamp>,
    /// Differs from run to run: see [`Walk::make_recognisable`].
    pub(crate) mark: SignedDuration,
    pub(crate) rows: Rows,
    pub(crate) notes: Rows,
    pub(crate) progress: Progress,
    pub(crate) cancel: Cancel,
    pub(crate) counts: Counts,
}

/// What was walked.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) dirs: AtomicU64,
    pub(crate) unchanged: AtomicU64,
}

/// One entry of the source.
#[derive(Debug)]
pub(crate) struct WalkEntry {
    pub(crate) path: PathBuf,
    pub(crate) name: OsString,
    pub(crate) meta: Meta,
    /// 1 for the source's own file system, more for others: stable between machines.
    pub(crate) device_id: u64,
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
    pub(crate) link_target: Option<OsString>,
    /// For regular files.
    pub(crate) open: Option<Opened>,
}

struct Frame {
    path: PathBuf,
    dir: Option<OwnedFd>,
    inode: u64,
    device: u64,
    names: std::vec::IntoIter<OsString>,
}

/// One step of the walk.
enum Step {
    Entry(Box<WalkEntry>),
    Skipped,
    End,
}

/// A described entry, and its directory if it is to be entered.
struct Found {
    entry: Box<WalkEntry>,
    inside: Option<OwnedFd>,
}

/// The walk itself.
pub(crate) struct Walk {
    shared: Arc<Shared>,
    stack: Vec<Frame>,
    devices: Vec<u64>,
    mount: u64,
}

impl Walk {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let mut walk = Self {
            shared,
            stack: Vec::new(),
            devices: Vec::new(),
            mount: 0,
        };
        let opened = walk.shared.root.open_dir(Path::new(""));
        match opened.and_then(|dir| Ok((Meta::of(&dir)?, dir))) {
            Ok((meta, dir)) => {
                walk.mount = meta.mount;
                walk.devices.push(meta.device);
                walk.push(PathBuf::new(), dir, &meta);
            }
            Err(error) => walk.row(Path::new(""), FileOperation::Open, error),
        }
        walk
    }

    fn row(&self, path: &Path, operation: FileOperation, error: Errno) {
        let operation = match error {
            Errno::NOENT => FileOperation::Vanished,
            _ => operation,
        };
        self.shared
            .rows
            .add(path, operation, std::io::Error::from(error));
    }

    fn push(&mut self, path: PathBuf, dir: OwnedFd, meta: &Meta) {
        let (names, error) = list(dir.as_fd());
        if let Some(error) = error {
            self.row(&path, FileOperation::List, error);
        }
        if let Some(above) = self.stack.len().checked_sub(KEEP_OPEN) {
            self.stack[above].dir = None;
        }
        self.stack.push(Frame {
            path,
            dir: Some(dir),
            inode: meta.inode,
            device: meta.device,
            names: names.into_iter(),
        });
    }

    /// Looks at the next name of the innermost directory.
    fn step(&mut self) -> Step {
        let Some(top) = self.stack.last_mut() else {
            return Step::End;
        };
        let Some(name) = top.names.next() else {
            self.stack.pop();
            return Step::Skipped;
        };
        let path = top.path.join(&name);
        if top.dir.is_none() {
            match reopen(&self.shared.root, top) {
                Ok(dir) => top.dir = Some(dir),
                Err(error) => {
                    let path = top.path.clone();
                    self.stack.pop();
                    self.row(&path, FileOperation::List, error);
                    return Step::Skipped;
                }
            }
        }
        let Some(dir) = top.dir.take() else {
            return Step::Skipped;
        };
        let found = self.entry(dir.as_fd(), path.clone(), name);
        if let Some(top) = self.stack.last_mut() {
            top.dir = Some(dir);
        }
        match found {
            Ok(Some(Found { entry, inside })) => {
                if let Some(inside) = inside {
                    self.push(path, inside, &entry.meta);
                }
                Step::Entry(entry)
            }
            Ok(None) => Step::Skipped,
            Err((operation, error)) => {
                self.row(&path, operation, error);
                Step::Skipped
            }
        }
    }

    /// Describes one entry; for a directory to be entered, opens it.
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        path: PathBuf,
        name: OsString,
    ) -> Result<Option<Found>, (FileOperation, Errno)> {
        let stat = |error| (FileOperation::Stat, error);
        let open = |error| (FileOperation::Open, error);
        let now = Timestamp::now();
        let mut meta = Meta::at(dir, &name).map_err(stat)?;
        if self.shared.filter.excludes(&path, meta.kind == Kind::Dir) {
            return Ok(None);
        }
        let (mut inside, mut file, mut link_target) = (None, None, None);
        match meta.kind {
            Kind::Socket => {
                self.shared
                    .notes
                    .add(&path, FileOperation::Unsupported, "sockets are not kept");
                return Ok(None);
            }
            Kind::Dir if self.shared.one_file_system && meta.mount != self.mount => {
                self.shared.notes.add(
                    &path,
                    FileOperation::Unsupported,
                    "another file system, not entered",
                );
            }
            Kind::Dir => match open_at(dir, &name, OFlags::DIRECTORY) {
                Ok(fd) => {
                    meta = Meta::of(&fd).map_err(stat)?;
                    inside = Some(fd);
                }
                Err(error @ Errno::NOENT) => return Err(open(error)),
                // Its metadata is kept; that its content is not is a row.
                Err(error) => self.row(&path, FileOperation::List, error),
            },
            Kind::File => {
                let fd = open_at(dir, &name, OFlags::NONBLOCK).map_err(open)?;
                meta = Meta::of(&fd).map_err(stat)?;
                if meta.kind != Kind::File {
                    return Err(open(Errno::NOENT));
                }
                file = Some(fd);
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(dir, &name, Vec::new()).map_err(stat)?;
                link_target = Some(OsString::from_vec(target.into_bytes()));
            }
            Kind::Block | Kind::Char | Kind::Fifo => {}
        }
        let attributes = attributes::read(dir, &path, &name, &self.shared.rows);
        match meta.kind {
            Kind::File => {}
            Kind::Dir => drop(self.shared.counts.dirs.fetch_add(1, Ordering::Relaxed)),
            _ => self.shared.progress.file_done(),
        }
        let open =
            file.map(|fd| Opened::new(fd, path.clone(), meta.clone(), Arc::clone(&self.shared)));
        self.make_recognisable(&mut meta, now);
        let device_id = self.device_id(meta.device);
        let entry = Box::new(WalkEntry {
            path,
            name,
            meta,
            device_id,
            attributes,
            link_target,
            open,
        });
        Ok(Some(Found { entry, inside }))
    }

    /// The next backup takes a file for unchanged if size, inode, mtime and ctime are the same. Of a file that
    /// changed a moment ago that proves nothing: it can change again within the clock's grain. Its stored
    /// ctime, which nothing restores, is made one that the next run does not find, so that it is read again.
    fn make_recognisable(&self, meta: &mut Meta, now: Timestamp) {
        if meta.kind != Kind::File {
            return;
        }
        let changed = meta.mtime.max(meta.ctime);
        let recent = now.checked_sub(MARGIN).is_ok_and(|limit| changed > limit);
        let distrusted = self
            .shared
            .distrust_after
            .is_some_and(|limit| changed > limit);
        if recent || distrusted {
            meta.ctime = meta
                .ctime
                .checked_sub(self.shared.mark)
                .unwrap_or(meta.ctime);
        }
    }

    fn device_id(&mut self, device: u64) -> u64 {
        let at = self.devices.iter().position(|known| *known == device);
        let at = at.unwrap_or_else(|| {
            self.devices.push(device);
            self.devices.len() - 1
        });
        at as u64 + 1
    }
}

impl Iterator for Walk {
    type Item = WalkEntry;

    fn next(&mut self) -> Option<WalkEntry> {
        loop {
            if self.shared.cancel.is_cancelled() {
                return None;
            }
            match self.step() {
                Step::Entry(entry) => return Some(*entry),
                Step::Skipped => {}
                Step::End => return None,
            }
        }
    }
}

/// Opens for reading, without touching the access time where the system allows that.
fn open_at(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// Opens a directory the walk comes back to, and makes sure it is the same one.
fn reopen(root: &Root, frame: &Frame) -> Result<OwnedFd, Errno> {
    let dir = root.open_dir(&frame.path)?;
    let meta = Meta::of(&dir)?;
    if meta.inode == frame.inode && meta.device == frame.device {
        Ok(dir)
    } else {
        Err(Errno::STALE)
    }
}

/// Names in a directory, sorted; what could be read, and the error that ended the reading.
pub(super) fn list(dir: BorrowedFd<'_>) -> (Vec<OsString>, Option<Errno>) {
    let mut names = Vec::new();
    let entries = match rustix::fs::Dir::read_from(dir) {
        Ok(entries) => entries,
        Err(error) => return (names, Some(error)),
    };
    for entry in entries {
        match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name.to_vec()));
                }
            }
            Err(error) => {
                names.sort_unstable();
                return (names, Some(error));
            }
        }
    }
    names.sort_unstable();
    (names, None)
}
