//! Which of this machine's processes that hold locks live: records of them, kept on this machine.
//!
//! A lock names its holder by a name that is nobody else's. As long as a process lives it keeps a record of that name in a
//! directory of its user, and holds the file's lock (`flock`), which the kernel takes away when the process ends, however
//! it ends. So a record that nobody holds is of a dead process, whatever became of its number, and in whatever namespace
//! it ran. Only what is certain is told: a record of another boot, of another user than root, or none at all, says
//! nothing; then the lock stands until it was not refreshed for half an hour. Two machines that share a home directory or
//! a host name do not meet here: the directories are not in either, and the record names the boot.
//!
//! Order: the record is written and held before the repository is opened, so before any lock names it. It is removed when
//! the process ends properly. What killed processes left is removed by a later one when it is old: by then their locks
//! are judged by their age. Where no record can be kept, nothing is lost but speed.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ark_engine::HolderLiveness;
use rustix::fs::OFlags;

/// Records older than this that nobody holds are of no use: locks are stale after half an hour.
const USELESS: Duration = Duration::from_hours(2);
/// A record has some fifty bytes.
const LIMIT: u64 = 4096;

/// The record of this process, and the records of others.
#[derive(Debug)]
pub(super) struct Holders {
    /// Whose records may be believed, and where they are. The first is for own ones.
    dirs: Vec<(PathBuf, u32)>,
    boot: String,
    /// Held as long as this lives.
    own: Option<(PathBuf, File)>,
}

impl Holders {
    /// Keeps a record of a holder of this name. `None`: the system does not tell which boot it is.
    pub(super) fn of(name: &str) -> Option<Self> {
        let user = rustix::process::geteuid().as_raw();
        let root = (PathBuf::from("/run/ark"), 0);
        let dirs = match user {
            0 => vec![root],
            user => vec![(PathBuf::from(format!("/tmp/ark-{user}")), user), root],
        };
        Some(Self::within(dirs, ark_engine::boot_id()?, name))
    }

    fn within(dirs: Vec<(PathBuf, u32)>, boot: String, name: &str) -> Self {
        let mut holders = Self {
            dirs,
            boot,
            own: None,
        };
        // Without a record others judge our locks by their age.
        holders.own = holders.record(name).ok();
        holders
    }

    fn record(&self, name: &str) -> io::Result<(PathBuf, File)> {
        let (dir, user) = self
            .dirs
            .first()
            .ok_or_else(|| io::Error::other("there is no directory for records"))?;
        match DirBuilder::new().mode(0o755).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !is_private(dir, *user) {
            return Err(io::Error::other("it is somebody else's directory"));
        }
        sweep(dir);
        let path = dir.join(name);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)?;
        file.try_lock()?;
        file.write_all(self.boot.as_bytes())?;
        Ok((path, file))
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        if let Some((path, _held)) = &self.own {
            // A later run removes it otherwise.
            drop(fs::remove_file(path));
        }
    }
}

impl HolderLiveness for Holders {
    fn is_alive(&self, host_name: &str) -> Option<bool> {
        // A name from a lock is hostile: it must be one of a file here.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if host_name.is_empty() || host_name.len() > 64 || !host_name.chars().all(plain) {
            return None;
        }
        let mut dirs = self
            .dirs
            .iter()
            .filter(|(dir, user)| is_private(dir, *user));
        dirs.find_map(|(dir, user)| alive(&dir.join(host_name), *user, &self.boot))
    }
}

/// Whether the holder that a record is of lives. `None`: there is none, or it says nothing.
fn alive(path: &Path, user: u32, boot: &str) -> Option<bool> {
    let mut file = open(path).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.uid() != user {
        return None;
    }
    let held = is_held(&file)?;
    let mut text = String::new();
    (&mut file).take(LIMIT).read_to_string(&mut text).ok()?;
    (text == boot).then_some(held)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
}

/// Whether somebody holds a record. `None`: that cannot be told.
fn is_held(file: &File) -> Option<bool> {
    match file.try_lock_shared() {
        Ok(()) => Some(false),
        Err(fs::TryLockError::WouldBlock) => Some(true),
        Err(fs::TryLockError::Error(_)) => None,
    }
}

/// Whether a directory is this user's, and nobody else can change what is in it.
fn is_private(dir: &Path, user: u32) -> bool {
    fs::symlink_metadata(dir)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == user && meta.mode() & 0o022 == 0)
}

/// Removes old records of dead processes. What cannot be removed is tried again by the next run.
fn sweep(dir: &Path) {
    let old = |meta: &fs::Metadata| {
        let age = meta
            .modified()
            .ok()
            .and_then(|then| SystemTime::now().duration_since(then).ok());
        meta.is_file() && age.is_some_and(|age| age > USELESS)
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.metadata().is_ok_and(|meta| old(&meta))
            && open(&path).is_ok_and(|file| is_held(&file) == Some(false))
        {
            drop(fs::remove_file(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// Whether a holder lives, as another process of this boot sees it.
    fn seen(dir: &Path, name: &str) -> Option<bool> {
        Holders::within(vec![(dir.to_owned(), user())], "this".to_owned(), "other").is_alive(name)
    }

    #[test]
    fn a_record_tells_of_this_boot_alone_and_only_as_long_as_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = || vec![(dir.path().to_owned(), user())];
        let own = Holders::within(dirs(), "this".to_owned(), "ark-1");
        assert_eq!(seen(dir.path(), "ark-1"), Some(true));
        assert_eq!(seen(dir.path(), "ark-2"), None);
        for bad in ["", "../ark-1", "ark-1/x", "."] {
            assert_eq!(seen(dir.path(), bad), None, "{bad}");
        }
        // Killed: the record stays, and nobody holds it.
        fs::write(dir.path().join("ark-3"), "this").unwrap();
        assert_eq!(seen(dir.path(), "ark-3"), Some(false));
        fs::write(dir.path().join("ark-4"), "before").unwrap();
        assert_eq!(seen(dir.path(), "ark-4"), None);
        drop(own);
        assert_eq!(seen(dir.path(), "ark-1"), None);
    }

    #[test]
    fn what_others_can_write_into_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ark-1"), "this").unwrap();
        assert_eq!(seen(dir.path(), "ark-1"), Some(false));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(seen(dir.path(), "ark-1"), None);
    }

    #[test]
    fn old_records_of_the_dead_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = vec![(dir.path().to_owned(), user())];
        for name in ["old", "held", "new"] {
            fs::write(dir.path().join(name), "this").unwrap();
        }
        let held = File::open(dir.path().join("held")).unwrap();
        held.lock().unwrap();
        for name in ["old", "held"] {
            let file = File::options()
                .write(true)
                .open(dir.path().join(name))
                .unwrap();
            file.set_modified(SystemTime::now() - 2 * USELESS).unwrap();
        }
        let _own = Holders::within(dirs, "this".to_owned(), "own");
        let there = |name: &str| dir.path().join(name).exists();
        assert!(!there("old") && there("held") && there("new") && there("own"));
    }
}
