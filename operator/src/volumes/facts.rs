//! The few facts about pods, claims and disks that decide about volumes, kept instead of the
//! objects.

use std::collections::{BTreeMap, BTreeSet};

use ark_api::annotation::{BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES, HOOK_PREFIXES, get, names};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::ResourceExt;
use serde_json::Value;

use super::owner;
use crate::collect::namespaces::has_exclude_label;

/// What kind of volume it is, as far as that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A claim, or an ephemeral volume's own claim.
    Claim(String),
    /// An emptyDir.
    Scratch,
    /// A directory of the node.
    HostPath,
    /// A volume that holds only what the cluster can give again.
    NotData,
    /// Any other volume: nfs, inline CSI and so on.
    Other,
}

/// One volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodVolume {
    /// Its name in the pod.
    pub(crate) name: String,
    /// What it is.
    pub(crate) source: Source,
    /// Whether a container mounts it as files.
    pub(crate) mounted: bool,
    /// Whether a container uses it as a block device.
    pub(crate) device: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Uid.
    pub(crate) uid: String,
    /// Node it runs on.
    pub(crate) node: Option<String>,
    /// `Running`, `Pending`, `Succeeded` and so on.
    pub(crate) phase: String,
    /// Whether it is being deleted.
    pub(crate) leaving: bool,
    /// Workload that owns it, `deployment/nginx`.
    pub(crate) owner: String,
    /// Volumes named by the opt-in annotation.
    pub(crate) included: Vec<String>,
    /// Volumes named by the opt-out annotation.
    pub(crate) excluded: Vec<String>,
    /// Whether it asks for hooks.
    pub(crate) hooks: bool,
    /// Its volumes.
    pub(crate) volumes: Vec<PodVolume>,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClaimFacts {
    /// Uid.
    pub(crate) uid: String,
    /// Whether it is bound.
    pub(crate) bound: bool,
    /// Disk it is bound to.
    pub(crate) disk: Option<String>,
    /// Whether it is a block device.
    pub(crate) block: bool,
    /// Whether its label excludes it.
    pub(crate) excluded: bool,
    /// Whether it is an item of the backup.
    pub(crate) item: bool,
}

/// All facts of a backup.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Pods that are items, in order of namespace and name.
    pub(crate) pods: BTreeMap<(String, String), PodFacts>,
    /// Claims, by namespace and name: items, and those that pods name.
    pub(crate) claims: BTreeMap<(String, String), ClaimFacts>,
    /// Claims that pods name and that do not exist.
    pub(crate) absent_claims: BTreeSet<(String, String)>,
    /// Disks, by name: whether they are directories of a node.
    pub(crate) disks: BTreeMap<String, bool>,
}

impl Facts {
    /// Notes what matters of an object. `item`: it is in the backup. Fails when it has no sensible
    /// form.
    pub(crate) fn note(
        &mut self,
        resource: &str,
        object: &Value,
        item: bool,
    ) -> Result<(), String> {
        match resource {
            "pods" if item => {
                let pod: Pod = parse(object)?;
                let facts = pod_facts(&pod);
                self.pods
                    .insert((facts.namespace.clone(), facts.name.clone()), facts);
            }
            "persistentvolumeclaims" => {
                let claim: PersistentVolumeClaim = parse(object)?;
                let key = (claim.namespace().unwrap_or_default(), claim.name_any());
                let mut facts = claim_facts(&claim, has_exclude_label(object));
                facts.item = item || self.claims.get(&key).is_some_and(|known| known.item);
                self.claims.insert(key, facts);
            }
            "persistentvolumes" => {
                let disk: PersistentVolume = parse(object)?;
                let host_path = disk
                    .spec
                    .as_ref()
                    .is_some_and(|spec| spec.host_path.is_some());
                self.disks.insert(disk.name_any(), host_path);
            }
            _ => {}
        }
        Ok(())
    }

    /// Claims that pods name and nothing is known of.
    pub(crate) fn unknown_claims(&self) -> Vec<(String, String)> {
        let mut unknown: Vec<_> = self
            .pods
            .values()
            .flat_map(|pod| {
                pod.volumes
                    .iter()
                    .filter_map(|volume| match &volume.source {
                        Source::Claim(claim) => Some((pod.namespace.clone(), claim.clone())),
                        _ => None,
                    })
            })
            .filter(|key| !self.claims.contains_key(key))
            .collect();
        unknown.sort();
        unknown.dedup();
        unknown
    }

    /// Disks that claims are bound to and nothing is known of.
    pub(crate) fn unknown_disks(&self) -> Vec<String> {
        let mut unknown: Vec<_> = self
            .claims
            .values()
            .filter_map(|claim| claim.disk.clone())
            .filter(|disk| !self.disks.contains_key(disk))
            .collect();
        unknown.sort();
        unknown.dedup();
        unknown
    }

    /// Whether a claim's disk is a directory of a node.
    pub(crate) fn on_host_path(&self, claim: &ClaimFacts) -> bool {
        let disk = claim.disk.as_ref().and_then(|disk| self.disks.get(disk));
        disk.copied().unwrap_or_default()
    }
}

fn parse<T: serde::de::DeserializeOwned>(object: &Value) -> Result<T, String> {
    T::deserialize(object).map_err(|error| error.to_string())
}

fn pod_facts(pod: &Pod) -> PodFacts {
    let annotations = pod.annotations();
    let list = |key: &str| get(annotations, key).map(names).unwrap_or_default();
    let spec = pod.spec.as_ref();
    let name = pod.name_any();
    let volumes = spec.and_then(|spec| spec.volumes.as_ref());
    PodFacts {
        namespace: pod.namespace().unwrap_or_default(),
        uid: pod.uid().unwrap_or_default(),
        node: spec
            .and_then(|spec| spec.node_name.clone())
            .filter(|node| !node.is_empty()),
        phase: pod
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default(),
        leaving: pod.metadata.deletion_timestamp.is_some(),
        owner: owner::of(pod),
        included: list(BACKUP_VOLUMES),
        excluded: list(BACKUP_VOLUMES_EXCLUDES),
        hooks: annotations
            .keys()
            .any(|key| HOOK_PREFIXES.iter().any(|prefix| key.starts_with(prefix))),
        volumes: volumes
            .into_iter()
            .flatten()
            .map(|volume| pod_volume(pod, &name, volume))
            .collect(),
        name,
    }
}

fn pod_volume(pod: &Pod, pod_name: &str, volume: &Volume) -> PodVolume {
    let (mounts, devices) = uses(pod);
    PodVolume {
        mounted: mounts.contains(&volume.name.as_str()),
        device: devices.contains(&volume.name.as_str()),
        source: source(pod_name, volume),
        name: volume.name.clone(),
    }
}

/// Names of the volumes that containers mount, and of those they use as devices.
fn uses(pod: &Pod) -> (Vec<&str>, Vec<&str>) {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    });
    let (mut mounts, mut devices) = (Vec::new(), Vec::new());
    for container in containers {
        mounts.extend(
            container
                .volume_mounts
                .iter()
                .flatten()
                .map(|mount| mount.name.as_str()),
        );
        devices.extend(
            container
                .volume_devices
                .iter()
                .flatten()
                .map(|device| device.name.as_str()),
        );
    }
    (mounts, devices)
}

fn source(pod: &str, volume: &Volume) -> Source {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Source::Claim(claim.claim_name.clone());
    }
    if volume.ephemeral.is_some() {
        return Source::Claim(format!("{pod}-{}", volume.name));
    }
    if volume.empty_dir.is_some() {
        // The gate of an earlier restore holds nothing of the application's.
        let gate = volume.name == ark_api::naming::GATE_VOLUME;
        return if gate {
            Source::NotData
        } else {
            Source::Scratch
        };
    }
    if volume.host_path.is_some() {
        return Source::HostPath;
    }
    let not_data = volume.secret.is_some()
        || volume.config_map.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
        || volume.image.is_some();
    if not_data {
        Source::NotData
    } else {
        Source::Other
    }
}

fn claim_facts(claim: &PersistentVolumeClaim, excluded: bool) -> ClaimFacts {
    let spec = claim.spec.as_ref();
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    ClaimFacts {
        uid: claim.uid().unwrap_or_default(),
        bound: phase == Some("Bound"),
        disk: spec
            .and_then(|spec| spec.volume_name.clone())
            .filter(|disk| !disk.is_empty()),
        block: spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block"),
        excluded,
        item: false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_claims_and_disks() {
        let mut facts = Facts::default();
        let pod = json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u",
                "annotations": {
                    "backup.velero.io/backup-volumes": "data, tmp",
                    "pre.hook.backup.velero.io/command": "sync",
                },
            },
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "c", "volumeMounts": [{"name": "data", "mountPath": "/d"}],
                    "volumeDevices": [{"name": "raw", "devicePath": "/dev/x"}]}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "raw", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
                    {"name": "tmp", "emptyDir": {}},
                    {"name": "log", "hostPath": {"path": "/var/log"}},
                    {"name": "token", "projected": {"sources": []}},
                    {"name": "share", "nfs": {"server": "s", "path": "/"}},
                    {"name": "ark-restore-gate", "emptyDir": {}},
                ],
            },
            "status": {"phase": "Running"},
        });
        facts.note("pods", &pod, true).unwrap();
        let web = &facts.pods[&("shop".to_owned(), "web".to_owned())];
        assert_eq!(web.included, ["data", "tmp"]);
        assert!(web.hooks);
        let sources: Vec<_> = web.volumes.iter().map(|v| v.source.clone()).collect();
        assert_eq!(
            sources,
            [
                Source::Claim("claim".to_owned()),
                Source::Claim("web-raw".to_owned()),
                Source::Scratch,
                Source::HostPath,
                Source::NotData,
                Source::Other,
                Source::NotData,
            ]
        );
        assert!(web.volumes[0].mounted && web.volumes[1].device && !web.volumes[2].mounted);
        assert_eq!(facts.unknown_claims().len(), 2);

        let claim = json!({
            "metadata": {"name": "claim", "namespace": "shop", "labels": {"ark.heptio.com/exclude-from-backup": "true"}},
            "spec": {"volumeName": "pv1", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound"},
        });
        facts.note("persistentvolumeclaims", &claim, false).unwrap();
        let known = facts.claims[&("shop".to_owned(), "claim".to_owned())].clone();
        assert!(known.bound && known.excluded && !known.block && !known.item);
        assert_eq!(facts.unknown_disks(), ["pv1"]);
        let disk = json!({"metadata": {"name": "pv1"}, "spec": {"hostPath": {"path": "/x"}}});
        facts.note("persistentvolumes", &disk, true).unwrap();
        assert!(facts.on_host_path(&known));
    }

    #[test]
    fn an_object_of_no_sensible_form_is_an_error() {
        let pod = json!({"metadata": {"name": "x"}, "spec": {"containers": "none"}});
        assert!(Facts::default().note("pods", &pod, true).is_err());
    }
}
