//! Directories of the target while something is restored into them.
//!
//! A bounded number is kept open; one that was closed is opened again beneath the root, and must still be
//! the same directory. A directory's own metadata is set when the last of its content is done, by whoever
//! does that; then the directory above has one thing less to wait for. The root comes last by that.

use std::{
    collections::VecDeque,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::io::Errno;

use super::{
    attributes::{At, Attributes, Before, gives_access_lists},
    run::Run,
};
use crate::{
    files::{
        meta::{Kind, Meta},
        xattr::Of,
    },
    rows::FileOperation,
};

/// Directories kept open.
const KEEP_OPEN: usize = 128;

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
    above: Option<Arc<Dir>>,
    handle: Mutex<Option<Arc<OwnedFd>>>,
    /// What to set in the end.
    attributes: Mutex<Option<Attributes>>,
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
        fd: OwnedFd,
        (fresh, whole): (bool, bool),
        attributes: Option<Attributes>,
    ) -> Result<Arc<Dir>, Errno> {
        let meta = Meta::of(&fd)?;
        if meta.mount != self.mount {
            return Err(Errno::XDEV);
        }
        if let Some(above) = above {
            above.pending.fetch_add(1, Ordering::Relaxed);
        }
        let dir = Arc::new(Dir {
            path,
            fresh,
            whole,
            // A new directory has the lists of the one above.
            gives: if fresh {
                above.is_some_and(|above| above.gives)
            } else {
                gives_access_lists(fd.as_fd())
            },
            place: Some((meta.inode, meta.device)),
            above: above.cloned(),
            handle: Mutex::new(Some(Arc::new(fd))),
            attributes: Mutex::new(attributes),
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
            above: Some(Arc::clone(above)),
            handle: Mutex::new(None),
            attributes: Mutex::new(None),
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
        let fd = Arc::new(self.root.open_dir(&dir.path)?);
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
        let Some(attributes) = attributes else { return };
        if self.go().is_err() || self.request.dry_run {
            return;
        }
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

fn close(dir: &Dir) {
    drop(
        dir.handle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(),
    );
}
