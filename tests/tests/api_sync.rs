//! Backups found at a location appear in the cluster, and those that are gone disappear: on a real
//! API server.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::fs;

use ark_api::backup::BackupPhase;
use ark_api::condition::{self, kind};
use ark_api::restore::RestorePhase;
use ark_api::{Backup, BackupStorageLocation, PodVolumeBackup, ResticRepository, Restore, layout};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

/// Has the location `default` read every second.
async fn read_often(ark: &Ark) {
    let patch = Patch::Merge(json!({"spec": {"backupSyncPeriod": "1s"}}));
    ark.api::<BackupStorageLocation>()
        .patch("default", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn completed(ark: &Ark, name: &str) -> Backup {
    ark.backup(name, json!({})).await;
    ark.ended(name, BackupPhase::Completed).await
}

/// Waits until a Backup is there that came from the bucket.
async fn found(ark: &Ark, name: &str) -> Backup {
    let api = ark.api::<Backup>();
    until(&format!("import of {name}; {}", ark.tail()), async || {
        let backup = api.get_opt(name).await.unwrap()?;
        (backup.spec.origin.is_some() && backup.status.is_some()).then_some(backup)
    })
    .await
}

/// Waits until the location's condition `Synced` says `words`.
async fn synced(ark: &Ark, words: &str) -> String {
    let api = ark.api::<BackupStorageLocation>();
    until(
        &format!("{words:?} in Synced; {}", ark.tail()),
        async || {
            let status = api.get("default").await.unwrap().status?;
            let condition = condition::get(&status.conditions, kind::SYNCED)?;
            condition
                .message
                .contains(words)
                .then(|| condition.message.clone())
        },
    )
    .await
}

/// Changes a marker in the bucket.
fn change_marker(ark: &Ark, directory: &str, change: impl Fn(&mut Value)) {
    let path = ark.bucket().join(layout::marker(directory));
    let mut marker: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut marker);
    fs::write(path, marker.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_the_cluster_does_not_know_appear_as_records_and_can_be_restored() {
    let mut ark = Ark::with_location().await;
    let node = ark.node("n").await;
    ark.start_agent(&node);
    let annotations = json!({"backup.ark.heptio.com/backup-volumes": "data"});
    let pod = ark
        .pod(
            "web",
            &node,
            annotations,
            json!([{"name": "data", "emptyDir": {}}]),
        )
        .await;
    fs::write(ark.empty_dir(&pod, "data").join("a"), "hello").unwrap();
    ark.put::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"a": "b"}}))
        .await;
    let before = completed(&ark, "daily-1").await;
    let volume = ark.volume_objects("daily-1", 1).await.remove(0);

    // The cluster is lost: the objects are gone, and another cluster reads the bucket.
    ark.kill_operator();
    change_marker(&ark, "daily-1", |marker| {
        marker["status"]["cluster"] = json!("lost");
        marker["metadata"]["labels"]["ark.heptio.com/schedule-name"] = json!("daily");
    });
    ark.delete::<Backup>("daily-1").await;
    until("end of the volume object", async || {
        let there = ark
            .api::<PodVolumeBackup>()
            .get_opt(&volume.name_any())
            .await
            .unwrap();
        there.is_none().then_some(())
    })
    .await;
    let repositories = ark.api::<ResticRepository>();
    for repository in repositories.list(&ListParams::default()).await.unwrap() {
        ark.delete::<ResticRepository>(&repository.name_any()).await;
    }
    ark.start_operator();
    read_often(&ark).await;

    let backup = found(&ark, "daily-1").await;
    let origin = backup.spec.origin.clone().unwrap();
    assert_eq!(
        (origin.cluster.as_str(), Some(origin.uid)),
        ("lost", before.uid())
    );
    assert_eq!(backup.labels()["ark.heptio.com/schedule-name"], "daily");
    let mut expected = before.status.unwrap();
    expected.cluster = Some("lost".to_owned());
    let status = backup.status.clone().unwrap();
    assert_eq!(
        (status.phase, status.expiration),
        (expected.phase, expected.expiration)
    );
    let record = ark
        .api::<PodVolumeBackup>()
        .get(&volume.name_any())
        .await
        .unwrap();
    assert_eq!(record.spec.origin.unwrap().uid, volume.uid().unwrap());
    assert_eq!(record.status, volume.status);
    assert_eq!(
        repositories
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    synced(&ark, "are in the cluster").await;

    // By its schedule, which is not in this cluster.
    let copy = format!("{}-copy", ark.shop);
    let spec = json!({"scheduleName": "daily", "namespaceMapping": {ark.shop.clone(): copy.clone()},
        "includedResources": ["configmaps"]});
    ark.create(Restore::new("r", serde_json::from_value(spec).unwrap()))
        .await;
    let restores = ark.api::<Restore>();
    let phase = until(&format!("end of the restore; {}", ark.tail()), async || {
        let phase = restores.get("r").await.unwrap().status?.phase?;
        phase.is_terminal().then_some(phase)
    })
    .await;
    assert_eq!(phase, RestorePhase::Completed, "{}", ark.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_finished_backup_does_not_appear_and_is_named() {
    let ark = Ark::with_location().await;
    completed(&ark, "good").await;
    let backups = ark.bucket().join("backups");
    let make = |directory: &str, file: &str, text: &str| {
        fs::create_dir_all(backups.join(directory)).unwrap();
        fs::write(backups.join(directory).join(file), text).unwrap();
    };
    let marker = fs::read_to_string(ark.bucket().join(layout::marker("good"))).unwrap();
    make("running", layout::CLAIM, "{}");
    make("by-hand", layout::MARKER, "{}");
    make("copied", layout::MARKER, &marker);
    make(
        "half",
        layout::MARKER,
        &marker.replace("\"good\"", "\"half\""),
    );
    read_often(&ark).await;
    let said = synced(&ark, "half").await;
    for words in [
        "by-hand: ",
        "copied: its marker is that of a backup named \"good\"",
        "half: ",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("running"), "{said}");
    let all = ark
        .api::<Backup>()
        .list(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(all.items.len(), 1);
    fs::remove_dir_all(backups.join("by-hand")).unwrap();
    fs::remove_dir_all(backups.join("copied")).unwrap();
    fs::remove_dir_all(backups.join("half")).unwrap();
    synced(&ark, "are in the cluster").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_gone_from_the_bucket_disappears_but_never_all_at_once() {
    let ark = Ark::with_location().await;
    for name in ["a", "b", "c"] {
        completed(&ark, name).await;
    }
    read_often(&ark).await;
    synced(&ark, "are in the cluster").await;
    let backups = ark.bucket().join("backups");
    fs::remove_dir_all(backups.join("a")).unwrap();
    let api = ark.api::<Backup>();
    until(&format!("end of a; {}", ark.tail()), async || {
        api.get_opt("a").await.unwrap().is_none().then_some(())
    })
    .await;
    // The whole bucket is another one.
    fs::rename(&backups, ark.bucket().join("restores")).unwrap();
    fs::create_dir_all(&backups).unwrap();
    synced(&ark, "not one of the 2 backups").await;
    // It is looked at some more times.
    let seen = async || {
        let location = ark
            .api::<BackupStorageLocation>()
            .get("default")
            .await
            .unwrap();
        location.status.unwrap().last_synced_time.unwrap()
    };
    let first = seen().await;
    until("further looks", async || {
        (seen().await.0.duration_since(first.0).as_secs() >= 3).then_some(())
    })
    .await;
    assert_eq!(
        api.list(&ListParams::default()).await.unwrap().items.len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_interrupted_is_done_again() {
    let mut ark = Ark::with_location().await;
    let before = completed(&ark, "b").await;
    ark.kill_operator();
    let cluster = before.status.unwrap().cluster;
    ark.delete::<Backup>("b").await;
    // The object was made, and its status was not written any more.
    let origin = json!({"location": "default", "cluster": cluster, "uid": before.metadata.uid});
    let spec = json!({"storageLocation": "default", "origin": origin});
    ark.create(Backup::new("b", serde_json::from_value(spec).unwrap()))
        .await;
    ark.start_operator();
    read_often(&ark).await;
    let status = found(&ark, "b").await.status.unwrap();
    assert_eq!(status.phase, Some(BackupPhase::Completed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_that_was_stored_appears_as_what_it_is() {
    let mut ark = Ark::with_location().await;
    completed(&ark, "b").await;
    ark.kill_operator();
    change_marker(&ark, "b", |marker| {
        marker["status"]["phase"] = json!("Canceled");
        marker["status"]["failureReason"] = json!("cancelled; 1 of 2 volumes can be restored");
    });
    ark.delete::<Backup>("b").await;
    ark.start_operator();
    read_often(&ark).await;
    let status = found(&ark, "b").await.status.unwrap();
    assert_eq!(status.phase, Some(BackupPhase::Canceled));
    synced(&ark, "are in the cluster").await;
    // It goes like any other when the bucket no longer holds it.
    completed(&ark, "other").await;
    fs::remove_dir_all(ark.bucket().join(layout::backup_dir("b"))).unwrap();
    let api = ark.api::<Backup>();
    until(&format!("end of b; {}", ark.tail()), async || {
        api.get_opt("b").await.unwrap().is_none().then_some(())
    })
    .await;
}
