//! A restore with a volume into a namespace that is not there. The test plays the scheduler, the
//! kubelet and the agent.

use ark_api::backup::BackupPhase;
use ark_api::restore::RestorePhase;
use ark_api::{PodVolumeRestore, Restore, env, layout};
use ark_tests::ark::Ark;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::{Scenario, application, installation, play};

struct Restored {
    node: String,
}

/// The namespace that a restore restores into.
fn target(ark: &Ark, name: &str) -> String {
    format!("{}-{name}", ark.shop)
}

fn pods(client: &Client, namespace: &str) -> Api<Pod> {
    Api::namespaced(client.clone(), namespace)
}

async fn fills(ark: &Ark, name: &str) -> Vec<PodVolumeRestore> {
    let params = ListParams::default().labels(&format!("ark.heptio.com/restore-name={name}"));
    let list = ark.api::<PodVolumeRestore>().list(&params).await;
    list.unwrap().items
}

impl Restored {
    /// Has every pod of a namespace on the node.
    async fn schedule(&self, pods: &Api<Pod>, namespace: &str) {
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            if pod.spec.as_ref().unwrap().node_name.is_some() {
                continue;
            }
            let binding = json!({"apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": pod.name_any(), "namespace": namespace},
                "target": {"apiVersion": "v1", "kind": "Node", "name": self.node}});
            let bound: kube::Result<Value> = pods
                .create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding)
                .await;
            bound.unwrap();
        }
    }
}

impl Scenario for Restored {
    const NAME: &'static str = "restore";
    const WRITES: u64 = 15;

    async fn prepare(&mut self, _ark: &mut Ark, _name: &str) {}

    async fn begin(&mut self, ark: &mut Ark, name: &str) {
        let spec = json!({"backupName": "kept",
            "namespaceMapping": {ark.shop.clone(): target(ark, name)}});
        let spec = serde_json::from_value(spec).unwrap();
        ark.create(Restore::new(name, spec)).await;
    }

    async fn ended(&mut self, ark: &Ark, name: &str) -> bool {
        let namespace = target(ark, name);
        let pods = pods(&ark.client, &namespace);
        self.schedule(&pods, &namespace).await;
        for fill in fills(ark, name).await {
            let phase = fill.status.as_ref().and_then(|status| status.phase);
            if phase.unwrap_or_default().is_terminal() {
                continue;
            }
            let done = json!({"status": {"phase": "Completed",
                "progress": {"totalBytes": 5, "bytesDone": 5, "filesDone": 1}}});
            let params = PatchParams::default();
            ark.api::<PodVolumeRestore>()
                .patch_status(&fill.name_any(), &params, &Patch::Merge(done))
                .await
                .unwrap();
            let gate = json!({"status": {"initContainerStatuses": [{
                "name": "ark-restore-wait", "image": "none", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]}});
            pods.patch_status(&fill.spec.pod.name, &params, &Patch::Merge(gate))
                .await
                .unwrap();
        }
        let status = ark.api::<Restore>().get(name).await.unwrap().status;
        let phase = status.and_then(|status| status.phase);
        phase.is_some_and(RestorePhase::is_terminal)
    }

    async fn check(&mut self, ark: &Ark, name: &str) {
        let status = ark.api::<Restore>().get(name).await.unwrap().status;
        let status = status.unwrap();
        assert_eq!(
            status.phase,
            Some(RestorePhase::Completed),
            "{name}: {status:#?}\n{}",
            ark.tail()
        );
        let namespace = target(ark, name);
        let pods = pods(&ark.client, &namespace);
        assert_eq!(
            pods.list(&ListParams::default()).await.unwrap().items.len(),
            1
        );
        let maps = Api::<ConfigMap>::namespaced(ark.client.clone(), &namespace);
        assert!(maps.get_opt("settings").await.unwrap().is_some());
        assert_eq!(fills(ark, name).await.len(), 1);
        for path in [layout::restore_results(name), layout::restore_logs(name)] {
            assert!(ark.bucket().join(&path).exists(), "{path}");
        }
        ark.repository_is_clean(&ark.shop).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_ends_the_same_wherever_the_operator_is_killed() {
    let mut ark = installation(&[(env::RESTORE_WAIT_IMAGE, "none")]).await;
    application(&mut ark).await;
    ark.put::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"a": "b"}}))
        .await;
    ark.backup("kept", json!({})).await;
    ark.ended("kept", BackupPhase::Completed).await;
    // Nobody's process may fill volumes on this node.
    let node = ark.node("paper").await;
    play(&mut ark, Restored { node }).await;
}
