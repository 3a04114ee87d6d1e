//! What an agent may write: the status of the volume objects of its own node, and nothing of
//! another's.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use ark_api::PodVolumeBackup;
use ark_tests::node::{AGENT, Node, until};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;

async fn client(path: &std::path::Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_writes_the_status_of_its_own_nodes_objects_only() {
    let node = Node::new().await;
    let (pod, _dir) = node.pod_with_empty_dir("web", "html").await;
    node.create(node.backup("own", &pod, "html")).await;
    let mut other = node.backup("other", &pod, "html");
    other.spec.node = "another-node".to_owned();
    node.create(other).await;
    let mut restore = node.restore("other", &pod, "html", "0123456789");
    restore.spec.node = "another-node".to_owned();
    node.create(restore).await;

    let agent = client(node.agent_kubeconfig()).await;
    let backups = Api::<PodVolumeBackup>::namespaced(agent.clone(), &node.namespace);
    let restores = Api::<ark_api::PodVolumeRestore>::namespaced(agent, &node.namespace);
    let params = PatchParams::default();
    let done =
        Patch::Merge(json!({"status": {"phase": "Completed", "snapshotID": "a".repeat(64)}}));
    // The policy is in force a moment after it was made.
    let refused = until("refusal", async || {
        let patched = backups.patch_status("other", &params, &done).await;
        patched.err()
    })
    .await
    .to_string();
    assert!(
        refused.contains("its own node") && refused.contains(&node.name),
        "{refused}"
    );
    let refused = restores.patch_status("other", &params, &done).await;
    assert!(refused.unwrap_err().to_string().contains("its own node"));
    let mut whole = backups.get("other").await.unwrap();
    whole.status.get_or_insert_default().message = Some("forged".to_owned());
    let refused = backups
        .replace_status("other", &PostParams::default(), &whole)
        .await;
    assert!(refused.unwrap_err().to_string().contains("its own node"));
    let own = backups.patch_status("own", &params, &done).await.unwrap();
    assert!(own.status.unwrap().snapshot_id.is_some());

    // A token that names no node, as of somebody who may ask for tokens of the account, is good for
    // none.
    let nobody = client(node.account_kubeconfig()).await;
    let backups = Api::<PodVolumeBackup>::namespaced(nobody, &node.namespace);
    for name in ["own", "other"] {
        let refused = backups.patch_status(name, &params, &done).await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("its own node"),
            "{AGENT} {name}: {refused}"
        );
    }
    // The operator and people are not meant.
    node.patch_status::<PodVolumeBackup>("other", &json!({"status": {"phase": "Failed"}}))
        .await;
}
