//! The agent on a real API server: a simulated node, real files, a real repository, and the rights of
//! the chart's roles.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use ark_api::origin::Origin;
use ark_api::pod_volume_backup::{PodVolumeBackupStatus, VolumePhase};
use ark_api::{BackupStorageLocation, PodVolumeBackup, PodVolumeRestore};
use ark_tests::node::{LOCATION, Node, claim, until};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

type Phase = VolumePhase;

/// Creates a backup and waits for its end.
async fn back_up(node: &Node, backup: PodVolumeBackup) -> PodVolumeBackupStatus {
    let name = backup.name_any();
    node.create(backup).await;
    node.ended(&name).await.status.unwrap()
}

fn said(status: &PodVolumeBackupStatus) -> (Phase, &str) {
    (
        status.phase.unwrap(),
        status.reason.as_deref().unwrap_or_default(),
    )
}

fn files(dir: &Path) {
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("index.html"), "hello").unwrap();
    fs::write(dir.join("sub/data"), vec![7; 100_000]).unwrap();
    fs::set_permissions(dir.join("sub/data"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(dir.join("sub/data"), Some(1234), Some(4321)).unwrap();
    std::os::unix::fs::symlink("index.html", dir.join("link")).unwrap();
}

fn same_files(dir: &Path) {
    assert_eq!(fs::read_to_string(dir.join("index.html")).unwrap(), "hello");
    let data = dir.join("sub/data");
    assert_eq!(fs::read(&data).unwrap(), vec![7; 100_000]);
    let metadata = fs::metadata(&data).unwrap();
    let seen = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    assert_eq!(seen, (0o640, 1234, 4321));
    assert_eq!(
        fs::read_link(dir.join("link")).unwrap(),
        Path::new("index.html")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_stored_and_come_back_and_the_gate_opens() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web-1", "html").await;
    files(&dir);
    node.start_agent();
    let first = back_up(&node, node.backup("b1", &pod, "html")).await;
    assert_eq!(said(&first), (Phase::Completed, ""), "{:?}", first.message);
    let snapshot = first.snapshot_id.unwrap();
    assert_eq!(snapshot.len(), 64);
    assert_eq!(first.attempt, Some(1));
    assert!(first.accepted_timestamp.is_some() && first.completion_timestamp.is_some());
    let progress = first.progress.unwrap();
    assert_eq!(
        (progress.bytes_done, progress.total_bytes),
        (100_005, 100_005)
    );
    assert!(
        first
            .path
            .unwrap()
            .ends_with("kubernetes.io~empty-dir/html")
    );

    // Another pod of the same workload goes on where the first one left.
    let (second_pod, second_dir) = node.pod_with_empty_dir("web-2", "html").await;
    files(&second_dir);
    let second = back_up(&node, node.backup("b2", &second_pod, "html")).await;
    assert_eq!(second.parent_snapshot_id.as_ref(), Some(&snapshot));

    // A restore by the first eight digits of the id.
    let (restored, target, gate) = node.gated_pod("web-3", "html").await;
    let order = node.restore("r1", &restored, "html", &snapshot[..8]);
    node.create(order).await;
    let status = node.restored("r1").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Completed), "{:?}", status.message);
    same_files(&target);
    assert!(gate.join("html.done").exists());

    let (code, metrics) = node.http("/metrics").await;
    assert_eq!(code, 200);
    let line = "ark_agent_volumes_total{kind=\"backup\",phase=\"Completed\"} 2";
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_must_be_mounted() {
    let mut node = Node::new().await;
    let volumes = json!([
        {"name": "local", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "csi", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "unmounted", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "missing", "persistentVolumeClaim": {"claimName": "data"}},
    ]);
    let pod = node.pod("web", volumes, json!({"phase": "Running"})).await;
    files(&node.mount(&pod, "kubernetes.io~local-volume/pv-local"));
    files(&node.mount(&pod, "kubernetes.io~csi/pv-csi/mount"));
    let bare = node
        .pod_dir(&pod)
        .join("volumes/kubernetes.io~csi/pv-bare/mount");
    fs::create_dir_all(bare).unwrap();
    node.start_agent();
    for (volume, pv) in [("local", "pv-local"), ("csi", "pv-csi")] {
        let status = back_up(&node, node.claim_backup(volume, &pod, volume, pv)).await;
        assert_eq!(
            said(&status),
            (Phase::Completed, ""),
            "{:?}",
            status.message
        );
        assert_eq!(status.files, Some(3));
    }
    let status = back_up(
        &node,
        node.claim_backup("bare", &pod, "unmounted", "pv-bare"),
    )
    .await;
    assert_eq!(said(&status), (Phase::Failed, "VolumeNotMounted"));
    let message = status.message.unwrap();
    assert!(message.contains("HostToContainer"), "{message}");
    let status = back_up(&node, node.claim_backup("gone", &pod, "missing", "pv-none")).await;
    assert_eq!(said(&status), (Phase::Failed, "VolumeNotFound"));
    let unbound = node.backup("unbound", &pod, "local");
    assert_eq!(
        said(&back_up(&node, unbound).await),
        (Phase::Failed, "ClaimNotBound")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_and_volumes_that_are_not_there_end_in_words() {
    let mut node = Node::new().await;
    let (pod, _) = node.pod_with_empty_dir("web", "html").await;
    let (done, _) = node.pod_with_empty_dir("job", "html").await;
    node.pod_status(&done, json!({"phase": "Succeeded"})).await;
    let volumes = json!([{"name": "never-made", "emptyDir": {}}]);
    let bare = node.pod("bare", volumes, json!({"phase": "Running"})).await;
    node.start_agent();

    let status = back_up(&node, node.backup("typo", &pod, "htlm")).await;
    assert_eq!(said(&status), (Phase::Failed, "NoSuchVolume"));
    let message = status.message.unwrap();
    assert!(
        message.contains("htlm") && message.contains("it has: html"),
        "{message}"
    );

    let status = back_up(&node, node.backup("bare", &bare, "never-made")).await;
    assert_eq!(said(&status), (Phase::Failed, "VolumeNotFound"));
    let status = back_up(&node, node.backup("job", &done, "html")).await;
    assert_eq!(said(&status), (Phase::Failed, "PodNotRunning"));

    let mut other_uid = node.backup("other-uid", &pod, "html");
    other_uid.spec.pod.uid = "11111111-2222-3333-4444-555555555555".to_owned();
    assert_eq!(
        said(&back_up(&node, other_uid).await),
        (Phase::Failed, "PodGone")
    );
    node.delete_pod(&pod).await;
    let status = back_up(&node, node.backup("gone", &pod, "html")).await;
    assert_eq!(said(&status), (Phase::Failed, "PodGone"));

    let mut path = node.backup("path", &bare, "never-made");
    path.spec.volume = "../../../etc".to_owned();
    assert_eq!(
        said(&back_up(&node, path).await),
        (Phase::Failed, "InvalidSpec")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_locations_that_do_not_fit_end_in_words() {
    let mut node = Node::new().await;
    let (pod, _) = node.pod_with_empty_dir("web", "html").await;
    node.start_agent();
    node.set_password("another-password-77").await;
    let status = back_up(&node, node.backup("wrong", &pod, "html")).await;
    assert_eq!(said(&status), (Phase::Failed, "WrongPassword"));

    node.delete_key().await;
    let status = back_up(&node, node.backup("none", &pod, "html")).await;
    assert_eq!(said(&status), (Phase::Failed, "KeyMissing"));
    let message = status.message.unwrap();
    assert!(message.contains("ark-repository-key-default"), "{message}");

    let mut unknown = node.backup("unknown", &pod, "html");
    unknown.spec.backup_storage_location = "nowhere".to_owned();
    let status = back_up(&node, unknown).await;
    assert_eq!(said(&status), (Phase::Failed, "LocationUnavailable"));
    let mut unknown = node.backup("no-repository", &pod, "html");
    unknown.spec.repository = "nowhere".to_owned();
    assert_eq!(
        said(&back_up(&node, unknown).await),
        (Phase::Failed, "RepositoryMissing")
    );
    let log = node.log();
    for secret in ["another-password-77", ark_tests::node::PASSWORD] {
        assert!(!log.contains(secret), "a password is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_takes_its_volume_up_again() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    let size = 256 << 20;
    fill(&dir.join("big"), size);
    node.start_agent();
    node.create(node.backup("b", &pod, "html")).await;
    in_progress(&node, "b").await;
    node.kill_agent();
    let left = node.api::<PodVolumeBackup>().get("b").await.unwrap();
    assert_eq!(left.status.unwrap().phase, Some(Phase::InProgress));

    node.start_agent();
    let status = node.ended("b").await.status.unwrap();
    assert_eq!(
        said(&status),
        (Phase::Completed, ""),
        "{:?}",
        status.message
    );
    assert_eq!(status.attempt, Some(2));
    assert_eq!(
        status.progress.unwrap().total_bytes,
        i64::try_from(size).unwrap()
    );
    let snapshots = node.with_repository(|r| r.snapshots().unwrap().len()).await;
    assert_eq!(snapshots, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_agent_leaves_its_volume_and_no_lock() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    fill(&dir.join("big"), 256 << 20);
    node.start_agent();
    node.create(node.backup("b", &pod, "html")).await;
    in_progress(&node, "b").await;
    assert_eq!(node.stop_agent().await, Some(0), "{}", node.log());
    let left = node.api::<PodVolumeBackup>().get("b").await.unwrap();
    assert_eq!(left.status.unwrap().phase, Some(Phase::InProgress));
    let locks = fs::read_dir(node.bucket().join("restic/shop/locks")).map_or(0, Iterator::count);
    assert_eq!(locks, 0);
    node.start_agent();
    let status = node.ended("b").await.status.unwrap();
    assert_eq!(
        (status.phase, status.attempt),
        (Some(Phase::Completed), Some(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_finds_the_snapshot_of_an_earlier_attempt() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    files(&dir);
    let made = node.create(node.backup("b", &pod, "html")).await;
    let uid = made.uid().unwrap();
    let made_id = node
        .with_repository(move |repository| {
            let request = ark_engine::ArchiveRequest {
                source: dir,
                snapshot_path: "/shop/web/html".to_owned(),
                host: "ark".to_owned(),
                tags: vec![format!("pvb-uid={uid}")],
                ..ark_engine::ArchiveRequest::default()
            };
            let (progress, cancel) = (ark_engine::Progress::new(), ark_engine::Cancel::new());
            let report = ark_engine::archive(repository, &request, &progress, &cancel).unwrap();
            report.snapshot_id
        })
        .await;
    let left = json!({"status": {"phase": "InProgress", "attempt": 1}});
    node.patch_status::<PodVolumeBackup>("b", &left).await;
    node.start_agent();
    let status = node.ended("b").await.status.unwrap();
    assert_eq!(status.snapshot_id, Some(made_id));
    assert_eq!(
        status.phase,
        Some(Phase::PartiallyFailed),
        "its errors are not known"
    );
    let snapshots = node.with_repository(|r| r.snapshots().unwrap().len()).await;
    assert_eq!(snapshots, 1, "nothing is taken twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_gets_to_its_end_is_given_up() {
    let mut node = Node::new().await;
    let (pod, _) = node.pod_with_empty_dir("web", "html").await;
    node.create(node.backup("b", &pod, "html")).await;
    let left = json!({"status": {"phase": "InProgress", "attempt": 10}});
    node.patch_status::<PodVolumeBackup>("b", &left).await;
    node.start_agent();
    let status = node.ended("b").await.status.unwrap();
    assert_eq!(said(&status), (Phase::Failed, "TooManyAttempts"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_kubelet_root_is_told_and_nothing_is_read() {
    let mut node = Node::new().await;
    let (pod, _) = node.pod_with_empty_dir("web", "html").await;
    let elsewhere = node.scratch("elsewhere");
    node.start_agent_with(&[("ARK_HOST_PODS", elsewhere.to_str().unwrap())]);
    let status = back_up(&node, node.backup("b", &pod, "html")).await;
    assert_eq!(said(&status), (Phase::Failed, "WrongKubeletRoot"));
    let message = status.message.unwrap();
    assert!(message.contains("agent.kubeletRoot"), "{message}");
    let (code, body) = node.http("/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("agent.kubeletRoot"), "{body}");
    assert!(
        node.log().contains("every volume is refused"),
        "{}",
        node.log()
    );
    assert_eq!(node.http("/healthz").await.0, 200);

    node.kill_agent();
    node.start_agent();
    until("readiness", async || {
        (node.http("/readyz").await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_shared_directory_is_used() {
    let mut node = Node::new().await;
    let (pod, _) = node.pod_with_empty_dir("web", "html").await;
    let location = node
        .api::<BackupStorageLocation>()
        .get(LOCATION)
        .await
        .unwrap();
    let uid = location.uid().unwrap();
    node.mark_directory("another-uid", "token-1");
    node.start_agent();
    let status = back_up(&node, node.backup("b1", &pod, "html")).await;
    assert_eq!(said(&status), (Phase::Failed, "DirectoryNotShared"));
    let answers = node.bucket().join("metadata/agents");
    assert!(
        !answers.exists(),
        "nothing is written into a directory of somebody else"
    );

    // The operator's next look at the location is enough for a new answer, without any volume.
    node.mark_directory(&uid, "token-2");
    let status = json!({"status": {"handshake": "token-2"}});
    node.patch_status::<BackupStorageLocation>(LOCATION, &status)
        .await;
    let file = answers.join(format!("{}.json", node.name));
    let answer = until("answer", async || fs::read_to_string(&file).ok()).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer, json!({"token": "token-2", "node": node.name}));
    let status = back_up(&node, node.backup("b2", &pod, "html")).await;
    assert_eq!(
        said(&status),
        (Phase::Completed, ""),
        "{:?}",
        status.message
    );
}

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
    node.pod_status(&late, ark_tests::node::gate_runs()).await;
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
    let gated = async |node: &Node, name: &str| -> Pod {
        let runs = ark_tests::node::gate_runs();
        node.pod(name, volumes.clone(), runs).await
    };
    let one = gated(&node, "one").await;
    let gate_of_one = node.empty_dir(&one, "ark-restore-gate");
    let target = node.mount(&one, "kubernetes.io~local-volume/pv-1");
    // The other pod's directories come later.
    let other = gated(&node, "other").await;
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
    let again = json!({"phase": "Pending", "message": "started"});
    node.pod_status(&other, again).await;
    let status = node.restored("r").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Completed), "{:?}", status.message);
    assert!(gate_of_other.join("data.done").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_objects_are_never_executed_and_a_wish_to_cancel_is_heard() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    fill(&dir.join("big"), 256 << 20);
    let mut imported = node.backup("imported", &pod, "html");
    imported.spec.origin = Some(Origin {
        location: LOCATION.to_owned(),
        ..Origin::default()
    });
    node.create(imported).await;
    let mut never = node.backup("never", &pod, "html");
    never.spec.cancel = true;
    node.create(never).await;
    node.start_agent_with(&[("ARK_AGENT_CONCURRENCY", "1")]);
    let status = node.ended("never").await.status.unwrap();
    assert_eq!(said(&status), (Phase::Canceled, "Cancelled"));

    node.create(node.backup("running", &pod, "html")).await;
    in_progress(&node, "running").await;
    node.create(node.backup("queued", &pod, "html")).await;
    let api = node.api::<PodVolumeBackup>();
    until("queue", async || {
        let status = api.get("queued").await.unwrap().status?;
        (said(&status) == (Phase::Accepted, "Queued")).then_some(())
    })
    .await;
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    for name in ["queued", "running"] {
        api.patch(name, &PatchParams::default(), &cancel)
            .await
            .unwrap();
    }
    for name in ["queued", "running"] {
        let status = node.ended(name).await.status.unwrap();
        assert_eq!(said(&status), (Phase::Canceled, "Cancelled"), "{name}");
        assert_eq!(status.snapshot_id, None);
    }
    let snapshots = node.with_repository(|r| r.snapshots().unwrap().len()).await;
    assert_eq!(snapshots, 0);
    assert_eq!(api.get("imported").await.unwrap().status, None);

    // An object that is deleted is stopped as well, and nobody is told.
    node.create(node.backup("deleted", &pod, "html")).await;
    in_progress(&node, "deleted").await;
    api.delete("deleted", &DeleteParams::default())
        .await
        .unwrap();
    until("end of the deleted one", async || {
        node.log().contains("deleted while at work").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_object_fails_alone() {
    let plane = tokio::task::spawn_blocking(|| {
        let plane = xtask::cluster::ControlPlane::start().unwrap();
        plane.install_crds().unwrap();
        // As if an older or newer definition had let it in.
        let loose = r#"[{"op": "replace", "value": {"type": "string"}, "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/cancel"}]"#;
        let mut patch = plane.kubectl().unwrap();
        patch.args(["patch", "crd", "podvolumebackups.ark.heptio.com", "--type=json", "-p", loose]);
        xtask::exec::output(&mut patch).unwrap();
        plane
    })
    .await
    .unwrap();
    let mut node = Node::on(&plane).await;
    let (pod, _) = node.pod_with_empty_dir("web", "html").await;
    let create = async |name: &str, cancel: &str| {
        let mut object = serde_json::to_value(node.backup(name, &pod, "html")).unwrap();
        object["metadata"]["namespace"] = json!(node.namespace);
        object["spec"].as_object_mut().unwrap().remove("cancel");
        if !cancel.is_empty() {
            object["spec"]["cancel"] = json!(cancel);
        }
        let mut apply = plane.kubectl().unwrap();
        apply.args(["create", "-f", "-"]);
        let object = object.to_string();
        xtask::exec::output_with_input(&mut apply, &object).unwrap();
    };
    until("the changed definition", async || {
        let schema = plane
            .kubectl()
            .unwrap()
            .args(["explain", "pvb.spec.cancel"])
            .output();
        String::from_utf8_lossy(&schema.unwrap().stdout)
            .contains("string")
            .then_some(())
    })
    .await;
    create("bad", "maybe").await;
    create("good", "").await;
    node.start_agent();
    let good = until("good backup", async || phase(&plane, &node, "good")).await;
    assert_eq!(good, "Completed");
    let bad = until("bad backup", async || phase(&plane, &node, "bad")).await;
    assert_eq!(bad, "Failed");
    node.kill_agent();
}

/// The phase of a backup that has ended, asked in a way that does not mind its spec.
fn phase(plane: &xtask::cluster::ControlPlane, node: &Node, name: &str) -> Option<String> {
    let mut get = plane.kubectl().unwrap();
    get.args([
        "get",
        "pvb",
        name,
        "-o",
        "jsonpath={.status.phase}",
        "-n",
        &node.namespace,
    ]);
    let phase = xtask::exec::output(&mut get).unwrap();
    ["Completed", "Failed", "PartiallyFailed", "Canceled"]
        .contains(&phase.as_str())
        .then_some(phase)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_agent_is_small() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    files(&dir);
    node.start_agent();
    back_up(&node, node.backup("b", &pod, "html")).await;
    let status = fs::read_to_string(format!("/proc/{}/status", node.agent_pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 40 * 1024, "{kib} KiB resident");
}

/// Waits until a backup is in progress.
async fn in_progress(node: &Node, name: &str) {
    let api = node.api::<PodVolumeBackup>();
    until("progress", async || {
        let status = api.get(name).await.unwrap().status?;
        (status.phase? == Phase::InProgress).then_some(())
    })
    .await;
}

/// A file of random bytes: nothing about it can be saved, so storing it takes a moment.
fn fill(path: &Path, size: u64) {
    use std::io::Read as _;
    let random = fs::File::open("/dev/urandom").unwrap();
    let mut file = fs::File::create(path).unwrap();
    std::io::copy(&mut random.take(size), &mut file).unwrap();
}
