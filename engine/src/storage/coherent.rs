//! Whether what was written to a directory is in every listing of it that begins later.
//!
//! It is on a file system of one machine. Behind a network (NFS, SMB, a cluster's, a host's folder
//! in its guest) another machine, or the kernel's cache, may show the past for a while. What is not
//! known counts as that.

use std::path::Path;

use crate::files::filesystem::{BCACHEFS, BTRFS, EXT, F2FS, TMPFS, XFS, ZFS};

/// File systems of the kernel's own.
const OWN: [i64; 7] = [EXT, XFS, BTRFS, TMPFS, F2FS, ZFS, BCACHEFS];

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
