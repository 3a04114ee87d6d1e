//! Nodes and pods that exist only on paper, with directories as a kubelet makes them.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Node as KubeNode, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::Ark;
use crate::node::{pod_kubeconfig, until};

impl Ark {
    /// A node, with the pod of an agent that is running and ready, but no process.
    pub async fn node(&self, name: &str) -> String {
        let name = format!("{name}-{}", self.namespace);
        let node: KubeNode = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api = Api::<KubeNode>::all(self.client.clone());
        api.create(&PostParams::default(), &node).await.unwrap();
        let pod = json!({
            "metadata": {"name": format!("agent-{name}"), "labels": {"app.kubernetes.io/component": "agent"}},
            "spec": {"nodeName": name, "serviceAccountName": "ark-agent", "containers": [{"name": "agent", "image": "none"}]},
        });
        let api = self.api::<Pod>();
        let pod = self.make_pod(&api, pod).await.name_any();
        let account = &self.agent_kubeconfig;
        pod_kubeconfig(
            &self.client,
            &self.namespace,
            &pod,
            account,
            self.dir.path(),
        )
        .await;
        name
    }

    async fn make_pod(&self, api: &Api<Pod>, pod: Value) -> Pod {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        // The controller manager makes the namespace's service account in its own time.
        let pod = until("creation of a pod", async || {
            match api.create(&PostParams::default(), &pod).await {
                Ok(pod) => Some(pod),
                Err(kube::Error::Api(error)) if error.code == 403 => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "startTime": "2026-01-01T00:00:00Z"}});
        self.pod_status(api, &pod, &status).await
    }

    async fn pod_status(&self, api: &Api<Pod>, pod: &Pod, status: &Value) -> Pod {
        let patch = Patch::Strategic(status);
        api.patch_status(&pod.name_any(), &PatchParams::default(), &patch)
            .await
            .unwrap()
    }

    /// The kubelet's `pods` directory.
    pub fn pods_dir(&self) -> PathBuf {
        self.dir.path().join("pods")
    }

    /// A running pod of the application whose container mounts every volume.
    pub async fn pod(&self, name: &str, node: &str, annotations: Value, volumes: Value) -> Pod {
        self.pod_in(&self.shop, name, node, annotations, volumes)
            .await
    }

    /// A running pod of any namespace whose container mounts every volume.
    pub async fn pod_in(
        &self,
        namespace: &str,
        name: &str,
        node: &str,
        annotations: Value,
        volumes: Value,
    ) -> Pod {
        let mounts: Vec<Value> = volumes
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| json!({"name": volume["name"], "mountPath": format!("/mnt/{}", volume["name"].as_str().unwrap())}))
            .collect();
        let pod = json!({
            "metadata": {"name": name, "annotations": annotations, "labels": {"app": name}},
            "spec": {
                "nodeName": node,
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "none", "volumeMounts": mounts}],
                "volumes": volumes,
            },
        });
        let api = Api::namespaced(self.client.clone(), namespace);
        let pod = self.make_pod(&api, pod).await;
        std::fs::create_dir_all(self.pods_dir().join(pod.uid().unwrap()).join("volumes")).unwrap();
        pod
    }

    /// A claim of the application that is bound to a volume of its own.
    pub async fn bound_claim(&self, name: &str) -> PersistentVolumeClaim {
        let disk_name = format!("{name}-{}", self.namespace);
        let disk: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": disk_name},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "none",
                "claimRef": {"namespace": self.shop, "name": name},
                "nfs": {"server": "192.0.2.1", "path": "/"}},
        }))
        .unwrap();
        let api = Api::<PersistentVolume>::all(self.client.clone());
        api.create(&PostParams::default(), &disk).await.unwrap();
        self.put::<PersistentVolumeClaim>(json!({
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "none", "volumeName": disk_name,
                "resources": {"requests": {"storage": "1Gi"}}},
        }))
        .await;
        let api = self.shop::<PersistentVolumeClaim>();
        until("the claim to be bound", async || {
            let found = api.get(name).await.unwrap();
            let phase = found.status.as_ref()?.phase.clone()?;
            (phase == "Bound").then_some(found)
        })
        .await
    }

    /// Writes the status of a pod of the application.
    pub async fn set_pod_status(&self, pod: &Pod, status: Value) {
        self.pod_status(&self.shop::<Pod>(), pod, &json!({"status": status}))
            .await;
    }

    /// Writes the status of a pod in Ark's namespace.
    pub async fn set_own_pod_status(&self, pod: &Pod, status: Value) {
        self.pod_status(&self.api::<Pod>(), pod, &json!({"status": status}))
            .await;
    }

    /// The directory of an emptyDir, made as a kubelet makes it.
    pub fn empty_dir(&self, pod: &Pod, volume: &str) -> PathBuf {
        let dir = self
            .pods_dir()
            .join(pod.uid().unwrap())
            .join("volumes/kubernetes.io~empty-dir")
            .join(volume);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
