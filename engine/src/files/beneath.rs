//! Opening directories beneath a root without ever leaving it.
//!
//! Uses `openat2` with `BENEATH`, `NO_SYMLINKS` and `NO_MAGICLINKS`; where that call is missing or
//! forbidden, walks one component at a time with `O_NOFOLLOW`. Both end in `ELOOP` or `ENOTDIR` at
//! a link. Long paths are opened in pieces, so a tree may be deeper than `PATH_MAX`.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Longest piece of a path opened at once.
const PIECE: usize = 3000;

/// An open root directory.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    openat2: AtomicBool,
}

pub(crate) const DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Root {
    /// Opens the root itself. Its own path may lead over links; what is beneath may not.
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
            openat2: AtomicBool::new(true),
        })
    }

    /// A directory that is open.
    pub(crate) fn of(fd: OwnedFd) -> Self {
        Self {
            fd,
            openat2: AtomicBool::new(true),
        }
    }

    /// Whether its entries can be listed.
    pub(crate) fn can_list(&self) -> Result<(), Errno> {
        match rustix::fs::Dir::read_from(&self.fd)?.next() {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    fn without_openat2(self) -> Self {
        self.openat2.store(false, Ordering::Relaxed);
        self
    }

    /// Opens a directory by its path relative to the root; an empty path is the root.
    pub(crate) fn open_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            return self.fd.try_clone().map_err(|_| Errno::MFILE);
        }
        let mut at: Option<OwnedFd> = None;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = split(rest);
            let dir = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            at = Some(self.open_piece(dir, OsStr::from_bytes(piece))?);
            rest = after;
        }
        at.ok_or(Errno::INVAL)
    }

    fn open_piece(&self, dir: BorrowedFd<'_>, piece: &OsStr) -> Result<OwnedFd, Errno> {
        if self.openat2.load(Ordering::Relaxed) {
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(dir, piece, DIR, Mode::empty(), resolve) {
                // Old kernels and seccomp profiles.
                Err(Errno::NOSYS | Errno::PERM) => self.openat2.store(false, Ordering::Relaxed),
                // The kernel asks to try again after a rename raced with it.
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        let mut at: Option<OwnedFd> = None;
        for name in Path::new(piece) {
            if name == ".." || name == "/" {
                return Err(Errno::XDEV);
            }
            let dir = at.as_ref().map_or(dir, AsFd::as_fd);
            at = Some(rustix::fs::openat(dir, name, DIR, Mode::empty())?);
        }
        at.ok_or(Errno::INVAL)
    }
}

/// Opens for reading, without touching the access time where the system allows that.
pub(crate) fn open_at(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Splits a path at a slash after at most [`PIECE`] bytes.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= PIECE {
        return (path, &[]);
    }
    match path[..PIECE].iter().rposition(|b| *b == b'/') {
        Some(at) if at > 0 => (&path[..at], &path[at + 1..]),
        _ => (path, &[]),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn both(dir: &Path) -> [Root; 2] {
        [
            Root::open(dir).unwrap(),
            Root::open(dir).unwrap().without_openat2(),
        ]
    }

    #[test]
    fn never_leaves_the_root() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("root");
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::create_dir(outer.path().join("secret")).unwrap();
        symlink("../secret", dir.join("up")).unwrap();
        symlink("a", dir.join("side")).unwrap();
        symlink("/", dir.join("a/abs")).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        for root in both(&dir) {
            assert!(root.open_dir(Path::new("")).is_ok());
            assert!(root.open_dir(Path::new("a/b")).is_ok());
            for bad in [
                "..",
                "a/../..",
                "../secret",
                "up",
                "side/b",
                "a/abs",
                "a/abs/etc",
                "file",
                "none",
                "/etc",
            ] {
                assert!(root.open_dir(Path::new(bad)).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn paths_longer_than_the_system_allows() {
        let dir = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        let mut path = std::path::PathBuf::new();
        for root in both(dir.path()) {
            let mut at = root.open_dir(Path::new("")).unwrap();
            path.clear();
            for _ in 0..40 {
                match rustix::fs::mkdirat(&at, &name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => panic!("{error}"),
                }
                at = rustix::fs::openat(&at, &name, DIR, Mode::empty()).unwrap();
                path.push(&name);
            }
            assert!(path.as_os_str().len() > 4096);
            root.open_dir(&path).unwrap();
        }
        // The standard library removes trees by relative steps as well.
        dir.close().unwrap();
    }
}
