//! One regular file while it is restored.
//!
//! Order: the file is made, under another name if something has its own
//! ([`successor`](super::successor)); content, in any order; length; owner, attributes, mode,
//! times; its own name. Of a file that is there and partly right the rest is collected beside it,
//! and then written into it ([`patch`](super::patch)). Whoever writes the last blob does the rest.
//! A file whose content cannot be completed is a row for each of its names; what was made of it is
//! removed, and what was there stays.

use std::{
    ffi::OsString,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rustix::fs::OFlags;

use super::{
    Failure, RestoreAction,
    attributes::{At, Attributes, Before},
    content::{self, Zeros},
    dirs::Dir,
    links::Group,
    open::{make, open_made, open_old, open_same},
    patch::Patch,
    run::{Run, count},
};
use crate::{
    files::{
        meta::{Kind, Meta},
        xattr::Of,
    },
    rows::FileOperation,
};

/// A file to restore.
pub(super) struct File {
    pub(super) dir: Arc<Dir>,
    pub(super) name: OsString,
    pub(super) attributes: Attributes,
    /// Bytes of its content.
    pub(super) size: u64,
    /// What is there, if that is compared and kept.
    pub(super) old: Option<Meta>,
    /// Something else is there, and goes.
    pub(super) replaces: bool,
    /// The names it has, if several.
    pub(super) group: Option<Arc<Group>>,
    /// Blobs not done yet, and one while they are counted.
    left: AtomicUsize,
    /// Bytes that were not right.
    wrong: AtomicU64,
    state: Mutex<State>,
    /// Held by who writes content.
    turn: Mutex<()>,
}

#[derive(Default)]
struct State {
    fd: Option<Arc<OwnedFd>>,
    /// It was made, or opened for writing.
    open: bool,
    /// Inode and device, if it was made for the sake of its other names.
    made: Option<(u64, u64)>,
    /// The name it has until it is complete, if that is not its own.
    temporary: Option<OsString>,
    /// Content for what is there.
    patch: Patch,
    failed: Option<(FileOperation, String)>,
}

/// What a file needs to be made.
pub(super) struct Plan {
    pub(super) name: OsString,
    pub(super) attributes: Attributes,
    pub(super) size: u64,
    pub(super) old: Option<Meta>,
    pub(super) replaces: bool,
}

impl File {
    /// Its directory waits for it from now on.
    pub(super) fn new(dir: &Arc<Dir>, plan: Plan, group: Option<Arc<Group>>) -> Arc<Self> {
        Run::hold(dir);
        let Plan {
            name,
            attributes,
            size,
            old,
            replaces,
        } = plan;
        Arc::new(Self {
            dir: Arc::clone(dir),
            name,
            attributes,
            size,
            old,
            replaces,
            group,
            left: AtomicUsize::new(1),
            wrong: AtomicU64::new(0),
            state: Mutex::default(),
            turn: Mutex::default(),
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path.join(&self.name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to write content, unless another thread has it.
    pub(super) fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The turn to write content, when nobody else has it.
    pub(super) fn wait_for_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }

    /// The name it has now.
    pub(super) fn name_now(&self) -> OsString {
        let state = self.state();
        state.temporary.as_ref().unwrap_or(&self.name).clone()
    }

    /// A blob more must be done.
    pub(super) fn add_blob(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// A blob is not there, or not right.
    pub(super) fn needs(&self, bytes: u32) {
        self.wrong.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }
}

impl Run<'_> {
    /// Its content cannot be completed. Only the first reason counts.
    pub(super) fn fail_file(&self, file: &File, failure: Failure) {
        match failure {
            Failure::Row(operation, message) => {
                file.state().failed.get_or_insert((operation, message));
            }
            Failure::Fatal(error) => self.fail(error),
        }
    }

    /// Makes or opens it for writing, unless that was done.
    pub(super) fn open_file(&self, file: &Arc<File>) -> Result<Arc<OwnedFd>, Failure> {
        let mut state = file.state();
        if let Some(fd) = &state.fd {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(self.make_or_open(file, &mut state)?);
        state.fd = Some(Arc::clone(&fd));
        Ok(fd)
    }

    /// Makes a new file, so that it can have other names, and closes it: its content may come much
    /// later.
    pub(super) fn make_file(&self, file: &Arc<File>) -> Result<(), Failure> {
        let mut state = file.state();
        if !state.open {
            let fd = self.make_or_open(file, &mut state)?;
            let meta = Meta::of(&fd).map_err(|error| Failure::new(FileOperation::Stat, error))?;
            state.made = Some((meta.inode, meta.device));
        }
        Ok(())
    }

    fn make_or_open(&self, file: &Arc<File>, state: &mut State) -> Result<OwnedFd, Failure> {
        let dir = self
            .open_dir(&file.dir)
            .map_err(|error| Failure::new(FileOperation::Open, error))?;
        let fd = match (&file.old, state.made) {
            (Some(old), _) => self.step(FileOperation::Write, open_old(&dir, file, old)),
            (None, Some(place)) => {
                let name = state.temporary.as_ref().unwrap_or(&file.name);
                self.step(FileOperation::Write, open_made(&dir, name, place))
            }
            (None, None) => {
                let made = make(&dir, file, || self.temporary_name());
                let (fd, temporary) = self.step(FileOperation::Create, made)?;
                state.temporary = temporary;
                self.unfinished().push(Arc::clone(file));
                Ok(fd)
            }
        }?;
        state.open = true;
        Ok(fd)
    }

    /// Writes one blob of it. `zero`: it is known to be zeros only.
    pub(super) fn write_blob(
        &self,
        file: &Arc<File>,
        data: &[u8],
        at: u64,
        zero: bool,
    ) -> Result<(), Failure> {
        if file.old.is_some() {
            let mut state = file.state();
            let beside = state.patch.place(self, file, at, data.len() as u64)?;
            drop(state);
            if let Some(beside) = beside {
                if zero {
                    return Ok(());
                }
                let written = content::write(beside.as_fd(), data, at, Zeros::Skip);
                return self.step(FileOperation::Write, written);
            }
        }
        let fd = self.open_file(file)?;
        let zeros = match (self.request.sparse, &file.old) {
            (false, _) => Zeros::Write,
            (true, None) => Zeros::Skip,
            (true, Some(_)) => Zeros::Punch,
        };
        if zero && zeros == Zeros::Skip {
            return Ok(());
        }
        let written = content::write(fd.as_fd(), data, at, zeros);
        self.step(FileOperation::Write, written)
    }

    /// A blob is done, or counting them is. The last one completes the file.
    pub(super) fn done(&self, file: &Arc<File>) {
        if file.left.fetch_sub(1, Ordering::AcqRel) != 1 || self.go().is_err() {
            return;
        }
        let failure = file.state().failed.clone();
        let failure = match failure {
            Some((operation, message)) => Some(Failure::Row(operation, message)),
            None => self.complete(file).err(),
        };
        match failure {
            Some(Failure::Fatal(error)) => return self.fail(error),
            Some(Failure::Row(operation, message)) => {
                let written = self.remove(file);
                let message = match (&file.old, written) {
                    (Some(_), true) => {
                        format!(
                            "{message}; what was there stays, with the parts that were put right"
                        )
                    }
                    (Some(_), false) => format!("{message}; what was there stays as it was"),
                    (None, _) if file.replaces => format!("{message}; what was there stays"),
                    (None, _) => message,
                };
                self.rows.add(&file.path(), operation, &message);
                if let Some(group) = &file.group {
                    self.drop_names(group, operation, &message);
                }
            }
            None => {
                if let Some(group) = &file.group {
                    self.complete_names(group);
                }
                // From here on nobody makes another name of it that waits.
                if file.old.is_none() || file.group.is_some() {
                    self.unfinished().retain(|other| !Arc::ptr_eq(other, file));
                }
            }
        }
        file.state().fd = None;
        self.release(&file.dir);
    }

    fn complete(&self, file: &Arc<File>) -> Result<(), Failure> {
        let wrong = file.wrong.load(Ordering::Relaxed);
        let kept = file.old.as_ref();
        let unchanged = wrong == 0 && kept.is_some_and(|old| old.size == file.size);
        if self.request.dry_run {
            self.would_complete(file, unchanged)?;
        } else if unchanged {
            self.complete_unchanged(file)?;
        } else {
            let fd = self.open_file(file)?;
            let beside = std::mem::take(&mut file.state().patch);
            beside.apply(self, &fd)?;
            if self.request.sparse || kept.is_some() {
                // The last bytes may be a hole, or too many.
                let sized = rustix::fs::ftruncate(&*fd, file.size);
                self.step(FileOperation::Write, sized)?;
            }
            let before = if kept.is_some() || file.dir.gives {
                Before::Written
            } else {
                Before::Nothing
            };
            let path = file.path();
            let at = At {
                of: Of::Open(fd.as_fd()),
                kind: Kind::File,
                path: &path,
            };
            self.set_attributes(at, &file.attributes, before);
            if kept.is_none() {
                self.take_place(file)?;
            }
        }
        if unchanged {
            count(&self.counts.unchanged, 1);
        } else {
            count(&self.counts.written, 1);
            let wrong = if kept.is_some() { wrong } else { file.size };
            count(&self.counts.bytes_written, wrong);
        }
        count(&self.counts.bytes, file.size);
        self.progress.file_done();
        Ok(())
    }

    /// Gives a complete file its own name.
    fn take_place(&self, file: &File) -> Result<(), Failure> {
        // Whoever makes another name of it asks for the one it has now.
        let _names = file.group.as_ref().map(|group| group.held());
        let Some(temporary) = file.state().temporary.take() else {
            return Ok(());
        };
        let placed = self.put_in_place(&file.dir, &temporary, &file.name);
        if placed.is_err() {
            // Nothing is left of it to be removed.
            file.state().open = false;
        }
        placed
    }

    fn complete_unchanged(&self, file: &File) -> Result<(), Failure> {
        let Some(old) = &file.old else { return Ok(()) };
        let open = |error| Failure::new(FileOperation::Open, error);
        let dir = self.open_dir(&file.dir).map_err(open)?;
        let fd = open_same(&dir, file, old, OFlags::RDONLY).map_err(open)?;
        let path = file.path();
        let at = At {
            of: Of::Open(fd.as_fd()),
            kind: Kind::File,
            path: &path,
        };
        self.set_attributes(at, &file.attributes, Before::Known(old));
        Ok(())
    }

    fn would_complete(&self, file: &File, unchanged: bool) -> Result<(), Failure> {
        let path = file.path();
        let action = match &file.old {
            None if file.replaces => Some(RestoreAction::Replace),
            None => Some(RestoreAction::Create),
            Some(_) if !unchanged => Some(RestoreAction::Update),
            Some(old) => {
                let dir = self.open_dir(&file.dir);
                let dir = dir.map_err(|error| Failure::new(FileOperation::Open, error))?;
                let at = At {
                    of: Of::Entry(dir.as_fd(), &file.name),
                    kind: Kind::File,
                    path: &path,
                };
                self.attributes_differ(at, &file.attributes, old)
                    .then_some(RestoreAction::Metadata)
            }
        };
        if let Some(action) = action {
            self.change(&path, action);
        }
        Ok(())
    }

    /// Removes what was made of a file that is not whole; what was there before stays. Whether
    /// anything was written.
    fn remove(&self, file: &Arc<File>) -> bool {
        let was_open = file.state().open;
        self.unfinished().retain(|other| !Arc::ptr_eq(other, file));
        if !was_open || file.old.is_some() {
            return was_open;
        }
        if let Err(error) = self.remove_temporary(&file.dir, &file.name_now()) {
            let message = format!("what was written of it could not be removed: {error}");
            self.rows.add(&file.path(), FileOperation::Write, message);
        }
        true
    }

    /// Something was made for the sake of a file that is not complete.
    pub(super) fn note_unfinished(&self, file: &Arc<File>) {
        let mut unfinished = self.unfinished();
        if !unfinished.iter().any(|other| Arc::ptr_eq(other, file)) {
            unfinished.push(Arc::clone(file));
        }
    }

    fn unfinished(&self) -> MutexGuard<'_, Vec<Arc<File>>> {
        self.unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// After the end: files that were made and not completed go. Those whose own content was being
    /// put right stay, for the next run to go on from.
    pub(super) fn remove_unfinished(&self) {
        let files = std::mem::take(&mut *self.unfinished());
        for file in files {
            self.remove(&file);
            if let Some(group) = &file.group {
                let message = "its first name was not completed";
                self.drop_names(group, FileOperation::Link, message);
            }
        }
    }
}
