//! Walks down directories one entry at a time, never through a symbolic link.
//!
//! Every step opens one name relative to the directory opened before it, with `O_NOFOLLOW`, so that
//! no one who may write somewhere below can redirect the agent, not even between a check and its
//! use.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// Only as a starting point for further steps.
const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::PATH);

/// What a step found.
#[derive(Debug)]
pub(super) enum Step {
    /// A real directory.
    Directory(OwnedFd),
    /// No such entry.
    Absent,
    /// A symbolic link or a file.
    NotDirectory,
}

/// Opens the directory everything starts from. Symbolic links in its own path are the
/// administrator's and are followed.
pub(super) fn root(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH,
        Mode::empty(),
    )
}

/// Opens the entry `name` of `dir`. `name` must be one entry's name, see [`super::rule::check_name`].
pub(super) fn step(dir: impl AsFd, name: &str) -> Result<Step, Errno> {
    match rustix::fs::openat(dir.as_fd(), name, DIRECTORY, Mode::empty()) {
        Ok(fd) => Ok(Step::Directory(fd)),
        Err(Errno::NOENT) => Ok(Step::Absent),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(Step::NotDirectory),
        Err(error) => Err(error),
    }
}

/// Names of the entries of `dir`, which was opened by [`step`] or [`root`].
pub(super) fn names(dir: impl AsFd) -> Result<Vec<String>, Errno> {
    let readable = rustix::fs::openat(
        dir.as_fd(),
        ".",
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY,
        Mode::empty(),
    )?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(readable)? {
        // A name that is not UTF-8 is none the kubelet made.
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether something is mounted exactly on `dir`, whose parent directory is `parent`.
///
/// Asks the kernel directly where it can tell (Linux 5.8), which also sees bind mounts from the
/// same file system; on older kernels a different device number is the only sign.
pub(crate) fn is_mount_root(dir: impl AsFd, parent: impl AsFd) -> Result<bool, Errno> {
    let look = |fd: BorrowedFd<'_>| {
        rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
    };
    let own = look(dir.as_fd())?;
    if own
        .stx_attributes_mask
        .contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(own.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let above = look(parent.as_fd())?;
    Ok((own.stx_dev_major, own.stx_dev_minor) != (above.stx_dev_major, above.stx_dev_minor))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        symlink("nowhere", dir.path().join("broken")).unwrap();
        let root = root(dir.path()).unwrap();
        assert!(matches!(step(&root, "real"), Ok(Step::Directory(_))));
        assert!(matches!(step(&root, "link"), Ok(Step::NotDirectory)));
        assert!(matches!(step(&root, "broken"), Ok(Step::NotDirectory)));
        assert!(matches!(step(&root, "file"), Ok(Step::NotDirectory)));
        assert!(matches!(step(&root, "none"), Ok(Step::Absent)));
        assert_eq!(names(&root).unwrap(), ["broken", "file", "link", "real"]);
    }

    #[test]
    fn mount_roots_are_told_apart() {
        let slash = root(Path::new("/")).unwrap();
        let proc = root(Path::new("/proc")).unwrap();
        let inside = root(Path::new("/proc/sys")).unwrap();
        assert!(is_mount_root(&proc, &slash).unwrap());
        assert!(!is_mount_root(&inside, &proc).unwrap());
    }
}
