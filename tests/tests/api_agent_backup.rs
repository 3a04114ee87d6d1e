//! Backups by the agent on a real API server: a simulated node, real files, a real repository, and
//! the rights of the chart's roles.

mod agent;

use std::fs;

use agent::{Phase, back_up, files, said, same_files};
use ark_api::BackupStorageLocation;
use ark_tests::node::{LOCATION, Node, until};
use kube::ResourceExt as _;
use serde_json::json;

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
async fn what_was_read_is_remembered_by_the_node() {
    const LENGTH: usize = 3 << 20;
    let mut node = Node::new().await;
    let mut noise = 1_u32;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.to_be_bytes()[0]
    })
    .take(LENGTH)
    .collect();
    node.start_agent();
    // Of the same workload: another pod's files, the same volume.
    for (name, remembered) in [("web-1", 0), ("web-2", LENGTH)] {
        let (pod, dir) = node.pod_with_empty_dir(name, "html").await;
        fs::write(dir.join("database"), &data).unwrap();
        let status = back_up(&node, node.backup(name, &pod, "html")).await;
        assert_eq!(said(&status), (Phase::Completed, ""));
        let (_, metrics) = node.http("/metrics").await;
        for (counter, value) in [("bytes", remembered), ("problems", 0)] {
            let line = format!("ark_agent_fingerprint_{counter}_total {value}");
            assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
        }
    }
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
    let mut unknown = node.backup("no-repository", &pod, "html");
    let namespace = ark_api::naming::tag::NAMESPACE.to_owned();
    unknown.spec.tags.insert(namespace, "nowhere".to_owned());
    assert_eq!(
        said(&back_up(&node, unknown).await),
        (Phase::Failed, "RepositoryMissing")
    );

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
    let log = node.log();
    for secret in ["another-password-77", ark_tests::node::PASSWORD] {
        assert!(!log.contains(secret), "a password is in the log");
    }
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
