//! Files and directories that last, and that those may read for whom the repository is.
//!
//! Does: sync files and directories as far as their file system can; let the group read what is
//! made in a directory that it may read. Does not: write content, or open anything to others than
//! the group. A group that cannot be given keeps the file to its owner; that is logged, and no
//! error.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use rustix::io::Errno;

/// Of the group: to read and to enter.
const GROUP_READS: u32 = 0o050;

/// Makes a file's content durable. A file system that has no such call, as FUSE and SMB mounts may
/// not, keeps it as well as it can.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    const UNKNOWN: [Errno; 3] = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
    let unknown = |error: &io::Error| {
        error
            .raw_os_error()
            .is_some_and(|raw| UNKNOWN.iter().any(|errno| errno.raw_os_error() == raw))
    };
    match file.sync_all() {
        Err(error) if unknown(&error) => {
            tracing::debug!(%error, "the file system has no fsync");
            Ok(())
        }
        result => result,
    }
}

/// Makes durable which names a directory has.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    sync(&File::open(dir)?)
}

/// Whose what is made in a directory shall be beside its owner's.
pub(super) struct Group {
    id: u32,
    /// The directory's permission bits.
    mode: u32,
}

impl Group {
    /// The group that may read this directory of a repository. `None`: only the owner may.
    pub(super) fn of(dir: &Path) -> io::Result<Option<Self>> {
        let meta = fs::metadata(dir)?;
        let group = Self {
            id: meta.gid(),
            mode: meta.mode(),
        };
        Ok((group.mode & GROUP_READS == GROUP_READS).then_some(group))
    }

    /// Lets the group read a file just made.
    pub(super) fn share(&self, file: &File) {
        self.give(file, 0o640);
    }

    /// Makes a directory that is to its group what the one around it is.
    pub(super) fn make_dir(group: Option<&Self>, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        if let Some(group) = group {
            group.give(&File::open(path)?, 0o700 | group.mode & 0o2070);
        }
        Ok(())
    }

    fn give(&self, file: &File, mode: u32) {
        let given = file.metadata().and_then(|meta| {
            if meta.gid() != self.id {
                fchown(file, None, Some(self.id))?;
            }
            file.set_permissions(Permissions::from_mode(mode))
        });
        if let Err(error) = given {
            tracing::debug!(%error, group = self.id, "the group of the repository cannot be given a new file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_to_the_group_what_its_directory_is() {
        let dir = tempfile::tempdir().unwrap();
        for (given, made_dir, made_file) in [
            (0o700, 0o700, 0o600),
            (0o755, 0o750, 0o640),
            (0o770, 0o770, 0o640),
            (0o2770, 0o2770, 0o640),
            (0o740, 0o700, 0o600),
            (0o707, 0o700, 0o600),
        ] {
            let above = dir.path().join(format!("{given:o}"));
            fs::create_dir(&above).unwrap();
            fs::set_permissions(&above, Permissions::from_mode(given)).unwrap();
            let group = Group::of(&above).unwrap();
            Group::make_dir(group.as_ref(), &above.join("dir")).unwrap();
            assert_eq!(mode(&above.join("dir")), made_dir, "{given:o}");
            let file = File::create(above.join("file")).unwrap();
            file.set_permissions(Permissions::from_mode(0o600)).unwrap();
            if let Some(group) = group {
                group.share(&file);
            }
            assert_eq!(mode(&above.join("file")), made_file, "{given:o}");
        }
    }

    #[test]
    fn what_the_system_cannot_sync_is_no_error_and_everything_else_is() {
        // A pipe knows no fsync.
        let (pipe, _writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        assert!(pipe.sync_all().is_err());
        sync(&pipe).unwrap();
        assert!(sync_dir(Path::new("/nowhere")).is_err());
    }
}
