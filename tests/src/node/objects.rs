//! What lives on a simulated node: pods with the directories a kubelet would have made, and the
//! volume objects that order their backup and restore.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use std::path::PathBuf;
use std::process::Command;

use ark_api::naming::{self, tag};
use ark_api::pod_volume_backup::{ClaimReference, PodReference, PodVolumeBackupSpec, VolumePhase};
use ark_api::pod_volume_restore::PodVolumeRestoreSpec;
use ark_api::{PodVolumeBackup, PodVolumeRestore};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use xtask::exec;

use super::{LOCATION, Node, REPOSITORY, until};

impl Node {
    /// A pod of this node: bound, and with the directory that a kubelet would have made. `status`
    /// is what the kubelet would have written.
    pub async fn pod(&self, name: &str, volumes: Value, status: Value) -> Pod {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.shop);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "nodeName": self.name,
                "automountServiceAccountToken": false,
                "initContainers": [{"name": naming::GATE_CONTAINER, "image": "none"}],
                "containers": [{"name": "main", "image": "none"}],
                "volumes": volumes,
            },
        }))
        .unwrap();
        // The controller manager makes the namespace's service account in its own time.
        let params = PostParams::default();
        let pod = until("creation of the pod", async || {
            match pods.create(&params, &pod).await {
                Ok(pod) => Some(pod),
                Err(kube::Error::Api(error)) if error.code == 403 => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        std::fs::create_dir_all(self.pod_dir(&pod).join("volumes")).unwrap();
        self.pod_status(&pod, status).await
    }

    /// Writes the status of a pod.
    pub async fn pod_status(&self, pod: &Pod, status: Value) -> Pod {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.shop);
        let params = PatchParams::default();
        let patch = Patch::Merge(json!({ "status": status }));
        pods.patch_status(&pod.name_any(), &params, &patch)
            .await
            .unwrap()
    }

    /// Removes a pod at once, as a kubelet does at the end of its deletion.
    pub async fn delete_pod(&self, pod: &Pod) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.shop);
        let now = DeleteParams::default().grace_period(0);
        pods.delete(&pod.name_any(), &now).await.unwrap();
    }

    /// A running pod with one emptyDir, and that directory.
    pub async fn pod_with_empty_dir(&self, name: &str, volume: &str) -> (Pod, PathBuf) {
        let volumes = json!([{"name": volume, "emptyDir": {}}]);
        let pod = self.pod(name, volumes, json!({"phase": "Running"})).await;
        let dir = self.empty_dir(&pod, volume);
        (pod, dir)
    }

    /// A restored pod whose gate runs, with one emptyDir, and the directories of volume and gate.
    pub async fn gated_pod(&self, name: &str, volume: &str) -> (Pod, PathBuf, PathBuf) {
        let volumes = json!([
            {"name": volume, "emptyDir": {}},
            {"name": naming::GATE_VOLUME, "emptyDir": {}},
        ]);
        let pod = self.pod(name, volumes, gate_runs()).await;
        let dir = self.empty_dir(&pod, volume);
        let gate = self.empty_dir(&pod, naming::GATE_VOLUME);
        (pod, dir, gate)
    }

    /// The directory of a pod.
    pub fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.pods_dir().join(pod.uid().unwrap())
    }

    /// The directory of an emptyDir, made as a kubelet makes it.
    pub fn empty_dir(&self, pod: &Pod, volume: &str) -> PathBuf {
        let dir = self.pod_dir(pod).join("volumes/kubernetes.io~empty-dir");
        let dir = dir.join(volume);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Mounts a directory at `below` the pod's volumes, as a kubelet mounts a claim. Needs root.
    pub fn mount(&mut self, pod: &Pod, below: &str) -> PathBuf {
        let source = self.scratch(&below.replace('/', "-"));
        let target = self.pod_dir(pod).join("volumes").join(below);
        std::fs::create_dir_all(&target).unwrap();
        exec::output(Command::new("mount").arg("--bind").arg(source).arg(&target)).unwrap();
        self.mounts.push(target.clone());
        target
    }

    /// The reference to a pod that volume objects carry.
    pub fn reference(pod: &Pod) -> PodReference {
        PodReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        }
    }

    /// A backup of a volume, not created yet.
    pub fn backup(&self, name: &str, pod: &Pod, volume: &str) -> PodVolumeBackup {
        let tags = [
            (tag::NAMESPACE, "shop"),
            (tag::OWNER, "deployment/web"),
            (tag::VOLUME, volume),
        ];
        let spec = PodVolumeBackupSpec {
            node: self.name.clone(),
            pod: Self::reference(pod),
            volume: volume.to_owned(),
            backup_storage_location: LOCATION.to_owned(),
            repository: REPOSITORY.to_owned(),
            tags: tags
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            snapshot_path: format!("/shop/web/{volume}"),
            ..PodVolumeBackupSpec::default()
        };
        PodVolumeBackup::new(name, spec)
    }

    /// The same of a claim bound to the PersistentVolume `pv`.
    pub fn claim_backup(&self, name: &str, pod: &Pod, volume: &str, pv: &str) -> PodVolumeBackup {
        let mut backup = self.backup(name, pod, volume);
        backup.spec.claim = Some(claim(pv));
        backup
    }

    /// A restore of a volume, not created yet.
    pub fn restore(&self, name: &str, pod: &Pod, volume: &str, snapshot: &str) -> PodVolumeRestore {
        let spec = PodVolumeRestoreSpec {
            node: self.name.clone(),
            pod: Self::reference(pod),
            volume: volume.to_owned(),
            backup_storage_location: LOCATION.to_owned(),
            repository: REPOSITORY.to_owned(),
            snapshot_id: snapshot.to_owned(),
            source_namespace: "shop".to_owned(),
            ..PodVolumeRestoreSpec::default()
        };
        PodVolumeRestore::new(name, spec)
    }

    /// Waits until a backup has an end.
    pub async fn ended(&self, name: &str) -> PodVolumeBackup {
        let api = self.api::<PodVolumeBackup>();
        until(
            &format!("end of backup {name}\n{}", self.log()),
            async || {
                let found = api.get(name).await.unwrap();
                let phase = found.status.as_ref().and_then(|s| s.phase);
                phase.is_some_and(VolumePhase::is_terminal).then_some(found)
            },
        )
        .await
    }

    /// Waits until a restore has an end.
    pub async fn restored(&self, name: &str) -> PodVolumeRestore {
        let api = self.api::<PodVolumeRestore>();
        until(&format!("end of restore {name}"), async || {
            let found = api.get(name).await.unwrap();
            let phase = found.status.as_ref().and_then(|s| s.phase);
            phase.is_some_and(VolumePhase::is_terminal).then_some(found)
        })
        .await
    }
}

/// The reference to a claim bound to the PersistentVolume `pv`.
pub fn claim(pv: &str) -> ClaimReference {
    ClaimReference {
        name: "data".to_owned(),
        uid: "0000".to_owned(),
        volume_name: Some(pv.to_owned()),
    }
}

/// Status of a pod whose gate runs.
pub fn gate_runs() -> Value {
    json!({"phase": "Pending", "initContainerStatuses": [{
        "name": naming::GATE_CONTAINER, "image": "none", "imageID": "", "ready": false,
        "restartCount": 0, "started": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }]})
}
