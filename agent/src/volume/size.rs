//! How much a volume holds, as far as it takes to tell a small one from a large one.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Entries looked at; a volume with more is not small, however short its files are.
const MOST_ENTRIES: u64 = 1000;
/// Directories below each other; deeper ones are not small.
const MOST_DEPTH: usize = 64;

/// Bytes of the files below `dir`, if they are at most `most` and the entries are few. Never
/// follows a link. The answer is an estimate: files may change meanwhile. Blocks for some thousand
/// system calls at most.
pub(crate) fn small(dir: &Path, most: u64) -> Result<Option<u64>, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags, Mode::empty())?;
    let mut walk = Walk {
        most,
        bytes: 0,
        entries: 0,
    };
    Ok(walk.directory(&root, 0)?.then_some(walk.bytes))
}

struct Walk {
    most: u64,
    bytes: u64,
    entries: u64,
}

impl Walk {
    /// Whether all that was seen so far, and what is below `dir`, is small.
    fn directory(&mut self, dir: &OwnedFd, depth: usize) -> Result<bool, Errno> {
        if depth > MOST_DEPTH {
            return Ok(false);
        }
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Removed since it was listed.
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                    self.bytes = self.bytes.saturating_add(size);
                }
                FileType::Directory => {
                    let flags =
                        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
                        Ok(below) => {
                            if !self.directory(&below, depth + 1)? {
                                return Ok(false);
                            }
                        }
                        // Gone, or something else by now.
                        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                        Err(error) => return Err(error),
                    }
                }
                _ => {}
            }
            if self.entries > MOST_ENTRIES || self.bytes > self.most {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_few_and_short_files_are_small() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(small(dir.path(), 10), Ok(Some(0)));
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a"), "12345").unwrap();
        fs::write(dir.path().join("b"), "12345").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("large"), vec![0; 100]).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("link")).unwrap();
        assert_eq!(small(dir.path(), 10), Ok(Some(10)));
        assert_eq!(small(dir.path(), 9), Ok(None));
        for n in 0..=MOST_ENTRIES {
            fs::write(dir.path().join(format!("sub/{n}")), "").unwrap();
        }
        assert_eq!(small(dir.path(), 10), Ok(None));
        assert_eq!(small(&dir.path().join("none"), 10), Err(Errno::NOENT));
    }
}
