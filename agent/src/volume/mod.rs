//! Directories of pods' volumes on this node.
//!
//! Does: decide from a pod's spec where the kubelet keeps a volume ([`rule`]), find it below the
//! kubelet's `pods` directory ([`find`]) without following a symbolic link ([`guard`]), and check
//! that what must be mounted is mounted and that the directory is the kubelet's at all
//! ([`kubelet`]), and tell small volumes from large ones ([`size`]). Does not: read or write files
//! inside a volume.
//!
//! Fails with an error that names the volume; a directory that may be the wrong one is never
//! returned. `subPath` plays no part: the whole volume is meant, always.

mod find;
mod guard;
pub(crate) mod kubelet;
mod rule;
mod size;

use std::path::{Path, PathBuf};

use ark_api::pod_volume_backup::ClaimReference;
use k8s_openapi::api::core::v1::Pod;

use crate::error::{Error, Result};

pub(crate) use find::gate_dir;
pub(crate) use rule::{check_name, display_name};
pub(crate) use size::small;

/// The directory of `volume` of `pod`, checked. Blocks for a few system calls.
pub(crate) fn locate(
    pods_dir: &Path,
    pod: &Pod,
    volume: &str,
    claim: Option<&ClaimReference>,
) -> Result<PathBuf> {
    let wanted = rule::wanted(pod, volume, claim)?;
    let uid = rule::directory_uid(pod)?;
    let found = find::find(pods_dir, &uid, volume, &wanted)?;
    if wanted.mounted {
        let mounted =
            guard::is_mount_root(&found.dir, &found.parent).map_err(|error| Error::UnsafePath {
                path: found.path.display().to_string(),
                message: format!("cannot tell whether it is a mount point: {error}"),
            })?;
        if !mounted {
            return Err(Error::VolumeNotMounted {
                volume: volume.to_owned(),
                path: found.path.display().to_string(),
            });
        }
    }
    Ok(found.path)
}

/// Name of an entry of the volume at `path`, `None` if it is empty. The `lost+found` of a fresh
/// file system does not count.
pub(crate) fn first_entry(path: &Path) -> Result<Option<String>> {
    let unreadable = |error: std::io::Error| Error::UnsafePath {
        path: path.display().to_string(),
        message: format!("cannot tell whether the volume is empty: {error}"),
    };
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let is_dir = entry.file_type().map_err(unreadable)?.is_dir();
        if !(is_dir && entry.file_name() == "lost+found") {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_file_system_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(first_entry(dir.path()).unwrap(), None);
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert_eq!(first_entry(dir.path()).unwrap(), None);
        std::fs::write(dir.path().join(".hidden"), "").unwrap();
        assert_eq!(first_entry(dir.path()).unwrap().as_deref(), Some(".hidden"));
        assert!(first_entry(&dir.path().join("gone")).is_err());
    }
}
