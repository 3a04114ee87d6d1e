//! What is known of file systems by the number that `statfs(2)` tells.

use std::{os::fd::AsFd, path::PathBuf};

use rustix::fs::StatFs;

/// ext2, ext3 and ext4.
pub(crate) const EXT: i64 = 0xEF53;
/// XFS.
pub(crate) const XFS: i64 = 0x5846_5342;
/// Btrfs.
pub(crate) const BTRFS: i64 = 0x9123_683E;
/// tmpfs.
pub(crate) const TMPFS: i64 = 0x0102_1994;
/// F2FS.
pub(crate) const F2FS: i64 = 0xF2F5_2010;
/// ZFS.
pub(crate) const ZFS: i64 = 0x2FC1_2FC1;
/// bcachefs.
pub(crate) const BCACHEFS: i64 = 0xCA45_1A4E;
/// An overlay of several directories, as containers have it.
const OVERLAY: i64 = 0x794C_7630;

/// File systems that change a file's times at the first store into a mapped page after the page was
/// written out.
const SHOWING: [i64; 3] = [EXT, XFS, BTRFS];

/// Whether a store through a shared mapping changes the times of this file, if the page was written
/// out before.
///
/// tmpfs never writes out, a network's file system learns late what others stored, and of all
/// others it is not known. An overlay hands stores on to the file system of its upper directory.
/// That is found in the table of mounts, which may name a directory of another namespace; so it
/// counts only if it is as large as the overlay says to be. A volatile overlay does not write out
/// when it is asked to.
pub(crate) fn shows_mapped_stores(file: impl AsFd, mount: u64) -> bool {
    let found = match rustix::fs::fstatfs(file) {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "the file system of a file is not known");
            return false;
        }
    };
    match found.f_type {
        OVERLAY => std::fs::read_to_string("/proc/self/mountinfo")
            .inspect_err(|error| tracing::debug!(%error, "the table of mounts cannot be read"))
            .is_ok_and(|table| upper_shows(&found, &table, mount)),
        kind => SHOWING.contains(&kind),
    }
}

fn upper_shows(overlay: &StatFs, table: &str, mount: u64) -> bool {
    let Some(upper) = upper(table, mount) else {
        return false;
    };
    rustix::fs::statfs(&upper).is_ok_and(|upper| {
        SHOWING.contains(&upper.f_type)
            && (upper.f_blocks, upper.f_bsize) == (overlay.f_blocks, overlay.f_bsize)
    })
}

/// The upper directory of an overlay, by the table of mounts. `None` if it has none, or is
/// volatile.
fn upper(table: &str, mount: u64) -> Option<PathBuf> {
    let line = table.lines().find(|line| {
        let id = line.split(' ').next();
        id.and_then(|id| id.parse().ok()) == Some(mount)
    })?;
    let (_, of_file_system) = line.split_once(" - ")?;
    let options = of_file_system.split(' ').nth(2)?;
    if options
        .split(',')
        .any(|option| option.contains("volatile") && !option.contains("dir="))
    {
        return None;
    }
    let upper = options
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="))?;
    Some(PathBuf::from(unescape(upper)?))
}

/// Text of the table, in which blanks and the like are octal numbers behind a backslash.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'\\' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(3)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, path::Path};

    use super::*;
    use crate::files::meta::Meta;

    const TABLE: &str = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 21 0:40 / /a rw,relatime - overlay overlay rw,lowerdir=/l:/m,upperdir=/with\\040blank/upper,workdir=/w
31 21 0:41 / /b rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w,volatile
32 21 0:42 / /c ro,relatime - overlay overlay ro,lowerdir=/volatile:/m
33 21 0:43 / /d rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/volatile,workdir=/w
34 21 0:44 / /e rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w,fsync=volatile
";

    #[test]
    fn the_upper_directory_of_an_overlay_is_found_unless_it_does_not_sync() {
        let expected = [
            (30, Some("/with blank/upper")),
            (31, None),
            (32, None),
            (33, Some("/volatile")),
            (34, None),
            (21, None),
            (99, None),
        ];
        for (mount, upper_dir) in expected {
            assert_eq!(
                upper(TABLE, mount).as_deref(),
                upper_dir.map(Path::new),
                "{mount}"
            );
        }
    }

    #[test]
    fn memory_and_the_kernels_own_tables_show_nothing() {
        for path in ["/dev/shm", "/proc/self/status"] {
            let file = File::open(path).unwrap();
            let mount = Meta::of(&file).unwrap().mount;
            assert!(!shows_mapped_stores(&file, mount), "{path}");
        }
    }
}
