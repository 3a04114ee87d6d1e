//! Setting metadata: owner, attributes, mode, times, in this order, and only where it differs.
//!
//! The order matters: a change of owner clears setuid bits and capabilities, attributes can change
//! mode bits, and everything changes times. Every step that fails is a row; the next is still
//! tried.

use std::{
    os::fd::{AsRawFd as _, BorrowedFd},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
    process::{Gid, Uid},
};

use super::run::Run;
use crate::{
    files::{
        meta::{Kind, Meta, unix_mode},
        xattr::{self, Of},
    },
    format::{root::RootMeta, time, tree::Node},
    rows::FileOperation,
};

/// Labels of one machine's policy; wrong on another.
const NOT_RESTORED: &[&[u8]] = &[b"security.selinux"];
const ACL: &[u8] = b"system.posix_acl_access";

/// An extended attribute. Its value is none if what the repository says is not base64.
type Extended = (Box<str>, Option<Box<[u8]>>);

/// What is to be set of a file or directory.
pub(super) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    /// None if what the repository says is not a time.
    mtime: Option<Timestamp>,
    extended: Vec<Extended>,
}

impl Attributes {
    pub(super) fn of(node: &Node) -> Self {
        let extended = node.extended_attributes.iter();
        let extended = extended.map(|attribute| {
            let value = STANDARD.decode(&attribute.value).ok();
            (
                attribute.name.as_str().into(),
                value.map(Vec::into_boxed_slice),
            )
        });
        Self {
            mode: unix_mode(node.mode),
            uid: node.uid,
            gid: node.gid,
            mtime: time::parse(&node.mtime),
            extended: extended.collect(),
        }
    }

    pub(super) fn of_root(meta: RootMeta) -> Self {
        let extended = meta.attributes.into_iter();
        let extended = extended.map(|(name, value)| (name.into(), Some(value.into())));
        Self {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: Some(meta.mtime),
            extended: extended.collect(),
        }
    }

    fn has_owner(&self) -> bool {
        self.uid != u32::MAX && self.gid != u32::MAX
    }

    fn wants(&self, name: &[u8]) -> bool {
        let mut names = self.extended.iter();
        names.any(|(wanted, value)| value.is_some() && wanted.as_bytes() == name)
    }
}

/// What metadata is set on.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) of: Of<'a>,
    pub(super) kind: Kind,
    /// Below the target, for rows.
    pub(super) path: &'a Path,
}

/// What is known of the present metadata.
#[derive(Clone, Copy)]
pub(super) enum Before<'a> {
    /// Just made, with no attributes.
    Nothing,
    /// Made or written, and attributes may be there.
    Written,
    /// This, and nothing was written.
    Known(&'a Meta),
}

impl Run<'_> {
    /// Makes metadata what it should be. Only what differs is touched.
    pub(super) fn set_attributes(&self, at: At<'_>, wanted: &Attributes, before: Before<'_>) {
        let known = match before {
            Before::Known(meta) => Some(meta),
            _ => None,
        };
        let mut touched = known.is_none();
        if self.request.restore_owner {
            touched |= self.set_owner(at, wanted, known);
        }
        let clean = !matches!(before, Before::Nothing);
        touched |= self.set_extended(at, wanted, clean);
        // Linux has no mode of links.
        let mode_differs = touched || known.is_some_and(|meta| meta.mode != wanted.mode);
        if at.kind != Kind::Symlink && mode_differs {
            self.row(at, FileOperation::Chmod, set_mode(at, wanted.mode));
        }
        match wanted.mtime {
            Some(mtime) if known.is_some_and(|meta| meta.mtime == mtime) => {}
            Some(mtime) => self.row(at, FileOperation::Times, set_mtime(at, mtime)),
            None => {
                let message = "its time is not a time";
                self.rows.add(at.path, FileOperation::Times, message);
            }
        }
    }

    /// Whether [`Run::set_attributes`] would touch anything.
    pub(super) fn attributes_differ(&self, at: At<'_>, wanted: &Attributes, known: &Meta) -> bool {
        let owner = self.request.restore_owner
            && wanted.has_owner()
            && (known.uid, known.gid) != (wanted.uid, wanted.gid);
        owner
            || at.kind != Kind::Symlink && known.mode != wanted.mode
            || wanted.mtime.is_some_and(|mtime| mtime != known.mtime)
            || extended_differ(at, wanted)
    }

    fn row(&self, at: At<'_>, operation: FileOperation, result: Result<(), Errno>) {
        if let Err(error) = result {
            self.rows
                .add(at.path, operation, std::io::Error::from(error));
        }
    }

    /// Whether it was changed.
    fn set_owner(&self, at: At<'_>, wanted: &Attributes, known: Option<&Meta>) -> bool {
        if !wanted.has_owner() {
            let message = "its owner is not one a file can have";
            self.rows.add(at.path, FileOperation::Chown, message);
            return false;
        }
        let same = |meta: &Meta| (meta.uid, meta.gid) == (wanted.uid, wanted.gid);
        // Asking first lets an ordinary user restore files of their own; root need not ask.
        let already = match known {
            Some(meta) => same(meta),
            None if self.is_root => false,
            None => match at.of {
                Of::Open(fd) => Meta::of(fd),
                Of::Entry(dir, name) => Meta::at(dir, name),
            }
            .is_ok_and(|meta| same(&meta)),
        };
        if already {
            return false;
        }
        let (uid, gid) = (
            Some(Uid::from_raw(wanted.uid)),
            Some(Gid::from_raw(wanted.gid)),
        );
        let done = match at.of {
            Of::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Of::Entry(dir, name) => {
                rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        let changed = done.is_ok();
        self.row(at, FileOperation::Chown, done);
        changed
    }

    /// Whether mode bits may have changed. With `clean`, attributes that do not belong there are
    /// removed.
    fn set_extended(&self, at: At<'_>, wanted: &Attributes, clean: bool) -> bool {
        let mut touched = false;
        if clean {
            // Where listing is not possible there is nothing to be removed either.
            for name in xattr::list_of(at.of).unwrap_or_default() {
                if is_kept(&name) || wanted.wants(&name) {
                    continue;
                }
                touched |= name == ACL;
                let gone = match xattr::remove_of(at.of, &name) {
                    Err(Errno::NODATA) => Ok(()),
                    result => result,
                };
                self.extended_row(at, &String::from_utf8_lossy(&name), gone);
            }
        }
        for (name, value) in &wanted.extended {
            let bytes = name.as_bytes();
            if NOT_RESTORED.contains(&bytes) {
                continue;
            }
            let Some(value) = value else {
                let message = "an attribute's value is not base64";
                self.rows.add(at.path, FileOperation::Xattr, message);
                continue;
            };
            if clean && is_set(at.of, bytes, value) {
                continue;
            }
            touched |= bytes == ACL;
            self.extended_row(at, name, xattr::set_of(at.of, bytes, value));
        }
        touched
    }

    fn extended_row(&self, at: At<'_>, name: &str, result: Result<(), Errno>) {
        if let Err(error) = result {
            let error = std::io::Error::from(error);
            let message = format!("{}: {error}", name.escape_debug());
            self.rows.add(at.path, FileOperation::Xattr, message);
        }
    }
}

fn is_set(of: Of<'_>, name: &[u8], value: &[u8]) -> bool {
    matches!(xattr::get_of(of, name), Ok(Some(there)) if there == value)
}

fn extended_differ(at: At<'_>, wanted: &Attributes) -> bool {
    let there = xattr::list_of(at.of).unwrap_or_default();
    let extra = there
        .iter()
        .any(|name| !is_kept(name) && !wanted.wants(name));
    extra
        || wanted.extended.iter().any(|(name, value)| {
            let name = name.as_bytes();
            let value = value.as_deref();
            !NOT_RESTORED.contains(&name) && value.is_some_and(|value| !is_set(at.of, name, value))
        })
}

/// Attributes that belong to the system the target is on, not to the file.
fn is_kept(name: &[u8]) -> bool {
    let removed: [&[u8]; 5] = [
        b"user.",
        b"trusted.",
        b"security.capability",
        ACL,
        b"system.posix_acl_default",
    ];
    name.starts_with(b"trusted.overlay.") || !removed.iter().any(|prefix| name.starts_with(prefix))
}

/// Through a handle of the very file: a link put in its place meanwhile must not be followed.
fn set_mode(at: At<'_>, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode);
    let (dir, name) = match at.of {
        Of::Open(fd) => return rustix::fs::fchmod(fd, mode),
        Of::Entry(dir, name) => (dir, name),
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    if Meta::of(&fd)?.kind != at.kind {
        return Err(Errno::STALE);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)
}

fn set_mtime(at: At<'_>, mtime: Timestamp) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: timespec(mtime),
    };
    match at.of {
        Of::Open(fd) => rustix::fs::futimens(fd, &times),
        Of::Entry(dir, name) => rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
    }
}

/// Whether files made in this directory are born with access lists.
pub(super) fn gives_access_lists(dir: BorrowedFd<'_>) -> bool {
    matches!(
        xattr::get_of(Of::Open(dir), b"system.posix_acl_default"),
        Ok(Some(_))
    )
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

    #[test]
    fn what_belongs_to_the_file_is_removed_and_no_more() {
        for (name, kept) in [
            ("user.x", false),
            ("trusted.x", false),
            ("trusted.overlay.opaque", true),
            ("security.capability", false),
            ("security.ima", true),
            ("system.posix_acl_access", false),
            ("system.nfs4_acl", true),
        ] {
            assert_eq!(is_kept(name.as_bytes()), kept, "{name}");
        }
    }
}
