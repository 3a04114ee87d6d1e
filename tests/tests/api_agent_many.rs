//! Many volumes of one agent at once: they share one open repository, and say where they wait.

mod agent;

use std::fs;
use std::path::PathBuf;

use agent::{Phase, back_up, files, fill, in_progress, said, same_files};
use ark_api::PodVolumeBackup;
use ark_tests::node::{Node, PASSWORD, until};
use kube::ResourceExt as _;

/// Volumes of a test, more than are worked on at a time.
const MANY: usize = 24;

/// How often the agent opened a repository.
fn opened(node: &Node) -> usize {
    node.log().matches("repository opened").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn small_volumes_share_one_open_repository_both_ways() {
    let mut node = Node::new().await;
    let mut pods = Vec::new();
    for n in 0..MANY {
        let (pod, dir) = node.pod_with_empty_dir(&format!("web-{n}"), "html").await;
        files(&dir);
        fs::write(dir.join("own"), n.to_string()).unwrap();
        pods.push(pod);
    }
    node.start_agent();
    for (n, pod) in pods.iter().enumerate() {
        node.create(node.backup(&format!("b-{n}"), pod, "html"))
            .await;
    }
    let mut snapshots = Vec::new();
    for n in 0..MANY {
        let status = node.ended(&format!("b-{n}")).await.status.unwrap();
        assert_eq!(
            said(&status),
            (Phase::Completed, ""),
            "{:?}",
            status.message
        );
        assert!(status.start_timestamp.is_some());
        snapshots.push(status.snapshot_id.unwrap());
    }
    assert_eq!(opened(&node), 1, "{}", node.log());
    // The lock does not stay for those who may never come.
    let locks = node.bucket().join("restic/shop/locks");
    until("no lock", async || {
        (fs::read_dir(&locks).unwrap().count() == 0).then_some(())
    })
    .await;

    let mut targets: Vec<PathBuf> = Vec::new();
    for (n, snapshot) in snapshots.iter().enumerate() {
        let (pod, dir, _gate) = node.gated_pod(&format!("back-{n}"), "html").await;
        node.create(node.restore(&format!("r-{n}"), &pod, "html", snapshot))
            .await;
        targets.push(dir);
    }
    for (n, target) in targets.iter().enumerate() {
        let status = node.restored(&format!("r-{n}")).await.status.unwrap();
        assert_eq!(status.phase, Some(Phase::Completed), "{:?}", status.message);
        same_files(target);
        assert_eq!(
            fs::read_to_string(target.join("own")).unwrap(),
            n.to_string()
        );
    }
    // It may have been closed before the first restore.
    assert!(opened(&node) <= 2, "{}", node.log());
    let check = |repository: &ark_engine::Repository| {
        ark_engine::check(repository, true, &ark_engine::Cancel::new())
    };
    let report = node.with_repository(check).await.unwrap();
    assert!(report.is_ok(), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_slot_says_its_place_and_has_not_started() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    fill(&dir.join("big"), 512 << 20);
    node.start_agent_with(&[("ARK_AGENT_CONCURRENCY", "1")]);
    node.create(node.backup("running", &pod, "html")).await;
    in_progress(&node, "running").await;
    for name in ["second", "third"] {
        node.create(node.backup(name, &pod, "html")).await;
    }
    let api = node.api::<PodVolumeBackup>();
    until("a place in the queue", async || {
        let status = api.get("third").await.unwrap().status?;
        let words = status.message.clone()?;
        let waits = said(&status) == (Phase::Accepted, "Queued")
            && words.contains("among the large volumes");
        waits.then(|| {
            assert_eq!(status.start_timestamp, None);
            assert!(status.accepted_timestamp.is_some());
        })
    })
    .await;
    let cancel = kube::api::Patch::Merge(serde_json::json!({"spec": {"cancel": true}}));
    for name in ["third", "second", "running"] {
        let params = kube::api::PatchParams::default();
        api.patch(name, &params, &cancel).await.unwrap();
    }
    let status = node.ended("third").await.status.unwrap();
    assert_eq!(said(&status), (Phase::Canceled, "Cancelled"));
    for name in ["second", "running"] {
        // They may have been done before they were asked to stop.
        node.ended(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_keys_and_replaced_repositories_are_noticed_between_two_volumes() {
    let mut node = Node::new().await;
    let (pod, dir) = node.pod_with_empty_dir("web", "html").await;
    files(&dir);
    node.start_agent();
    let good = async |node: &Node, name: &str| {
        let status = back_up(node, node.backup(name, &pod, "html")).await;
        assert_eq!(
            said(&status),
            (Phase::Completed, ""),
            "{:?}",
            status.message
        );
        status
    };
    good(&node, "first").await;
    node.set_password("another-password-77").await;
    let status = back_up(&node, node.backup("wrong", &pod, "html")).await;
    assert_eq!(said(&status), (Phase::Failed, "WrongPassword"));
    node.set_password(PASSWORD).await;
    good(&node, "again").await;

    // The repository is made anew at its place, with another master key under the same password.
    fs::remove_dir_all(node.bucket().join("restic/shop")).unwrap();
    node.init_repository().await;
    let status = good(&node, "anew").await;
    let snapshots = node.with_repository(|r| r.snapshots().unwrap()).await;
    let ids: Vec<_> = snapshots.into_iter().map(|s| s.id).collect();
    assert_eq!(ids, [status.snapshot_id.unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_does_not_take_memory_anew_for_every_read() {
    const SIZE: u64 = 192 << 20;
    let mut node = Node::new().await;
    let (source, dir) = node.pod_with_empty_dir("source", "data").await;
    fill(&dir.join("big"), SIZE);
    node.start_agent();
    let snapshot = back_up(&node, node.backup("b", &source, "data")).await;
    let snapshot = snapshot.snapshot_id.unwrap();
    let (pod, target, _gate) = node.gated_pod("target", "data").await;
    let path = format!("/proc/{}/stat", node.agent_pid());
    let faults = || -> u64 {
        let stat = fs::read_to_string(&path).unwrap();
        // Behind the name in parentheses: state, five numbers, flags, and then the page faults.
        let rest = stat.rsplit_once(')').unwrap().1;
        rest.split_whitespace().nth(7).unwrap().parse().unwrap()
    };
    let before = faults();
    node.create(node.restore("r", &pod, "data", &snapshot))
        .await;
    let status = node.restored("r").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Completed), "{:?}", status.message);
    assert_eq!(fs::metadata(target.join("big")).unwrap().len(), SIZE);
    let taken = (faults() - before) * 4096;
    assert!(taken < SIZE / 2, "{} MiB of pages", taken >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_that_describes_the_repository_is_needed() {
    let mut node = Node::new().await;
    let (source, dir) = node.pod_with_empty_dir("source", "html").await;
    files(&dir);
    node.start_agent();
    let params = kube::api::DeleteParams::default();
    let repositories = node.api::<ark_api::ResticRepository>();
    for object in repositories
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
    {
        repositories
            .delete(&object.name_any(), &params)
            .await
            .unwrap();
    }
    let status = back_up(&node, node.backup("b", &source, "html")).await;
    assert_eq!(
        said(&status),
        (Phase::Completed, ""),
        "{:?}",
        status.message
    );
    let (pod, target, _gate) = node.gated_pod("target", "html").await;
    let snapshot = status.snapshot_id.unwrap();
    node.create(node.restore("r", &pod, "html", &snapshot))
        .await;
    let status = node.restored("r").await.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Completed), "{:?}", status.message);
    same_files(&target);
}
