//! A directory as an object store, with restic's local layout (objects are plain files).
//!
//! Order of a write: missing parent directories (each made durable in its own parent), a temporary file
//! `<name>-tmp-<random>` in the target's directory, its bytes, fsync of the file, rename to the final
//! name, fsync of the directory. A crash leaves at most a temporary file, which listings do not show.
//! Conditional writes end in a rename that refuses to replace (or a hard link, where the file system
//! has no such rename). Blocking calls run on tokio's blocking threads.
//!
//! What is made in a directory that its group may read, the group may read; the root, which is not
//! only the repository's, does not count. Fails with `NoStore` when the root itself is gone, or is
//! another directory than the one that was opened: an unmounted disk must not look like an empty
//! store. A directory that is not there is empty; one that is there and cannot be listed, a file in
//! its place, and a link that leads nowhere are failures.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use rand::RngExt as _;
use rustix::{buffer::spare_capacity, fs::RenameFlags, io::Errno};

use super::{
    Entry, ObjectMeta, coherent,
    durable::{self, Group, sync_dir},
};
use crate::error::{Error, Result};

const TEMPORARY: &str = "-tmp-";

#[derive(Debug, Clone)]
pub(super) struct Local {
    root: Arc<PathBuf>,
    /// Device and inode of the root that was opened.
    opened: Arc<OnceLock<(u64, u64)>>,
}

enum Content {
    Bytes(Bytes),
    File(PathBuf),
}

impl Local {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let local = Self {
            root: Arc::new(root.to_owned()),
            opened: Arc::default(),
        };
        local.check()?;
        Ok(local)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn check(&self) -> Result<()> {
        match fs::metadata(&*self.root) {
            Ok(meta) if meta.is_dir() => {
                let found = (meta.dev(), meta.ino());
                if *self.opened.get_or_init(|| found) == found {
                    return Ok(());
                }
                Err(self.no_store("something was mounted over it or unmounted since it was opened"))
            }
            Ok(_) => Err(self.no_store("it is not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(self.no_store("there is no such directory"))
            }
            Err(error) => Err(self.error("stat", "", &error)),
        }
    }

    fn no_store(&self, message: &str) -> Error {
        Error::NoStore {
            location: self.root.display().to_string(),
            message: message.to_owned(),
        }
    }

    fn error(&self, operation: &'static str, path: &str, error: &io::Error) -> Error {
        let location = self.root.display().to_string();
        let path = path.to_owned();
        match error.kind() {
            // Only a read of a range knows how long the object has to be.
            io::ErrorKind::UnexpectedEof => Error::ObjectShort {
                location,
                path,
                message: error.to_string(),
            },
            io::ErrorKind::PermissionDenied => Error::AccessDenied {
                location,
                operation,
                path,
                message: error.to_string(),
            },
            kind => Error::Store {
                location,
                operation,
                path,
                message: error.to_string(),
                temporary: passes(kind, error),
            },
        }
    }

    async fn blocking<T: Send + 'static>(
        self,
        operation: &'static str,
        path: String,
        work: impl FnOnce(&Self, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(move || {
            self.check()?;
            work(&self, &self.root.join(&path))
                .map_err(|error| self.error(operation, &path, &error))
        });
        done.await
            .unwrap_or_else(|error| Err(Error::Bug(format!("{operation} did not end: {error}"))))
    }

    /// See [`coherent`].
    pub(super) async fn is_coherent(&self, dir: &str) -> bool {
        // Locks are what it is asked for, and their directory may lie elsewhere.
        let dir = self.root.join(dir);
        // What never answers must not hold up a worker of the runtime.
        let asked = tokio::task::spawn_blocking(move || coherent::is_coherent(&dir));
        // That it could not be asked is as good as not knowing.
        asked.await.unwrap_or(false)
    }

    pub(super) async fn list(self, path: String, recursive: bool) -> Result<Vec<Entry>> {
        self.blocking("list", path, move |_, dir| {
            let mut entries = Vec::new();
            list_into(dir, "", Which::Objects, recursive, &mut entries)?;
            Ok(entries)
        })
        .await
    }

    /// What writes that were killed have left below a directory, or writes still leave that are
    /// under way.
    pub(super) async fn unfinished(&self, path: String) -> Result<Vec<Entry>> {
        let local = self.clone();
        local
            .blocking("list", path, |_, dir| {
                let mut entries = Vec::new();
                list_into(dir, "", Which::Unfinished, true, &mut entries)?;
                Ok(entries)
            })
            .await
    }

    /// Whether there is a directory of this name.
    pub(super) async fn has_dir(&self, path: String) -> Result<bool> {
        let local = self.clone();
        local
            .blocking("stat", path, |_, dir| {
                let meta = absent(dir, fs::metadata(dir))?;
                Ok(meta.is_some_and(|meta| meta.is_dir()))
            })
            .await
    }

    /// Makes a directory, unless it is there.
    pub(super) async fn make_dir(&self, path: String) -> Result<()> {
        let local = self.clone();
        local.blocking("write", path, Self::make_dirs).await
    }

    pub(super) async fn stat(self, path: String) -> Result<Option<ObjectMeta>> {
        self.blocking("stat", path, |_, file| {
            Ok(absent(file, fs::metadata(file))?
                .filter(fs::Metadata::is_file)
                .map(|meta| ObjectMeta {
                    size: meta.len(),
                    modified: modified(&meta),
                }))
        })
        .await
    }

    pub(super) async fn read(self, path: String, limit: u64) -> Result<Option<Bytes>> {
        let location = self.root.display().to_string();
        let name = path.clone();
        let data = self
            .blocking("read", path, move |_, file| {
                let Some(file) = open_file(file)? else {
                    return Ok(None);
                };
                let mut data = Vec::new();
                file.take(limit.saturating_add(1)).read_to_end(&mut data)?;
                Ok(Some(data))
            })
            .await?;
        match data {
            Some(data) if data.len() as u64 > limit => Err(Error::ObjectTooLarge {
                location,
                path: name,
                limit,
            }),
            data => Ok(data.map(Bytes::from)),
        }
    }

    pub(super) async fn read_range(
        self,
        path: String,
        offset: u64,
        len: u64,
        buffer: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let location = self.root.display().to_string();
        let name = path.clone();
        let found = self
            .blocking("read", path, move |_, file| {
                let Some(file) = open_file(file)? else {
                    return Ok(None);
                };
                let size = file.metadata()?.len();
                if offset.saturating_add(len) > size {
                    let message =
                        format!("{size} bytes, where {len} from {offset} on were asked for");
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
                }
                let len = usize::try_from(len).map_err(io::Error::other)?;
                read_at(&file, offset, len, buffer).map(Some)
            })
            .await?;
        found.ok_or(Error::ObjectMissing {
            location,
            path: name,
        })
    }

    pub(super) async fn write(self, path: String, data: Bytes) -> Result<()> {
        self.blocking("write", path, |local, file| {
            local.put(file, Content::Bytes(data), true).map(drop)
        })
        .await
    }

    pub(super) async fn write_file(self, path: String, from: PathBuf) -> Result<()> {
        self.blocking("write", path, |local, file| {
            local.put(file, Content::File(from), true).map(drop)
        })
        .await
    }

    pub(super) async fn write_if_absent(self, path: String, data: Bytes) -> Result<bool> {
        self.blocking("write", path, |local, file| {
            if fs::symlink_metadata(file).is_ok() {
                return Ok(false);
            }
            local.put(file, Content::Bytes(data), false)
        })
        .await
    }

    pub(super) async fn delete(self, path: String) -> Result<()> {
        self.blocking("delete", path, |_, file| {
            if absent(file, fs::remove_file(file))?.is_some() {
                sync_dir(parent(file))?;
            }
            Ok(())
        })
        .await
    }

    /// Writes a file as the module header says. `false`: it was there and `replace` is not set.
    fn put(&self, target: &Path, content: Content, replace: bool) -> io::Result<bool> {
        let dir = parent(target);
        self.make_dirs(dir)?;
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!("{TEMPORARY}{:016x}", rand::rng().random::<u64>()));
        let temporary = dir.join(name);
        let group = self.group(dir)?;
        let written = write_new(&temporary, content, group.as_ref()).and_then(|()| {
            if replace {
                fs::rename(&temporary, target).map(|()| true)
            } else {
                rename_new(&temporary, target)
            }
        });
        if !matches!(written, Ok(true)) {
            // The error that matters is the one already there.
            drop(fs::remove_file(&temporary));
        }
        if written? {
            sync_dir(dir)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// The group that may read what is made in a directory.
    fn group(&self, dir: &Path) -> io::Result<Option<Group>> {
        if dir == *self.root {
            Ok(None)
        } else {
            Group::of(dir)
        }
    }

    /// Makes the missing directories from the root down, each durable before the next.
    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let below = dir.strip_prefix(&*self.root).map_err(io::Error::other)?;
        let mut path = self.root.to_path_buf();
        for part in below {
            let above = path.clone();
            path.push(part);
            match Group::make_dir(self.group(&above)?.as_ref(), &path) {
                Ok(()) => sync_dir(&above)?,
                // Somebody else may have made it a moment ago and not synced it yet.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => sync_dir(&above)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What passes by itself: a limit of this machine, or a mount that is being brought back.
fn passes(kind: io::ErrorKind, error: &io::Error) -> bool {
    const ERRNOS: [Errno; 11] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::AGAIN,
        Errno::NOTCONN,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::CONNRESET,
    ];
    let raw = error.raw_os_error();
    ERRNOS.iter().any(|errno| raw == Some(errno.raw_os_error()))
        || matches!(
            kind,
            io::ErrorKind::Interrupted
                | io::ErrorKind::TimedOut
                | io::ErrorKind::ResourceBusy
                | io::ErrorKind::StaleNetworkFileHandle
        )
}

fn write_new(path: &Path, content: Content, group: Option<&Group>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    if let Some(group) = group {
        group.share(&file);
    }
    match content {
        Content::Bytes(data) => file.write_all(&data)?,
        Content::File(from) => drop(io::copy(&mut File::open(from)?, &mut file)?),
    }
    durable::sync(&file)
}

/// Renames unless the target exists.
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    let renamed = rustix::fs::renameat_with(
        rustix::fs::CWD,
        from,
        rustix::fs::CWD,
        to,
        RenameFlags::NOREPLACE,
    );
    match renamed {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // The file system has no such rename: a hard link refuses to replace as well.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // Nor has it links, as some FUSE file systems do not.
            Err(error) => {
                tracing::debug!(%error, "no rename that refuses to replace, and no links");
                rename_claimed(from, to)
            }
        },
        Err(error) => Err(error.into()),
    }
}

/// Claims the target by making it, which one of several can, and renames over it. For a moment, or
/// after a kill, it is empty.
fn rename_claimed(from: &Path, to: &Path) -> io::Result<bool> {
    let claimed = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    match claimed {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
        Ok(_) => match fs::rename(from, to) {
            Ok(()) => Ok(true),
            Err(error) => {
                // The error that matters is the one already there.
                drop(fs::remove_file(to));
                Err(error)
            }
        },
    }
}

/// Which entries of a directory are listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Objects.
    Objects,
    /// What writes that were killed have left.
    Unfinished,
}

fn list_into(
    dir: &Path,
    prefix: &str,
    which: Which,
    recursive: bool,
    into: &mut Vec<Entry>,
) -> io::Result<()> {
    let Some(entries) = absent(dir, fs::read_dir(dir))? else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        // Names that are not UTF-8 are none of ours.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.contains(TEMPORARY) != (which == Which::Unfinished) {
            // Unfinished uploads may lie in any directory.
            if which == Which::Unfinished && recursive && entry.file_type()?.is_dir() {
                let prefix = format!("{prefix}{name}/");
                list_into(&entry.path(), &prefix, which, recursive, into)?;
            }
            continue;
        }
        // Removed since it was listed: it is not there.
        let path = entry.path();
        let Some(meta) = absent(&path, fs::metadata(&path))? else {
            continue;
        };
        let name = format!("{prefix}{name}");
        if meta.is_dir() && recursive {
            list_into(&path, &format!("{name}/"), which, true, into)?;
        } else if meta.is_dir() || meta.is_file() {
            into.push(Entry {
                name,
                is_dir: meta.is_dir(),
                size: if meta.is_dir() { 0 } else { meta.len() },
                modified: modified(&meta),
            });
        }
    }
    Ok(())
}

/// Exactly `len` bytes from `offset` on, in the memory of `data`, which nobody fills with zeros
/// before.
fn read_at(file: &File, offset: u64, len: usize, mut data: Vec<u8>) -> io::Result<Vec<u8>> {
    data.reserve_exact(len);
    while data.len() < len {
        let at = offset.saturating_add(data.len() as u64);
        match rustix::io::pread(file, spare_capacity(&mut data), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // There may have been room for more.
    data.truncate(len);
    Ok(data)
}

fn open_file(path: &Path) -> io::Result<Option<File>> {
    let Some(file) = absent(path, File::open(path))? else {
        return Ok(None);
    };
    Ok(file.metadata()?.is_file().then_some(file))
}

fn modified(meta: &fs::Metadata) -> Option<jiff::Timestamp> {
    meta.modified()
        .ok()
        .and_then(|time| jiff::Timestamp::try_from(time).ok())
}

/// The failure that a path is not there, as `None`. A link that leads nowhere, on the way or at its
/// end, stands for something that is elsewhere and out of reach; so does a file where a directory
/// should be. Neither is an absent path.
fn absent<T>(path: &Path, result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Without a slash at its end, which would have a link followed.
            for there in path.components().as_path().ancestors() {
                match fs::symlink_metadata(there) {
                    Ok(meta) if meta.is_symlink() && fs::metadata(there).is_err() => {
                        let message = format!("{} is a link that leads nowhere", there.display());
                        return Err(io::Error::other(message));
                    }
                    Ok(_) => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_target_is_one_writers_only() {
        let dir = tempfile::tempdir().unwrap();
        let [from, other, to] = ["from", "other", "to"].map(|name| dir.path().join(name));
        fs::write(&from, "first").unwrap();
        fs::write(&other, "second").unwrap();
        assert!(rename_claimed(&from, &to).unwrap());
        assert!(!rename_claimed(&other, &to).unwrap());
        assert_eq!(fs::read_to_string(&to).unwrap(), "first");
        assert!(rename_claimed(&from, &dir.path().join("new")).is_err());
        assert!(
            !dir.path().join("new").exists(),
            "nothing is left of a claim"
        );
    }

    #[test]
    fn limits_of_the_machine_pass_and_failures_of_the_disk_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::open(dir.path()).unwrap();
        let of = |errno: Errno| local.error("read", "data/x", &errno.into());
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::NOTCONN,
            Errno::STALE,
        ] {
            assert!(
                matches!(
                    of(errno),
                    Error::Store {
                        temporary: true,
                        ..
                    }
                ),
                "{errno}"
            );
        }
        for errno in [Errno::IO, Errno::NOSPC, Errno::NXIO, Errno::ISDIR] {
            let error = of(errno);
            assert!(
                matches!(
                    &error,
                    Error::Store {
                        temporary: false,
                        ..
                    }
                ),
                "{errno}"
            );
            assert!(!error.is_content(), "{errno}");
        }
        assert!(!of(Errno::ACCESS).is_content());
    }
}
