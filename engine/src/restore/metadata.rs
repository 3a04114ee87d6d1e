//! Setting metadata: owner, attributes, mode, times, in this order.
//!
//! The order matters: a change of owner clears setuid bits and capabilities, attributes can change mode
//! bits, and everything changes times. Every step that fails is a row; the next is still tried.

use std::{
    ffi::OsStr,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
    process::{Gid, Uid},
};

use super::tree::Restorer;
use crate::{
    files::{
        meta::{Kind, Meta, unix_mode},
        xattr,
    },
    format::{root::RootMeta, time, tree::Node},
    rows::FileOperation,
};

/// Labels of one machine's policy; wrong on another.
const NOT_RESTORED: &[&str] = &["security.selinux"];

impl Restorer<'_> {
    /// Metadata of an entry, by its node. For a directory, `dir` is itself and `name` is `.`.
    pub(super) fn metadata(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        node: &Node,
        kind: Kind,
    ) {
        self.owner(dir, name, path, node.uid, node.gid);
        for attribute in &node.extended_attributes {
            if let Ok(value) = STANDARD.decode(&attribute.value) {
                self.attribute(dir, name, path, &attribute.name, &value);
            } else {
                let message = "an attribute's value is not base64";
                self.rows.add(path, FileOperation::Xattr, message);
            }
        }
        self.mode(dir, name, path, unix_mode(node.mode), kind);
        match time::parse(&node.mtime) {
            Some(mtime) => self.times(dir, name, path, mtime),
            None => self
                .rows
                .add(path, FileOperation::Times, "its time is not a time"),
        }
    }

    /// Metadata of the target itself.
    pub(super) fn root_metadata(&self, meta: &RootMeta) {
        let (dir, name, path) = (self.root.as_fd(), OsStr::new("."), Path::new(""));
        self.owner(dir, name, path, meta.uid, meta.gid);
        for (attribute, value) in &meta.attributes {
            self.attribute(dir, name, path, attribute, value);
        }
        self.mode(dir, name, path, meta.mode, Kind::Dir);
        self.times(dir, name, path, meta.mtime);
    }

    fn row(&self, path: &Path, operation: FileOperation, result: Result<(), Errno>) {
        if let Err(error) = result {
            self.rows.add(path, operation, std::io::Error::from(error));
        }
    }

    fn owner(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, uid: u32, gid: u32) {
        if !self.request.restore_owner {
            return;
        }
        if uid == u32::MAX || gid == u32::MAX {
            let message = "its owner is not one a file can have";
            return self.rows.add(path, FileOperation::Chown, message);
        }
        // Asking first lets an ordinary user restore files of their own.
        if Meta::at(dir, name).is_ok_and(|meta| meta.uid == uid && meta.gid == gid) {
            return;
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let done = rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        self.row(path, FileOperation::Chown, done);
    }

    fn attribute(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        attribute: &str,
        value: &[u8],
    ) {
        if NOT_RESTORED.contains(&attribute) {
            return;
        }
        if let Err(error) = xattr::set(dir, name, attribute.as_bytes(), value) {
            let error = std::io::Error::from(error);
            let message = format!("{}: {error}", attribute.escape_debug());
            self.rows.add(path, FileOperation::Xattr, message);
        }
    }

    fn mode(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, mode: u32, kind: Kind) {
        // Linux has no mode of links.
        if kind == Kind::Symlink {
            return;
        }
        // Through a handle of the very file: a link put in its place meanwhile must not be followed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let done = rustix::fs::openat(dir, name, flags, Mode::empty()).and_then(|fd| {
            let meta = Meta::of(&fd)?;
            if meta.kind != kind {
                return Err(Errno::STALE);
            }
            if meta.mode == mode {
                return Ok(());
            }
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::chmod(path, Mode::from_raw_mode(mode))
        });
        self.row(path, FileOperation::Chmod, done);
    }

    fn times(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, mtime: Timestamp) {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: timespec(mtime),
        };
        let done = rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW);
        self.row(path, FileOperation::Times, done);
    }
}

/// Seconds rounded down, so that the nanoseconds are never negative.
fn timespec(time: Timestamp) -> Timespec {
    let nanos = time.as_nanosecond();
    Timespec {
        tv_sec: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default(),
        tv_nsec: i64::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970() {
        let spec = timespec(Timestamp::new(-2, -500_000_000).unwrap());
        assert_eq!((spec.tv_sec, spec.tv_nsec), (-3, 500_000_000));
    }
}
