//! Deleting what the snapshot does not have.
//!
//! Only in directories that the backup read whole, and whose every entry in the snapshot is known.
//! Works downwards through open directories, follows no link, and leaves alone what is mounted.
//! What cannot be deleted is a row.

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
        // What is being made has another name until it is complete.
        let is_extra = |name: &&OsString| !names.contains(*name) && !self.is_temporary(name);
        let extra = there.iter().filter(is_extra);
        if !dir.whole {
            self.tell_what_stays(dir, fd.as_fd(), extra);
            return Ok(());
        }
        for name in extra {
            self.delete(fd.as_fd(), name, &dir.path.join(name))?;
        }
        Ok(())
    }

    /// Says how much is left alone in a directory that was not read whole. On the way to what was
    /// backed up, and where nothing is deleted at all, that goes without saying.
    fn tell_what_stays<'n>(
        &self,
        dir: &Dir,
        fd: BorrowedFd<'_>,
        extra: impl Iterator<Item = &'n OsString>,
    ) {
        if !self.deletion.covers(&dir.path) {
            return;
        }
        let would_go = |name: &&OsString| {
            let meta = Meta::at(fd, name.as_os_str());
            meta.is_ok_and(|meta| !self.deletion.keeps(&dir.path.join(name), meta.kind))
        };
        let stays = extra.filter(would_go).count();
        if stays > 0 {
            let message = format!(
                "the backup did not read all of this directory; {stays} entries stay that it may not have seen"
            );
            self.rows.add(&dir.path, FileOperation::Delete, message);
        }
    }

    /// Whether [`Self::clear`] may make room; a dry run counts what would go.
    pub(super) fn can_clear(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<(), Failure> {
        if self.request.dry_run || !dir.whole {
            return self.clear(dir, name);
        }
        Ok(())
    }

    /// Makes room where a directory is and something else shall be: with everything in it where
    /// what is extra goes; else only if it is empty.
    pub(super) fn clear(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<(), Failure> {
        let fd = self.open_dir(dir).map_err(in_the_way)?;
        let inside = rustix::fs::openat(&*fd, name, DIR, Mode::empty()).map_err(in_the_way)?;
        let names = list(inside.as_fd()).map_err(in_the_way)?;
        let path = dir.path.join(name);
        if !dir.whole {
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
            if self.deletion.keeps(path, meta.kind) {
                return Err(Errno::NOENT);
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

/// The names in a directory.
pub(super) fn list(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
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
