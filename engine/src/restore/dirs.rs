//! Directories of the target while something is restored into them.
//!
//! A bounded number is kept open; one that was closed is opened again beneath the root, and must
//! still be the same directory. A directory's own metadata is set when the last of its content is
//! done, by whoever does that; then the directory above has one thing less to wait for. The root
//! comes last by that.
//!
//! A user who is not root may own a directory and not be allowed to write into it. Such a one is
//! opened to its owner for that time, and has its mode again in the end; a kill in between leaves
//! it open to its owner, and to nobody else.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{
    attributes::{At, Attributes, Before, gives_access_lists},
    run::Run,
};
use crate::{
    files::{
        beneath::{DIR, Root},
        meta::{Kind, Meta},
        xattr::Of,
    },
    rows::FileOperation,
};

/// Directories kept open.
const KEEP_OPEN: usize = 128;
/// What an owner must be allowed to restore into a directory: everything.
const OWNER: u32 = 0o700;

/// A directory just opened or made.
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    /// It was made.
    pub(super) fresh: bool,
    /// The backup read it whole.
    pub(super) whole: bool,
    /// The permission bits it had before this restore opened it.
    pub(super) mode_before: Option<u32>,
    /// A link in the target led to it.
    pub(super) linked: bool,
}

/// Where a link led: directories below are opened from there, because no link is followed below the
/// target's root. It stays open; there are as many as links on the way to what is selected.
struct Anchor {
    path: PathBuf,
    root: Root,
}

/// A directory of the target.
pub(super) struct Dir {
    /// Below the target.
    pub(super) path: PathBuf,
    /// Nothing was in it when the restore began.
    pub(super) fresh: bool,
    /// The backup read it whole: what the snapshot does not have there may go.
    pub(super) whole: bool,
    /// What is made in it is born with attributes.
    pub(super) gives: bool,
    /// Inode and device. None if it is not there: a dry run would make it.
    place: Option<(u64, u64)>,
    anchor: Option<Arc<Anchor>>,
    above: Option<Arc<Dir>>,
    handle: Mutex<Option<Arc<OwnedFd>>>,
    /// What to set in the end.
    attributes: Mutex<Option<Attributes>>,
    /// Its permission bits before its owner was allowed to write into it.
    mode_before: Option<u32>,
    /// What must be done before that: entries, and going through them.
    pending: AtomicUsize,
}

impl Dir {
    /// Whether it is there. In a dry run it may not be.
    pub(super) fn exists(&self) -> bool {
        self.place.is_some()
    }

    /// What to set in the end.
    pub(super) fn finish_with(&self, attributes: Attributes) {
        *self
            .attributes
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(attributes);
    }
}

/// One after the other: a deep tree would take a deep stack.
impl Drop for Dir {
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut dir) = above.and_then(Arc::into_inner) {
            above = dir.above.take();
        }
    }
}

/// Directories kept open, oldest first.
#[derive(Default)]
pub(super) struct OpenDirs(Mutex<VecDeque<Weak<Dir>>>);

impl Run<'_> {
    /// A directory just opened or made; what is above it waits for it.
    pub(super) fn dir(
        &self,
        path: PathBuf,
        above: Option<&Arc<Dir>>,
        opened: Opened,
        attributes: Option<Attributes>,
    ) -> Result<Arc<Dir>, Errno> {
        let Opened {
            fd,
            fresh,
            whole,
            mode_before,
            linked,
        } = opened;
        let meta = Meta::of(&fd)?;
        let on_target = meta.mount == self.mount;
        if !on_target {
            self.enter_mount(&meta, &fd)?;
        }
        let anchor = if linked {
            let root = Root::of(fd.try_clone().map_err(|_| Errno::MFILE)?);
            let path = path.clone();
            Some(Arc::new(Anchor { path, root }))
        } else {
            above.and_then(|above| above.anchor.clone())
        };
        let mode_before = self.let_owner_write(fd.as_fd(), &meta, mode_before);
        if let Some(above) = above {
            above.pending.fetch_add(1, Ordering::Relaxed);
        }
        let dir = Arc::new(Dir {
            path,
            fresh,
            whole: whole && on_target,
            // A new directory has the lists of the one above.
            gives: if fresh {
                above.is_some_and(|above| above.gives)
            } else {
                gives_access_lists(fd.as_fd())
            },
            place: Some((meta.inode, meta.device)),
            anchor,
            above: above.cloned(),
            handle: Mutex::new(Some(Arc::new(fd))),
            attributes: Mutex::new(attributes),
            mode_before,
            pending: AtomicUsize::new(1),
        });
        self.keep_open(&dir);
        Ok(dir)
    }

    /// A directory that a dry run would make.
    pub(super) fn absent_dir(path: PathBuf, above: &Arc<Dir>) -> Arc<Dir> {
        above.pending.fetch_add(1, Ordering::Relaxed);
        Arc::new(Dir {
            path,
            fresh: true,
            whole: false,
            gives: false,
            place: None,
            anchor: above.anchor.clone(),
            above: Some(Arc::clone(above)),
            handle: Mutex::new(None),
            attributes: Mutex::new(None),
            mode_before: None,
            pending: AtomicUsize::new(1),
        })
    }

    /// The open directory, opened again if it was closed.
    pub(super) fn open_dir(&self, dir: &Arc<Dir>) -> Result<Arc<OwnedFd>, Errno> {
        let mut handle = dir.handle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fd) = &*handle {
            return Ok(Arc::clone(fd));
        }
        let place = dir.place.ok_or(Errno::NOENT)?;
        let fd = match &dir.anchor {
            None => self.root.open_dir(&dir.path)?,
            Some(anchor) => {
                let below = dir.path.strip_prefix(&anchor.path);
                anchor.root.open_dir(below.map_err(|_| Errno::INVAL)?)?
            }
        };
        let fd = Arc::new(fd);
        let meta = Meta::of(&*fd)?;
        if (meta.inode, meta.device) != place {
            return Err(Errno::STALE);
        }
        *handle = Some(Arc::clone(&fd));
        drop(handle);
        self.keep_open(dir);
        Ok(fd)
    }

    fn keep_open(&self, dir: &Arc<Dir>) {
        let mut open = self.dirs.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(Arc::downgrade(dir));
        let mut oldest = None;
        while open.len() > KEEP_OPEN && oldest.is_none() {
            oldest = open.pop_front().and_then(|dir| dir.upgrade());
        }
        drop(open);
        if let Some(oldest) = oldest {
            close(&oldest);
        }
    }

    /// Something in it is still to be done.
    pub(super) fn hold(dir: &Dir) {
        dir.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// Something in it is done, for which there was a [`Run::hold`].
    pub(super) fn release(&self, dir: &Arc<Dir>) {
        let mut at = Arc::clone(dir);
        while at.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish_dir(&at);
            close(&at);
            match &at.above {
                Some(above) => at = Arc::clone(above),
                None => return,
            }
        }
    }

    fn finish_dir(&self, dir: &Arc<Dir>) {
        let attributes = dir
            .attributes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let going_on = self.go().is_ok() && !self.request.dry_run;
        let Some(attributes) = attributes.filter(|_| going_on) else {
            return self.close_to_owner(dir);
        };
        let known = self
            .open_dir(dir)
            .and_then(|fd| Meta::of(&*fd).map(|meta| (fd, meta)));
        match known {
            Ok((fd, meta)) => {
                let at = At {
                    of: Of::Open(fd.as_fd()),
                    kind: Kind::Dir,
                    path: &dir.path,
                };
                self.set_attributes(at, &attributes, Before::Known(&meta));
            }
            Err(error) => {
                let message = std::io::Error::from(error);
                self.rows.add(&dir.path, FileOperation::Open, message);
            }
        }
    }
}

impl Run<'_> {
    /// Notes that something is restored into another file system than the target's, which is to be
    /// synced in the end.
    fn enter_mount(&self, meta: &Meta, fd: &OwnedFd) -> Result<(), Errno> {
        if !self.request.across_mounts {
            return Err(Errno::XDEV);
        }
        let fd = fd.try_clone().map_err(|_| Errno::MFILE)?;
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.entry(meta.device).or_insert(fd);
        Ok(())
    }

    /// Opens the directory that a link in the target leads to. `None`: it leads to none, or is
    /// somebody else's.
    pub(super) fn open_linked(
        above: BorrowedFd<'_>,
        name: &OsStr,
        link: &Meta,
    ) -> Result<Option<OwnedFd>, Errno> {
        if link.uid != 0 && !is_own(link) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(above, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets the owner, who runs this, write into a directory that is there. Returns the permission
    /// bits it is to have again, if they were changed by this or before. Where that fails the rows
    /// of what is restored into it say so.
    fn let_owner_write(&self, fd: BorrowedFd<'_>, meta: &Meta, before: Option<u32>) -> Option<u32> {
        let before = before.unwrap_or(meta.mode);
        if self.is_root || self.request.dry_run || before & OWNER == OWNER || !is_own(meta) {
            return None;
        }
        let opened = rustix::fs::fchmod(fd, Mode::from_raw_mode(meta.mode | OWNER));
        opened
            .inspect_err(
                |error| tracing::debug!(%error, "a directory could not be opened to its owner"),
            )
            .ok()
            .map(|()| before)
    }

    /// Gives a directory that was opened to its owner its mode again.
    fn close_to_owner(&self, dir: &Arc<Dir>) {
        let Some(mode) = dir.mode_before else { return };
        let closed = self
            .open_dir(dir)
            .and_then(|fd| rustix::fs::fchmod(&*fd, Mode::from_raw_mode(mode)));
        if let Err(error) = closed {
            let message = std::io::Error::from(error);
            self.rows.add(&dir.path, FileOperation::Chmod, message);
        }
    }
}

/// Opens a directory, also if its owner, who runs this, may not read it at the moment; but nothing
/// is changed in a dry run.
pub(super) fn open_there(
    above: BorrowedFd<'_>,
    name: &OsStr,
    dry_run: bool,
) -> Result<OwnedFd, Errno> {
    let open = || rustix::fs::openat(above, name, DIR, Mode::empty());
    match open() {
        Err(Errno::ACCESS) if !dry_run => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(above, name, flags, Mode::empty())?;
            let meta = Meta::of(&fd)?;
            if !is_own(&meta) {
                return Err(Errno::ACCESS);
            }
            // Modes cannot be changed through such a descriptor itself. The mode is set in the end.
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let mode = std::fs::Permissions::from_mode(meta.mode | OWNER);
            std::fs::set_permissions(path, mode).map_err(|_| Errno::ACCESS)?;
            open()
        }
        opened => opened,
    }
}

fn is_own(meta: &Meta) -> bool {
    meta.uid == rustix::process::geteuid().as_raw()
}

fn close(dir: &Dir) {
    drop(
        dir.handle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(),
    );
}
