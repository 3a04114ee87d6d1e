//! Backups that are disturbed: names that are taken, an operator that dies, a store that goes away.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::path::Path;

use ark_api::backup::{BackupPhase, BackupStatus};
use ark_api::condition::{self, kind};
use ark_api::pod_volume_backup::PodVolumeBackupSpec;
use ark_api::{Backup, PodVolumeBackup, layout};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

/// A pod with one volume that nobody but the test takes.
async fn one_volume(ark: &Ark) {
    let node = ark.node("n").await;
    let named = json!({"backup.ark.heptio.com/backup-volumes": "v"});
    ark.pod("web", &node, named, json!([{"name": "v", "emptyDir": {}}]))
        .await;
}

fn put(ark: &Ark, path: &str, content: &Value) {
    let path = ark.bucket().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content.to_string()).unwrap();
}

fn names(ark: &Ark, backup: &str) -> Vec<String> {
    let dir = ark.bucket().join(layout::backup_dir(backup));
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .map(|entries| {
            entries
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_belongs_to_somebody_else_is_left_alone() {
    let ark = Ark::with_location().await;
    put(
        &ark,
        &layout::claim("claimed"),
        &json!({"cluster": "other-cluster", "backupUid": "u"}),
    );
    put(&ark, "backups/velero/velero-backup.json", &json!({}));
    put(
        &ark,
        "backups/finished/ark-backup.json",
        &json!({"metadata": {"name": "finished", "uid": "u"}}),
    );
    put(&ark, "backups/stranger/notes.txt", &json!("x"));
    for (name, word) in [
        ("claimed", "other-cluster"),
        ("velero", "Velero"),
        ("finished", "already holds a backup"),
        ("stranger", "not Ark's"),
    ] {
        let before = names(&ark, name);
        ark.backup(name, json!({})).await;
        let failed = ark.ended(name, BackupPhase::Failed).await;
        assert!(
            Ark::reason(&failed).contains(word),
            "{name}: {}",
            Ark::reason(&failed)
        );
        assert_eq!(names(&ark, name), before, "{name} was written to");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_with_one_bucket_do_not_mix_their_backups() {
    let first = Ark::with_location().await;
    first.backup("nightly", json!({})).await;
    first.ended("nightly", BackupPhase::Completed).await;
    let mut second = Ark::with_location().await;
    // The same directory, seen by another installation; its objects have other uids.
    second.kill_operator();
    std::fs::remove_dir_all(second.bucket()).unwrap();
    std::os::unix::fs::symlink(first.bucket(), second.bucket()).unwrap();
    let before = names(&first, "nightly");
    second.start_operator();
    second.backup("nightly", json!({})).await;
    let api = second.api::<Backup>();
    let refused = until(&format!("an end; {}", second.tail()), async || {
        let found = api.get("nightly").await.unwrap();
        found
            .status
            .as_ref()
            .and_then(|s| s.phase)
            .filter(|p| p.is_terminal())
            .map(|_| found)
    })
    .await;
    let phase = refused.status.as_ref().unwrap().phase.unwrap();
    assert!(
        !phase.is_restorable(),
        "{phase:?}: {}",
        Ark::reason(&refused)
    );
    assert_eq!(names(&first, "nightly"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_dies_is_replaced_and_the_backup_goes_on() {
    let mut ark = Ark::with_location().await;
    one_volume(&ark).await;
    ark.backup("b", json!({})).await;
    let before = ark.volume_objects("b", 1).await;
    ark.kill_operator();
    ark.start_operator();
    let api = ark.api::<Backup>();
    until(&format!("a second attempt; {}", ark.tail()), async || {
        let status = api.get("b").await.unwrap().status?;
        (status.attempt == Some(2)).then_some(())
    })
    .await;
    ark.complete(&before[0]).await;
    let done = ark.ended("b", BackupPhase::Completed).await;
    assert_eq!(done.status.as_ref().unwrap().attempt, Some(2));
    let after = ark.volume_objects("b", 1).await;
    assert_eq!(after.len(), 1);
    assert_eq!(
        after[0].uid(),
        before[0].uid(),
        "the volume was started again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_not_taken_for_the_volume_is_not_taken_into_the_backup() {
    let ark = Ark::with_location().await;
    one_volume(&ark).await;
    for (backup, real) in [("other", true), ("none", false)] {
        ark.backup(backup, json!({})).await;
        let object = ark.volume_objects(backup, 1).await.remove(0);
        let snapshot = if real {
            ark.snapshot_for(&object, "uid-of-another-object").await
        } else {
            "a".repeat(64)
        };
        ark.complete_with(&object, &snapshot).await;
        let done = ark.ended(backup, BackupPhase::PartiallyFailed).await;
        assert!(
            ark.log().contains("the agent named"),
            "{done:?}: {}",
            ark.tail()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_object_on_a_node_that_is_not_there_says_so() {
    let ark = Ark::with_location().await;
    let node: Node =
        serde_json::from_value(json!({"metadata": {"name": format!("bare-{}", ark.namespace)}}))
            .unwrap();
    let nodes = Api::<Node>::all(ark.client.clone());
    let bare = nodes.create(&PostParams::default(), &node).await.unwrap();
    for (name, node, expected) in [
        ("gone", "no-such-node".to_owned(), "NodeGone"),
        ("bare", bare.name_any(), "NoAgentOnNode"),
    ] {
        let mut object = PodVolumeBackup::new(name, PodVolumeBackupSpec::default());
        object.spec.node = node;
        ark.create(object).await;
        let api = ark.api::<PodVolumeBackup>();
        until(&format!("words on {name}; {}", ark.tail()), async || {
            let status = api.get(name).await.unwrap().status?;
            (status.phase.is_some() && status.reason.as_deref() == Some(expected)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_in_the_middle_is_taken_up_again() {
    let mut ark = Ark::with_location().await;
    one_volume(&ark).await;
    ark.backup("b", json!({})).await;
    let objects = ark.volume_objects("b", 1).await;
    assert_eq!(ark.stop_operator().await, Some(0), "{}", ark.tail());
    ark.complete(&objects[0]).await;
    ark.start_operator();
    ark.ended("b", BackupPhase::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_was_written_before_the_status_decides() {
    let mut ark = Ark::with_location().await;
    ark.kill_operator();
    let backup = ark.backup("b", json!({"storageLocation": "default"})).await;
    let cluster = Api::<Namespace>::all(ark.client.clone())
        .get("kube-system")
        .await
        .unwrap()
        .uid();
    put(
        &ark,
        &layout::claim("b"),
        &json!({"cluster": cluster, "backupUid": backup.uid()}),
    );
    let mut finished = backup.clone();
    finished.status = Some(BackupStatus {
        phase: Some(BackupPhase::PartiallyFailed),
        cluster,
        errors: Some(7),
        ..BackupStatus::default()
    });
    put(
        &ark,
        &layout::marker("b"),
        &serde_json::to_value(&finished).unwrap(),
    );
    ark.start_operator();
    let done = ark.ended("b", BackupPhase::PartiallyFailed).await;
    assert_eq!(done.status.unwrap().errors, Some(7));
    assert_eq!(
        names(&ark, "b"),
        ["ark-backup.json", "ark-claim.json"],
        "it was made again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_deleted_while_it_runs_gives_its_name_back() {
    let ark = Ark::with_location().await;
    one_volume(&ark).await;
    ark.backup("b", json!({})).await;
    ark.volume_objects("b", 1).await;
    assert_eq!(names(&ark, "b"), ["ark-claim.json"]);
    ark.delete::<Backup>("b").await;
    until(&format!("the claim to go; {}", ark.tail()), async || {
        names(&ark, "b").is_empty().then_some(())
    })
    .await;
    let api = ark.api::<PodVolumeBackup>();
    until("the volume objects to go", async || {
        let left = api.list(&kube::api::ListParams::default()).await.unwrap();
        left.items.is_empty().then_some(())
    })
    .await;
    ark.backup("b", json!({})).await;
    let objects = ark.volume_objects("b", 1).await;
    ark.complete(&objects[0]).await;
    ark.ended("b", BackupPhase::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_of_a_backup_deleted_while_no_operator_ran_is_given_up() {
    let mut ark = Ark::with_location().await;
    one_volume(&ark).await;
    ark.backup("b", json!({})).await;
    ark.volume_objects("b", 1).await;
    ark.kill_operator();
    ark.delete::<Backup>("b").await;
    ark.backup("b", json!({})).await;
    ark.start_operator();
    let api = ark.api::<PodVolumeBackup>();
    let new = ark.api::<Backup>().get("b").await.unwrap().uid().unwrap();
    let object = until(
        &format!("the new volume object; {}", ark.tail()),
        async || {
            let list = api.list(&kube::api::ListParams::default()).await.unwrap();
            list.items
                .into_iter()
                .find(|o| o.labels()["ark.heptio.com/backup-uid"] == new)
        },
    )
    .await;
    ark.complete(&object).await;
    ark.ended("b", BackupPhase::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_lost_after_the_volumes_is_waited_for() {
    // A file in its place, so that nobody can make the directory again.
    let unplugged = |bucket: &Path| std::fs::write(bucket, "not mounted").unwrap();
    waits_for_the_store(unplugged, |bucket| std::fs::remove_file(bucket).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_point_without_its_file_system_is_no_verdict_about_volumes() {
    let empty = |bucket: &Path| std::fs::create_dir(bucket).unwrap();
    waits_for_the_store(empty, |bucket| std::fs::remove_dir_all(bucket).unwrap()).await;
}

async fn waits_for_the_store(replace: impl Fn(&Path), remove: impl Fn(&Path)) {
    let ark = Ark::with_location().await;
    one_volume(&ark).await;
    ark.backup("b", json!({})).await;
    let objects = ark.volume_objects("b", 1).await;
    let uid = objects[0].uid().unwrap();
    let snapshot = ark.snapshot_for(&objects[0], &uid).await;
    let aside = ark.store_root().join("unplugged");
    std::fs::rename(ark.bucket(), &aside).unwrap();
    replace(&ark.bucket());
    ark.complete_with(&objects[0], &snapshot).await;
    let api = ark.api::<Backup>();
    until(
        &format!("a word about the wait; {}", ark.tail()),
        async || {
            let status = api.get("b").await.unwrap().status?;
            assert!(!status.phase?.is_terminal(), "{status:?}");
            let waits = condition::get(&status.conditions, kind::WAITING)?;
            (waits.status == "True" && waits.message.contains("bucket")).then_some(())
        },
    )
    .await;
    remove(&ark.bucket());
    std::fs::rename(&aside, ark.bucket()).unwrap();
    let done = ark.ended("b", BackupPhase::Completed).await;
    let status = done.status.unwrap();
    assert_eq!(status.attempt, Some(1), "the volumes were taken again");
    assert!(!condition::is_true(&status.conditions, kind::WAITING));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_opened_fails_the_volumes_with_the_reason() {
    let ark = Ark::with_location().await;
    one_volume(&ark).await;
    // A repository of somebody else, whose key this cluster does not have.
    std::fs::create_dir_all(
        ark.bucket()
            .join(layout::repository(&ark.shop))
            .join("keys"),
    )
    .unwrap();
    std::fs::write(
        ark.bucket()
            .join(layout::repository(&ark.shop))
            .join("config"),
        "x",
    )
    .unwrap();
    ark.backup("b", json!({})).await;
    ark.ended("b", BackupPhase::PartiallyFailed).await;
    let row = &ark.rows("b")[0];
    assert_eq!(
        row.reason,
        ark_api::volume::VolumeReason::RepositoryNotReady
    );
    assert!(
        row.message
            .as_ref()
            .unwrap()
            .contains("ark-repository-key-default"),
        "{row:?}"
    );
}
