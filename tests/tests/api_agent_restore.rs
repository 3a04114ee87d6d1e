//! Restores by the agent on a real API server: gates that stand, start late, are open, or are
//! several.

mod agent;

use std::fs;

use agent::{Phase, back_up, files, same_files};
use ark_api::pod_volume_restore::WhenNotEmpty;
use ark_api::{PodVolumeBackup, PodVolumeRestore};
use ark_tests::node::{Node, claim, gate_runs, until};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_restore_tells_the_gate_and_the_gate_its_pod() {
    let mut node = Node::new().await;
    let (pod, dir, gate) = node.gated_pod("web", "html").await;
    node.start_agent();
    node.create(node.restore("r", &pod, "html", "0123456789abcdef"))
        .await;
    let status = node.restored("r").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Failed));
    assert_eq!(status.reason.as_deref(), Some("SnapshotNotFound"));
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    let log = node.scratch("gate").join("termination-log");
    let program = ark_tests::node::program("ark-restore-wait");
    let ended = tokio::process::Command::new(program)
        .args(["--volumes", "html", "--deadline-seconds", "60", "--dir"])
        .arg(gate)
        .env("ARK_TERMINATION_LOG", &log)
        .status()
        .await
        .unwrap();
    assert_eq!(ended.code(), Some(1));
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains("0123456789abcdef"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_waits_for_the_gate_and_never_writes_past_it() {
    let mut node = Node::new().await;
    let (source, dir) = node.pod_with_empty_dir("source", "html").await;
    files(&dir);
    node.start_agent();
    let snapshot = back_up(&node, node.backup("b", &source, "html")).await;
    let snapshot = snapshot.snapshot_id.unwrap();

    let (late, target, gate) = node.gated_pod("late", "html").await;
    let image = json!({"phase": "Pending", "initContainerStatuses": [{
        "name": "ark-restore-wait", "image": "none", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff"}},
    }]});
    node.pod_status(&late, image).await;
    node.create(node.restore("late", &late, "html", &snapshot))
        .await;
    let api = node.api::<PodVolumeRestore>();
    until("words on what is waited for", async || {
        let status = api.get("late").await.unwrap().status?;
        let waits = status.reason.as_deref() == Some("GateNotStarted")
            && status.message?.contains("ImagePullBackOff");
        waits.then_some(())
    })
    .await;
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    node.pod_status(&late, gate_runs()).await;
    let status = node.restored("late").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Completed), "{:?}", status.message);
    same_files(&target);
    assert!(gate.join("html.done").exists());

    // The volume of an application that runs is left alone.
    let (open, target, gate) = node.gated_pod("open", "html").await;
    node.pod_status(&open, json!({"phase": "Running"})).await;
    node.create(node.restore("open", &open, "html", &snapshot))
        .await;
    let status = node.restored("open").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Failed));
    assert_eq!(status.reason.as_deref(), Some("GateOpen"));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    assert!(gate.join("html.failed").exists());

    // So is one that was restored before, whatever became of the status.
    let (done, target, gate) = node.gated_pod("done", "html").await;
    fs::write(gate.join("html.done"), "").unwrap();
    node.create(node.restore("done", &done, "html", &snapshot))
        .await;
    let status = node.restored("done").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Completed));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_on_one_claim_are_both_told() {
    let mut node = Node::new().await;
    let (source, dir) = node.pod_with_empty_dir("source", "data").await;
    files(&dir);
    node.start_agent();
    let snapshot = back_up(&node, node.backup("b", &source, "data")).await;
    let snapshot = snapshot.snapshot_id.unwrap();
    let volumes = json!([
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "ark-restore-gate", "emptyDir": {}},
    ]);
    let gated = async |node: &Node, name: &str, status| -> Pod {
        node.pod(name, volumes.clone(), status).await
    };
    let one = gated(&node, "one", gate_runs()).await;
    let gate_of_one = node.empty_dir(&one, "ark-restore-gate");
    let target = node.mount(&one, "kubernetes.io~local-volume/pv-1");
    // The other pod's directories come later.
    let other = gated(&node, "other", json!({"phase": "Pending"})).await;
    let mut restore = node.restore("r", &one, "data", &snapshot);
    restore.spec.claim = Some(claim("pv-1"));
    restore.spec.gates = vec![Node::reference(&other)];
    node.create(restore).await;
    until("first gate", async || {
        gate_of_one.join("data.done").exists().then_some(())
    })
    .await;
    same_files(&target);
    let gate_of_other = node.empty_dir(&other, "ark-restore-gate");
    node.pod_status(&other, gate_runs()).await;
    let status = node.restored("r").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Completed), "{:?}", status.message);
    assert!(gate_of_other.join("data.done").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_holds_files_is_not_filled_unasked() {
    let mut node = Node::new().await;
    let (source, dir) = node.pod_with_empty_dir("source", "html").await;
    files(&dir);
    node.start_agent();
    let snapshot = back_up(&node, node.backup("b", &source, "html")).await;
    let snapshot = snapshot.snapshot_id.unwrap();
    for (name, policy, begun, phase, reason, filled) in [
        (
            "fail",
            WhenNotEmpty::Fail,
            false,
            Phase::Failed,
            Some("VolumeNotEmpty"),
            false,
        ),
        (
            "keep",
            WhenNotEmpty::Keep,
            false,
            Phase::Completed,
            Some("VolumeNotEmpty"),
            false,
        ),
        (
            "fill",
            WhenNotEmpty::Fill,
            false,
            Phase::Completed,
            None,
            true,
        ),
        // An attempt that ended half way found it empty.
        (
            "begun",
            WhenNotEmpty::Fail,
            true,
            Phase::Completed,
            None,
            true,
        ),
    ] {
        let (pod, target, gate) = node.gated_pod(name, "html").await;
        fs::write(target.join("mine"), "precious").unwrap();
        let mut restore = node.restore(name, &pod, "html", &snapshot);
        restore.spec.when_not_empty = policy;
        // Nobody's node until its status says what an earlier attempt found.
        restore.spec.node = "elsewhere".to_owned();
        node.create(restore).await;
        if begun {
            let empty = json!({"status": {"conditions": [{"type": "TargetEmpty", "status": "True", "reason": "OK",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            node.patch_status::<PodVolumeRestore>(name, &empty).await;
        }
        let here = json!({"spec": {"node": node.name}});
        let api = node.api::<PodVolumeRestore>();
        api.patch(name, &PatchParams::default(), &Patch::Merge(here))
            .await
            .unwrap();
        let status = node.restored(name).await.status.unwrap();
        assert_eq!(status.phase, Some(phase), "{name}: {:?}", status.message);
        assert_eq!(status.reason.as_deref(), reason, "{name}");
        assert_eq!(fs::read_to_string(target.join("mine")).unwrap(), "precious");
        assert_eq!(target.join("index.html").exists(), filled, "{name}");
        let done = phase == Phase::Completed;
        assert_eq!(gate.join("html.done").exists(), done, "{name}");
        assert_eq!(gate.join("html.failed").exists(), !done, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_what_runs_tells_its_gate_and_leaves_what_is_finished() {
    let mut node = Node::new().await;
    let (source, dir) = node.pod_with_empty_dir("source", "html").await;
    files(&dir);
    node.start_agent();
    let taken = back_up(&node, node.backup("b", &source, "html")).await;
    let snapshot = taken.snapshot_id.clone().unwrap();
    let (late, target, gate) = node.gated_pod("late", "html").await;
    let image = json!({"phase": "Pending", "initContainerStatuses": [{
        "name": "ark-restore-wait", "image": "none", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff"}},
    }]});
    node.pod_status(&late, image).await;
    node.create(node.restore("late", &late, "html", &snapshot))
        .await;
    let restores = node.api::<PodVolumeRestore>();
    until("a restore that waits", async || {
        let status = restores.get("late").await.unwrap().status?;
        (status.reason.as_deref() == Some("GateNotStarted")).then_some(())
    })
    .await;
    let backups = node.api::<PodVolumeBackup>();
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    let params = PatchParams::default();
    backups.patch("b", &params, &cancel).await.unwrap();
    restores.patch("late", &params, &cancel).await.unwrap();
    let status = node.restored("late").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Canceled), "{:?}", status.message);
    assert!(gate.join("html.failed").exists());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    // The agent has seen both changes by now, in whatever order.
    back_up(&node, node.backup("after", &source, "html")).await;
    let finished = backups.get("b").await.unwrap().status.unwrap();
    assert_eq!(finished, taken);
}
