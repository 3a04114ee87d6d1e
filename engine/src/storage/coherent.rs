//! Whether what was written to a directory is in every listing of it that begins later.
//!
//! It is on a file system of one machine. Behind a network (NFS, SMB, a cluster's, a host's folder in its guest) another
//! machine, or the kernel's cache, may show the past for a while. What is not known counts as that.

use std::path::Path;

/// Numbers by which a kernel calls its own file systems (`statfs(2)`): ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS, bcachefs.
const OWN: [i64; 7] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x0102_1994,
    0xF2F5_2010,
    0x2FC1_2FC1,
    0xCA45_1A4E,
];

/// Whether that is known of this directory.
pub(super) fn is_coherent(dir: &Path) -> bool {
    match rustix::fs::statfs(dir) {
        Ok(found) => OWN.contains(&found.f_type),
        Err(error) => {
            tracing::debug!(dir = %dir.display(), %error, "its file system is not known");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_the_kernels_own_is_and_nothing_else() {
        // Not on a disk, but of one machine.
        assert!(is_coherent(Path::new("/dev/shm")));
        assert!(!is_coherent(Path::new("/proc")));
        assert!(!is_coherent(Path::new("/nowhere")));
    }
}
