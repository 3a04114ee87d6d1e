//! What takes the place of something else: it has another name until it is complete, and then takes
//! the place in one step.
//!
//! Does: name it, put it in place, and remove what killed restores have left of it. A directory in
//! its place goes in that moment, with what is in it where what is extra goes; a kill between the
//! two steps that this takes leaves neither. Fails with a row, and then what was there stays.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    sync::{Arc, atomic::Ordering},
};

use jiff::{SignedDuration, Timestamp};
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{Failure, dirs::Dir, entry::in_the_way, extra::list, run::Run};
use crate::{
    files::meta::{Kind, Meta},
    rows::FileOperation,
};

/// How names begin of what is not complete.
const PREFIX: &[u8] = b".ark-restoring-";
/// What was not touched for so long is no restore's any more.
const LEFT: SignedDuration = SignedDuration::from_hours(1);

impl Run<'_> {
    /// A name that nothing has.
    pub(super) fn temporary_name(&self) -> OsString {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let mut name = OsStr::from_bytes(PREFIX).to_owned();
        name.push(format!("{:016x}-{number}", self.token));
        name
    }

    /// Whether this restore made it, and is not done with it.
    pub(super) fn is_temporary(&self, name: &OsStr) -> bool {
        let own = format!("{:016x}-", self.token);
        let rest = name.as_bytes().strip_prefix(PREFIX);
        rest.is_some_and(|rest| rest.starts_with(own.as_bytes()))
    }

    /// Gives a complete entry its own name. If that fails it goes.
    pub(super) fn put_in_place(
        &self,
        dir: &Arc<Dir>,
        temporary: &OsStr,
        name: &OsStr,
    ) -> Result<(), Failure> {
        let fd = self
            .open_dir(dir)
            .map_err(|error| Failure::new(FileOperation::Open, error))?;
        let rename = || rustix::fs::renameat(&*fd, temporary, &*fd, name);
        let done = match rename() {
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                self.clear(dir, name).and_then(|()| {
                    match rustix::fs::unlinkat(&*fd, name, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT) => rename().map_err(in_the_way),
                        Err(error) => Err(in_the_way(error)),
                    }
                })
            }
            renamed => renamed.map_err(in_the_way),
        };
        // Of two names of one file a rename leaves both.
        match rustix::fs::unlinkat(&*fd, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!(%error, "an unfinished entry could not be removed"),
        }
        done
    }

    /// Removes an entry that will not be complete.
    pub(super) fn remove_temporary(&self, dir: &Arc<Dir>, temporary: &OsStr) -> Result<(), Errno> {
        let fd = self.open_dir(dir)?;
        rustix::fs::unlinkat(&*fd, temporary, AtFlags::empty())
    }

    /// Removes what a killed restore has left in a directory.
    pub(super) fn remove_leftovers(&self, dir: &Arc<Dir>) {
        let Ok(fd) = self.open_dir(dir) else { return };
        // Whoever must know what is in it looks for themselves.
        let names = list(fd.as_fd()).unwrap_or_default();
        for name in names {
            if !name.as_bytes().starts_with(PREFIX) || self.is_temporary(&name) {
                continue;
            }
            let is_left = |meta: &Meta| {
                let age = Timestamp::now().duration_since(meta.ctime);
                meta.kind != Kind::Dir && age > LEFT
            };
            let left = Meta::at(&*fd, name.as_os_str()).is_ok_and(|meta| is_left(&meta));
            if left {
                // It is in nobody's way, and the next restore tries again.
                _ = rustix::fs::unlinkat(&*fd, &name, AtFlags::empty());
            }
        }
    }
}

/// A new file without a name, for content that is to be written into another: it is gone with the
/// process.
pub(super) fn without_name(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
    Ok(fd)
}

/// Whether a file system has room for so many bytes more.
pub(super) fn has_room(dir: &OwnedFd, bytes: u64) -> bool {
    rustix::fs::fstatvfs(dir).is_ok_and(|room| {
        room.f_bavail.saturating_mul(room.f_frsize) > bytes.saturating_add(MARGIN)
    })
}

/// Bytes that are left to others.
const MARGIN: u64 = 16 << 20;
