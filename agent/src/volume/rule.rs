//! Pure rules: where the kubelet keeps a volume of a given kind.

use ark_api::pod_volume_backup::ClaimReference;
use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::error::{Error, Result};

/// Annotation of a mirror pod: the uid under which the kubelet runs the static pod behind it.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
/// Directory name of CSI volumes below `volumes`.
pub(super) const CSI: &str = "kubernetes.io~csi";
/// Directory name of emptyDir volumes below `volumes`.
pub(super) const EMPTY_DIR: &str = "kubernetes.io~empty-dir";
/// Longest name that becomes part of a path.
const MAX_NAME: usize = 253;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `volumes/<plugin>/<name>`.
    Exact {
        plugin: &'static str,
        name: String,
        /// In its directory `mount`.
        inside_mount: bool,
    },
    /// `volumes/*/<name>`, of which there must be exactly one; in `mount` for CSI.
    Search { name: String },
}

/// Where to look, and what must be true there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) place: Place,
    /// Something must be mounted on it: else the agent would see the empty directory below.
    pub(super) mounted: bool,
}

/// The name of the pod's directory: its uid, or the uid of the static pod it mirrors.
pub(super) fn directory_uid(pod: &Pod) -> Result<String> {
    let mirrored = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(MIRROR));
    let uid = mirrored.or(pod.metadata.uid.as_ref());
    let uid = uid.ok_or_else(|| Error::Bug("a pod without a uid".to_owned()))?;
    check_name("uid of the pod", uid)?;
    Ok(uid.clone())
}

/// Where the kubelet keeps `volume` of `pod`.
pub(super) fn wanted(pod: &Pod, volume: &str, claim: Option<&ClaimReference>) -> Result<Wanted> {
    check_name("volume", volume)?;
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref());
    let volumes = volumes.unwrap_or_default();
    let Some(found) = volumes.iter().find(|v| v.name == volume) else {
        let names: Vec<_> = volumes.iter().map(|v| v.name.as_str()).collect();
        return Err(Error::NoSuchVolume {
            pod: display_name(pod),
            volume: volume.to_owned(),
            has: names.join(", "),
        });
    };
    if found.persistent_volume_claim.is_some() || found.ephemeral.is_some() {
        return of_claim(volume, claim);
    }
    if let Some(why) = unreadable(found) {
        return Err(Error::UnsupportedVolume {
            volume: volume.to_owned(),
            why,
        });
    }
    let name = volume.to_owned();
    if let Some(empty_dir) = &found.empty_dir {
        let medium = empty_dir.medium.as_deref().unwrap_or_default();
        return Ok(Wanted {
            place: Place::Exact {
                plugin: EMPTY_DIR,
                name,
                inside_mount: false,
            },
            mounted: !medium.is_empty(),
        });
    }
    if found.csi.is_some() {
        return Ok(Wanted {
            place: Place::Exact {
                plugin: CSI,
                name,
                inside_mount: true,
            },
            mounted: true,
        });
    }
    Ok(Wanted {
        place: Place::Search { name },
        mounted: true,
    })
}

/// A claim's directory has the name of its PersistentVolume, whatever the kind of that.
fn of_claim(volume: &str, claim: Option<&ClaimReference>) -> Result<Wanted> {
    let bound = claim.and_then(|c| c.volume_name.as_deref());
    let Some(name) = bound.filter(|n| !n.is_empty()) else {
        return Err(Error::ClaimNotBound {
            volume: volume.to_owned(),
        });
    };
    check_name("PersistentVolume", name)?;
    Ok(Wanted {
        place: Place::Search {
            name: name.to_owned(),
        },
        mounted: true,
    })
}

/// Why the files of a volume that is no claim cannot be reached through the pod's directory.
fn unreadable(volume: &Volume) -> Option<&'static str> {
    if volume.host_path.is_some() {
        Some("a hostPath is a directory of the node, not of the pod")
    } else if volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
        || volume.image.is_some()
    {
        Some("it holds only what the cluster or an image can give again")
    } else {
        None
    }
}

/// Refuses a name that could lead anywhere but to one directory entry.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if fits {
        Ok(())
    } else {
        Err(Error::InvalidSpec(format!("{what} {name:?} is not a name")))
    }
}

/// `namespace/name` of a pod.
pub(crate) fn display_name(pod: &Pod) -> String {
    format!(
        "{}/{}",
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(volumes: &serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "shop", "name": "web-0", "uid": "7c0e"},
            "spec": {"containers": [], "volumes": volumes},
        }))
        .unwrap()
    }

    fn claim(volume_name: Option<&str>) -> ClaimReference {
        ClaimReference {
            name: "data".to_owned(),
            uid: "u".to_owned(),
            volume_name: volume_name.map(str::to_owned),
        }
    }

    #[test]
    fn empty_dir_is_found_by_its_own_name() {
        let pod = pod(&serde_json::json!([
            {"name": "disk", "emptyDir": {}},
            {"name": "ram", "emptyDir": {"medium": "Memory"}},
        ]));
        let disk = wanted(&pod, "disk", None).unwrap();
        let exact = |name: &str| Place::Exact {
            plugin: "kubernetes.io~empty-dir",
            name: name.to_owned(),
            inside_mount: false,
        };
        assert_eq!((disk.place, disk.mounted), (exact("disk"), false));
        let ram = wanted(&pod, "ram", None).unwrap();
        assert_eq!((ram.place, ram.mounted), (exact("ram"), true));
    }

    #[test]
    fn a_claim_is_found_by_its_persistent_volume() {
        let pod = pod(&serde_json::json!([
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "scratch", "ephemeral": {}},
        ]));
        for volume in ["data", "scratch"] {
            let found = wanted(&pod, volume, Some(&claim(Some("pv-1")))).unwrap();
            let name = "pv-1".to_owned();
            assert_eq!((found.place, found.mounted), (Place::Search { name }, true));
            for unbound in [None, Some(claim(None)), Some(claim(Some("")))] {
                let error = wanted(&pod, volume, unbound.as_ref()).unwrap_err();
                assert!(matches!(error, Error::ClaimNotBound { .. }), "{error}");
            }
        }
    }

    #[test]
    fn other_kinds() {
        let pod = pod(&serde_json::json!([
            {"name": "inline", "csi": {"driver": "d"}},
            {"name": "share", "nfs": {"server": "s", "path": "/"}},
            {"name": "node", "hostPath": {"path": "/etc"}},
            {"name": "conf", "configMap": {"name": "c"}},
        ]));
        let inline = wanted(&pod, "inline", None).unwrap();
        let place = Place::Exact {
            plugin: "kubernetes.io~csi",
            name: "inline".to_owned(),
            inside_mount: true,
        };
        assert_eq!((inline.place, inline.mounted), (place, true));
        let name = "share".to_owned();
        assert_eq!(
            wanted(&pod, "share", None).unwrap().place,
            Place::Search { name }
        );
        for refused in ["node", "conf"] {
            let error = wanted(&pod, refused, None).unwrap_err();
            assert!(matches!(error, Error::UnsupportedVolume { .. }), "{error}");
        }
        let error = wanted(&pod, "typo", None).unwrap_err();
        assert!(
            error.to_string().contains("inline, share, node, conf"),
            "{error}"
        );
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\0", "a b", &"x".repeat(254)] {
            assert!(check_name("volume", name).is_err(), "{name:?}");
        }
        let with = |volume_name| Some(claim(Some(volume_name)));
        let pod = pod(&serde_json::json!([
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ]));
        assert!(wanted(&pod, "data", with("../../etc").as_ref()).is_err());
    }

    #[test]
    fn a_mirror_pod_lives_under_the_uid_it_mirrors() {
        let mut pod = pod(&serde_json::json!([]));
        assert_eq!(directory_uid(&pod).unwrap(), "7c0e");
        pod.metadata.annotations = Some([(MIRROR.to_owned(), "beef".to_owned())].into());
        assert_eq!(directory_uid(&pod).unwrap(), "beef");
        pod.metadata.annotations = Some([(MIRROR.to_owned(), "../beef".to_owned())].into());
        assert!(directory_uid(&pod).is_err());
    }
}
