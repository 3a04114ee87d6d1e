//! Deleting what the snapshot does not have.
//!
//! Only in directories whose every entry in the snapshot is known. Works downwards through open directories,
//! follows no link, and leaves alone what is mounted. What cannot be deleted is a row.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Mode},
    io::Errno,
};

use super::{
    Failure, RestoreAction,
    dirs::Dir,
    entry::in_the_way,
    run::{Run, count},
};
use crate::{
    error::Result,
    files::{
        beneath::DIR,
        meta::{Kind, Meta},
    },
    rows::FileOperation,
};

/// Directories open at the same time on the way down; what is deeper stays, and is a row.
const DEPTH: usize = 256;

struct Level {
    dir: OwnedFd,
    path: PathBuf,
    names: Vec<OsString>,
}

impl Run<'_> {
    /// Deletes what is in a directory and has none of these names.
    pub(super) fn delete_extra(&self, dir: &Arc<Dir>, names: &HashSet<OsString>) -> Result<()> {
        let listed = self
            .open_dir(dir)
            .and_then(|fd| list(fd.as_fd()).map(|there| (fd, there)));
        let (fd, there) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.deletion_failed(&dir.path, error);
                return Ok(());
            }
        };
        for name in there {
            if !names.contains(&name) {
                self.delete(fd.as_fd(), &name, &dir.path.join(&name))?;
            }
        }
        Ok(())
    }

    /// Makes room where a directory is and something else shall be: with `delete_extra`, whatever is in it; else
    /// only if it is empty.
    pub(super) fn clear(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<(), Failure> {
        let fd = self.open_dir(dir).map_err(in_the_way)?;
        let inside = rustix::fs::openat(&*fd, name, DIR, Mode::empty()).map_err(in_the_way)?;
        let names = list(inside.as_fd()).map_err(in_the_way)?;
        let path = dir.path.join(name);
        if !self.request.delete_extra {
            return if names.is_empty() {
                Ok(())
            } else {
                Err(in_the_way(Errno::NOTEMPTY))
            };
        }
        for name in names {
            let path = path.join(&name);
            self.delete(inside.as_fd(), &name, &path)
                .map_err(Failure::Fatal)?;
        }
        Ok(())
    }

    /// Deletes an entry with everything in it.
    fn delete(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        let Some(top) = self.delete_or_enter(dir, name, path) else {
            return Ok(());
        };
        let mut stack = vec![top];
        while let Some(level) = stack.last_mut() {
            self.go()?;
            let Some(name) = level.names.pop() else {
                if let Some(done) = stack.pop() {
                    let (above, name) = match stack.last() {
                        Some(above) => (above.dir.as_fd(), done.path.file_name()),
                        None => (dir, Some(name)),
                    };
                    drop(done.dir);
                    self.unlink(
                        above,
                        name.unwrap_or_default(),
                        &done.path,
                        AtFlags::REMOVEDIR,
                    );
                }
                continue;
            };
            let path = level.path.join(&name);
            if let Some(inside) = self.delete_or_enter(level.dir.as_fd(), &name, &path) {
                if stack.len() < DEPTH {
                    stack.push(inside);
                } else {
                    self.deletion_failed(&path, Errno::MFILE);
                }
            }
        }
        Ok(())
    }

    /// Deletes an entry; a directory is opened instead.
    fn delete_or_enter(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Option<Level> {
        let opened = Meta::at(dir, name).and_then(|meta| {
            if meta.mount != self.mount {
                return Err(Errno::XDEV);
            }
            if meta.kind != Kind::Dir {
                return Ok(None);
            }
            let dir = rustix::fs::openat(dir, name, DIR, Mode::empty())?;
            // A mount may have been made since.
            if Meta::of(&dir)?.mount != self.mount {
                return Err(Errno::XDEV);
            }
            let names = list(dir.as_fd())?;
            let path = path.to_owned();
            Ok(Some(Level { dir, path, names }))
        });
        match opened {
            Ok(Some(level)) => return Some(level),
            Ok(None) => self.unlink(dir, name, path, AtFlags::empty()),
            Err(Errno::NOENT) => {}
            Err(error) => self.deletion_failed(path, error),
        }
        None
    }

    fn unlink(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, flags: AtFlags) {
        let deleted = if self.request.dry_run {
            Ok(())
        } else {
            rustix::fs::unlinkat(dir, name, flags)
        };
        match deleted {
            Ok(()) => {
                count(&self.counts.deleted, 1);
                self.change(path, RestoreAction::Delete);
            }
            // What is still in it has a row of its own.
            Err(Errno::NOENT | Errno::NOTEMPTY) => {}
            Err(error) => self.deletion_failed(path, error),
        }
    }

    fn deletion_failed(&self, path: &Path, error: Errno) {
        let message = match error {
            Errno::XDEV => "another file system is mounted here; it stays".to_owned(),
            Errno::MFILE => format!("deeper than {DEPTH} directories"),
            error => std::io::Error::from(error).to_string(),
        };
        self.rows.add(path, FileOperation::Delete, message);
    }
}

fn list(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}
