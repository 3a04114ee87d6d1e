//! The agent as a process: killed, stopped, misled, cancelled, idle.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

mod agent;

use std::fs;

use agent::{Phase, back_up, files, fill, in_progress, said};
use ark_api::PodVolumeBackup;
use ark_api::origin::Origin;
use ark_tests::node::{LOCATION, Node, until};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

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
                source: ark_engine::Source::Directory(dir),
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

/// A process that ends with the test, even one that was stopped.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_lock_is_waited_for_in_words() {
    xtask::tools::ensure(&[xtask::tools::Tool::Restic]).unwrap();
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    fill(&dir.join("big"), 32 << 20);
    node.start_agent();
    back_up(&node, node.backup("first", &pod, "html")).await;

    // A check of stock restic holds the repository alone, once the agent has let go of it; held up
    // as soon as it does.
    let repository = node.bucket().join("restic/shop");
    until("no lock", async || {
        let locks = fs::read_dir(repository.join("locks")).unwrap();
        (locks.count() == 0).then_some(())
    })
    .await;
    let restic = std::process::Command::new("restic")
        .args(["--no-cache", "check", "--read-data", "--repo"])
        .arg(&repository)
        .env("RESTIC_PASSWORD", ark_tests::node::PASSWORD)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut restic = Killed(restic);
    let pid = restic.0.id().to_string();
    let signal = |which: &str| {
        let mut kill = std::process::Command::new("kill");
        xtask::exec::output(kill.args([which, &pid])).unwrap();
    };
    until("lock of restic", async || {
        let locks = fs::read_dir(repository.join("locks")).unwrap();
        // Until it is complete it has a longer name, and is no lock yet.
        let complete = |lock: fs::DirEntry| lock.file_name().len() == 64;
        locks.flatten().any(complete).then_some(())
    })
    .await;
    signal("-STOP");
    node.create(node.backup("second", &pod, "html")).await;
    let api = node.api::<PodVolumeBackup>();
    until("words on the lock", async || {
        let status = api.get("second").await.unwrap().status?;
        (said(&status) == (Phase::Accepted, "Locked")).then_some(())
    })
    .await;
    signal("-CONT");
    assert!(
        restic.0.wait().unwrap().success(),
        "the repository is not sound"
    );
    let status = node.ended("second").await.status.unwrap();
    assert_eq!(
        said(&status),
        (Phase::Completed, ""),
        "{:?}",
        status.message
    );
    assert_eq!(status.attempt, Some(1), "waiting is no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_outlives_the_api_server() {
    use xtask::cluster::{Component, ControlPlane};
    let plane = tokio::task::spawn_blocking(|| {
        let plane = ControlPlane::start().unwrap();
        plane.install_crds().unwrap();
        plane
    })
    .await
    .unwrap();
    let mut node = Node::on(&plane).await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    fill(&dir.join("big"), 128 << 20);
    node.start_agent();
    node.create(node.backup("b", &pod, "html")).await;
    // Once it has its lock, all that it needs to know is known.
    let locks = node.bucket().join("restic/shop/locks");
    until("lock", async || fs::read_dir(&locks).ok()?.next().map(drop)).await;
    plane.supervisor().kill(Component::KubeApiserver).unwrap();
    let snapshots = node.bucket().join("restic/shop/snapshots");
    until("snapshot", async || {
        // The directory comes with the first of them.
        fs::read_dir(&snapshots).ok()?.next().map(drop)
    })
    .await;
    plane
        .supervisor()
        .start_again(Component::KubeApiserver)
        .unwrap();
    plane.wait_ready().unwrap();
    let status = node.ended("b").await.status.unwrap();
    assert_eq!(
        said(&status),
        (Phase::Completed, ""),
        "{:?}",
        status.message
    );
    assert_eq!(status.attempt, Some(1));
    // And the watch is back.
    let status = back_up(&node, node.backup("after", &pod, "html")).await;
    assert_eq!(
        said(&status),
        (Phase::Completed, ""),
        "{:?}",
        status.message
    );
    node.kill_agent();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_agent_is_small() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    // Enough for every buffer of the archiver.
    fill(&dir.join("large"), 96 << 20);
    node.start_agent();
    back_up(&node, node.backup("b", &pod, "html")).await;
    let path = format!("/proc/{}/status", node.agent_pid());
    let resident = || -> u64 {
        let status = fs::read_to_string(&path).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    until(
        &format!("less memory than {} KiB", resident()),
        async || (resident() < 40 << 10).then_some(()),
    )
    .await;
}
