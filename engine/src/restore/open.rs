//! Files made or opened for their content: always the entry that is meant, and never another.

use std::{
    ffi::{OsStr, OsString},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::file::File;
use crate::files::meta::{Kind, Meta};

const WRITE: OFlags = OFlags::WRONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Makes it; under another name, which is returned, if something has its own.
pub(super) fn make(
    dir: &OwnedFd,
    file: &File,
    temporary: impl FnOnce() -> OsString,
) -> rustix::io::Result<(OwnedFd, Option<OsString>)> {
    let flags = WRITE | OFlags::CREATE | OFlags::EXCL;
    let create = |name: &OsStr| rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
    if !file.replaces {
        match create(&file.name) {
            // Somebody made it a moment ago.
            Err(Errno::EXIST) => {}
            made => return Ok((made?, None)),
        }
    }
    let name = temporary();
    Ok((create(&name)?, Some(name)))
}

/// Opens what is there for writing, which must be what was compared.
pub(super) fn open_old(dir: &OwnedFd, file: &File, old: &Meta) -> rustix::io::Result<OwnedFd> {
    let write = || open_same(dir, file, old, OFlags::WRONLY);
    match write() {
        Err(Errno::ACCESS) => {
            // Its owner may write it after all; the mode is set in the end.
            let fd = open_same(dir, file, old, OFlags::RDONLY)?;
            rustix::fs::fchmod(fd, Mode::RUSR | Mode::WUSR)?;
            write()
        }
        opened => opened,
    }
}

/// Opens what was made, which must still be there.
pub(super) fn open_made(
    dir: &OwnedFd,
    name: &OsStr,
    place: (u64, u64),
) -> rustix::io::Result<OwnedFd> {
    let flags = WRITE | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let meta = Meta::of(&fd)?;
    let same = (meta.inode, meta.device) == place;
    if same { Ok(fd) } else { Err(Errno::STALE) }
}

/// Opens an entry that must still be the file it was.
pub(super) fn open_same(
    dir: &OwnedFd,
    file: &File,
    old: &Meta,
    access: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, &file.name, flags, Mode::empty())?;
    let meta = Meta::of(&fd)?;
    // Names of its own may have come since.
    let names = meta.links <= old.links || file.group.is_some();
    let same = meta.kind == Kind::File
        && (meta.inode, meta.device, meta.mount) == (old.inode, old.device, old.mount)
        && names;
    if same { Ok(fd) } else { Err(Errno::STALE) }
}
