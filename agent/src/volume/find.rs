//! Finds a volume's directory below the kubelet's `pods` directory.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ark_api::naming;
use rustix::io::Errno;

use super::guard::{self, Step};
use super::rule::{self, Place, Wanted};
use crate::error::{Error, Result};

/// A directory and the one it lies in, both held open.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) dir: OwnedFd,
    pub(crate) parent: OwnedFd,
    pub(crate) path: PathBuf,
}

/// Finds the directory of `volume`. Whether something is mounted there is not looked at.
pub(super) fn find(pods_dir: &Path, uid: &str, volume: &str, wanted: &Wanted) -> Result<Found> {
    let pod = pod_dir(pods_dir, uid, volume)?;
    let walk = Walk { volume };
    let volumes = walk.down(pod, "volumes")?;
    match &wanted.place {
        Place::Exact {
            plugin,
            name,
            inside_mount,
        } => {
            let found = walk.down(walk.down(volumes, plugin)?, name)?;
            if *inside_mount {
                walk.down(found, "mount")
            } else {
                Ok(found)
            }
        }
        Place::Search { name } => search(&walk, &volumes, name),
    }
}

/// The directory of the gate of the pod with this uid.
pub(crate) fn gate_dir(pods_dir: &Path, uid: &str) -> Result<Found> {
    rule::check_name("uid of the pod", uid)?;
    let name = naming::GATE_VOLUME.to_owned();
    let wanted = Wanted {
        place: Place::Exact {
            plugin: rule::EMPTY_DIR,
            name,
            inside_mount: false,
        },
        mounted: false,
    };
    find(pods_dir, uid, naming::GATE_VOLUME, &wanted)
}

fn pod_dir(pods_dir: &Path, uid: &str, volume: &str) -> Result<Found> {
    let parent = super::kubelet::open(pods_dir)?;
    let path = pods_dir.to_owned();
    Walk { volume }
        .down(
            Found {
                dir: parent,
                parent: super::kubelet::open(pods_dir)?,
                path,
            },
            uid,
        )
        .map_err(|error| match error {
            Error::VolumeNotFound { .. } => Error::VolumeNotFound {
                volume: volume.to_owned(),
                message: format!(
                    "the kubelet has no directory for the pod ({}/{uid})",
                    pods_dir.display()
                ),
            },
            other => other,
        })
}

fn search(walk: &Walk<'_>, volumes: &Found, name: &str) -> Result<Found> {
    let plugins = guard::names(&volumes.dir).map_err(|e| unsafe_path(&volumes.path, e))?;
    let mut holding = Vec::new();
    for plugin in plugins {
        let Step::Directory(dir) = walk.step(volumes, &plugin)? else {
            continue;
        };
        let inside = Found {
            dir,
            parent: clone_fd(volumes)?,
            path: volumes.path.join(&plugin),
        };
        match walk.step(&inside, name)? {
            Step::Absent => {}
            // An entry that is no directory counts as well: with it, nothing is certain.
            Step::Directory(_) | Step::NotDirectory => holding.push((plugin, inside)),
        }
    }
    if holding.len() > 1 {
        let plugins: Vec<_> = holding.iter().map(|(p, _)| p.as_str()).collect();
        return Err(walk.not_found(format!(
            "{} kinds of volume have a directory {name:?} ({}), one was expected",
            plugins.len(),
            plugins.join(", ")
        )));
    }
    let Some((plugin, inside)) = holding.pop() else {
        return Err(absent(walk, volumes, name)?);
    };
    let found = walk.down(inside, name)?;
    if plugin == rule::CSI {
        walk.down(found, "mount")
    } else {
        Ok(found)
    }
}

/// Why there is no directory `name`: a block device, or something else.
fn absent(walk: &Walk<'_>, volumes: &Found, name: &str) -> Result<Error> {
    let pod = clone_fd_of(&volumes.parent, &volumes.path)?;
    let path = volumes.path.with_file_name("volumeDevices");
    if let Step::Directory(devices) =
        guard::step(&pod, "volumeDevices").map_err(|e| unsafe_path(&path, e))?
    {
        for plugin in guard::names(&devices).map_err(|e| unsafe_path(&path, e))? {
            if let Step::Directory(dir) =
                guard::step(&devices, &plugin).map_err(|e| unsafe_path(&path, e))?
                && guard::names(&dir)
                    .map_err(|e| unsafe_path(&path, e))?
                    .iter()
                    .any(|n| n == name)
            {
                return Ok(Error::BlockVolume {
                    volume: walk.volume.to_owned(),
                });
            }
        }
    }
    Ok(walk.not_found(format!(
        "the kubelet has no directory {name:?} in {}: a PersistentVolume of type hostPath has none and cannot be \
         reached; any other is not mounted",
        volumes.path.display()
    )))
}

struct Walk<'a> {
    volume: &'a str,
}

impl Walk<'_> {
    fn step(&self, from: &Found, name: &str) -> Result<Step> {
        guard::step(&from.dir, name).map_err(|error| match error {
            Errno::NAMETOOLONG => self.not_found(format!("{name:?} is too long for a name")),
            error => unsafe_path(&from.path.join(name), error),
        })
    }

    fn down(&self, from: Found, name: &str) -> Result<Found> {
        let path = from.path.join(name);
        match self.step(&from, name)? {
            Step::Directory(dir) => Ok(Found {
                dir,
                parent: from.dir,
                path,
            }),
            Step::Absent => Err(self.not_found(format!("{} does not exist", path.display()))),
            Step::NotDirectory => Err(Error::UnsafePath {
                path: path.display().to_string(),
                message: "it is not a directory but a link or a file, and links are not followed"
                    .to_owned(),
            }),
        }
    }

    fn not_found(&self, message: String) -> Error {
        Error::VolumeNotFound {
            volume: self.volume.to_owned(),
            message,
        }
    }
}

fn clone_fd(of: &Found) -> Result<OwnedFd> {
    clone_fd_of(&of.dir, &of.path)
}

fn clone_fd_of(fd: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    fd.try_clone().map_err(|error| Error::UnsafePath {
        path: path.display().to_string(),
        message: error.to_string(),
    })
}

fn unsafe_path(path: &Path, error: Errno) -> Error {
    Error::UnsafePath {
        path: path.display().to_string(),
        message: std::io::Error::from(error).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A pods directory with the given directories of the pod `uid`.
    fn tree(dirs: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in dirs {
            fs::create_dir_all(root.path().join("uid").join(dir)).unwrap();
        }
        root
    }

    fn named(name: &str) -> Wanted {
        Wanted {
            place: Place::Search {
                name: name.to_owned(),
            },
            mounted: true,
        }
    }

    fn search_in(root: &tempfile::TempDir, name: &str) -> Result<PathBuf> {
        find(root.path(), "uid", "data", &named(name)).map(|found| {
            let relative = found.path.strip_prefix(root.path().join("uid")).unwrap();
            relative.to_owned()
        })
    }

    #[test]
    fn each_kind_of_volume_is_found() {
        let root = tree(&[
            "volumes/kubernetes.io~empty-dir/cache",
            "volumes/kubernetes.io~local-volume/pv-local",
            "volumes/kubernetes.io~csi/pv-csi/mount",
            "volumes/kubernetes.io~nfs/share",
        ]);
        let found = |name| search_in(&root, name).unwrap();
        assert_eq!(
            found("pv-local"),
            Path::new("volumes/kubernetes.io~local-volume/pv-local")
        );
        assert_eq!(
            found("pv-csi"),
            Path::new("volumes/kubernetes.io~csi/pv-csi/mount")
        );
        assert_eq!(found("share"), Path::new("volumes/kubernetes.io~nfs/share"));
        let exact = Wanted {
            place: Place::Exact {
                plugin: rule::EMPTY_DIR,
                name: "cache".to_owned(),
                inside_mount: false,
            },
            mounted: false,
        };
        let empty_dir = find(root.path(), "uid", "cache", &exact).unwrap();
        assert!(
            empty_dir
                .path
                .ends_with("volumes/kubernetes.io~empty-dir/cache")
        );
    }

    #[test]
    fn exactly_one_directory_must_match() {
        let root = tree(&[
            "volumes/kubernetes.io~csi/pv/mount",
            "volumes/kubernetes.io~nfs/pv",
        ]);
        let error = search_in(&root, "pv").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("kubernetes.io~csi, kubernetes.io~nfs"),
            "{error}"
        );
        let error = search_in(&root, "other").unwrap_err();
        assert!(matches!(error, Error::VolumeNotFound { .. }), "{error}");
    }

    #[test]
    fn a_csi_volume_that_is_not_mounted_yet_is_not_found() {
        let root = tree(&["volumes/kubernetes.io~csi/pv"]);
        let error = search_in(&root, "pv").unwrap_err();
        assert!(matches!(error, Error::VolumeNotFound { .. }), "{error}");
    }

    #[test]
    fn a_block_volume_is_refused_by_name() {
        let root = tree(&["volumes", "volumeDevices/kubernetes.io~csi"]);
        symlink(
            "/dev/null",
            root.path().join("uid/volumeDevices/kubernetes.io~csi/pv"),
        )
        .unwrap();
        let error = search_in(&root, "pv").unwrap_err();
        assert!(matches!(error, Error::BlockVolume { .. }), "{error}");
    }

    #[test]
    fn links_at_every_level_are_refused() {
        let outside = tree(&["volumes/kubernetes.io~nfs/pv"]);
        let levels = ["uid", "uid/volumes", "uid/volumes/kubernetes.io~nfs/pv"];
        for level in levels {
            let root = tempfile::tempdir().unwrap();
            let link = root.path().join(level);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(outside.path().join(level), &link).unwrap();
            let error = search_in(&root, "pv").unwrap_err();
            assert!(
                matches!(error, Error::UnsafePath { .. }),
                "{level}: {error}"
            );
        }
        // A link in place of a plugin's directory is not searched at all.
        let root = tree(&["volumes"]);
        symlink(
            outside.path().join("uid/volumes/kubernetes.io~nfs"),
            root.path().join("uid/volumes/kubernetes.io~nfs"),
        )
        .unwrap();
        assert!(search_in(&root, "pv").is_err());
    }

    #[test]
    fn a_link_beside_the_real_directory_makes_it_uncertain() {
        let root = tree(&["volumes/a/pv", "volumes/b"]);
        symlink("/etc", root.path().join("uid/volumes/b/pv")).unwrap();
        assert!(search_in(&root, "pv").is_err());
    }

    #[test]
    fn missing_pod_and_missing_root_differ() {
        let root = tempfile::tempdir().unwrap();
        let error = search_in(&root, "pv").unwrap_err();
        assert!(
            error.to_string().contains("no directory for the pod"),
            "{error}"
        );
        let nowhere = root.path().join("none");
        let error = find(&nowhere, "uid", "data", &named("pv")).unwrap_err();
        assert!(matches!(error, Error::WrongKubeletRoot { .. }), "{error}");
    }
}
