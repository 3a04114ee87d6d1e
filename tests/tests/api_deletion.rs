//! Deleting backups on a real API server: what goes, in which order, and what is refused or waited
//! for.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::sync::atomic::{AtomicU32, Ordering};

use ark_api::backup::BackupPhase;
use ark_api::location::LocationPhase;
use ark_api::requests::{DeleteBackupRequestStatus, RequestPhase};
use ark_api::restore::RestorePhase;
use ark_api::{
    Backup, BackupStorageLocation, DeleteBackupRequest, PodVolumeBackup, Restore, layout,
};
use ark_engine::{OpenOptions, Repository, Secret, Store, StoreConfig};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::api::{Patch, PatchParams};
use serde_json::json;

static REQUESTS: AtomicU32 = AtomicU32::new(0);

/// Asks for the deletion of a backup.
async fn ask(ark: &Ark, backup: &str, force: bool) -> String {
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let name = format!("delete-{backup}-{number}");
    let spec = serde_json::from_value(json!({"backupName": backup, "force": force})).unwrap();
    ark.create(DeleteBackupRequest::new(&name, spec)).await;
    name
}

/// Waits until a request's status says something.
async fn says<T>(
    ark: &Ark,
    request: &str,
    what: impl Fn(DeleteBackupRequestStatus) -> Option<T>,
) -> T {
    let api = ark.api::<DeleteBackupRequest>();
    until(
        &format!("answer to {request}; {}", ark.tail()),
        async || what(api.get_opt(request).await.unwrap()?.status?),
    )
    .await
}

async fn refused(ark: &Ark, backup: &str) -> String {
    let request = ask(ark, backup, false).await;
    says(ark, &request, |status| {
        (status.phase == Some(RequestPhase::Processed)).then(|| status.errors.join("; "))
    })
    .await
}

/// Waits until neither the backup nor a request for it is left.
async fn gone(ark: &Ark, backup: &str, request: &str) {
    until(&format!("end of {backup}; {}", ark.tail()), async || {
        let object = ark.api::<Backup>().get_opt(backup).await.unwrap();
        let request = ark
            .api::<DeleteBackupRequest>()
            .get_opt(request)
            .await
            .unwrap();
        (object.is_none() && request.is_none()).then_some(())
    })
    .await;
}

/// The key of the repositories.
async fn password(ark: &Ark) -> String {
    let secret: KubeSecret = ark.api().get("ark-repository-key-default").await.unwrap();
    let password = secret.data.unwrap()["repository-password"].0.clone();
    String::from_utf8(password).unwrap()
}

/// Changes the key of the repositories in the cluster.
async fn set_password(ark: &Ark, password: &str) {
    let patch = Patch::Merge(json!({"stringData": {"repository-password": password}}));
    ark.api::<KubeSecret>()
        .patch(
            "ark-repository-key-default",
            &PatchParams::default(),
            &patch,
        )
        .await
        .unwrap();
}

/// The tags of all snapshots of the application's namespace.
async fn snapshots(ark: &Ark) -> Vec<String> {
    let password = Secret::from(password(ark).await.as_str());
    let root = ark.bucket().join(layout::repository(&ark.shop));
    let store = Store::open(&StoreConfig::Local { root }).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let all = tokio::task::spawn_blocking(move || {
        Repository::open(store, &[password], OpenOptions::default(), runtime)
            .unwrap()
            .snapshots()
            .unwrap()
    })
    .await
    .unwrap();
    let backup = |tags: Vec<String>| tags.into_iter().find(|tag| tag.starts_with("backup="));
    all.into_iter()
        .filter_map(|snapshot| backup(snapshot.tags))
        .collect()
}

/// An application whose files a real agent stores.
async fn with_files() -> Ark {
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
    std::fs::write(ark.empty_dir(&pod, "data").join("a"), "hello").unwrap();
    ark
}

async fn completed(ark: &Ark, name: &str) {
    ark.backup(name, json!({})).await;
    ark.ended(name, BackupPhase::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_with_its_snapshots_its_restores_and_all_it_stored() {
    let ark = with_files().await;
    completed(&ark, "first").await;
    completed(&ark, "second").await;
    // Its volume object was lost; the snapshot's tag is left.
    let object = &ark.volume_objects("first", 1).await[0];
    ark.delete::<PodVolumeBackup>(object.metadata.name.as_ref().unwrap())
        .await;
    let spec = json!({"backupName": "first", "namespaceMapping": {ark.shop.clone(): format!("{}-copy", ark.shop)},
        "includedResources": ["configmaps"]});
    ark.create(Restore::new("r", serde_json::from_value(spec).unwrap()))
        .await;
    let restores = ark.api::<Restore>();
    until("end of the restore", async || {
        let phase = restores.get("r").await.unwrap().status?.phase?;
        phase.is_terminal().then_some(())
    })
    .await;
    assert_eq!(snapshots(&ark).await.len(), 2);

    let request = ask(&ark, "first", false).await;
    gone(&ark, "first", &request).await;

    assert_eq!(snapshots(&ark).await, ["backup=second"]);
    assert!(
        !ark.bucket()
            .join(layout::backup_dir("first"))
            .join(layout::CLAIM)
            .exists()
    );
    assert!(!ark.bucket().join(layout::bundle("first")).exists());
    assert!(!ark.bucket().join(layout::restore_logs("r")).exists());
    assert!(restores.get_opt("r").await.unwrap().is_none());
    assert!(ark.bucket().join(layout::marker("second")).exists());
    // The name is free again.
    completed(&ark, "first").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_now_is_refused_or_waited_for_with_the_reason() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    let annotations = json!({"backup.ark.heptio.com/backup-volumes": "data"});
    ark.pod(
        "web",
        &node,
        annotations,
        json!([{"name": "data", "emptyDir": {}}]),
    )
    .await;
    assert!(refused(&ark, "nothing").await.contains("no Backup named"));

    ark.backup("b", json!({})).await;
    let volume = ark.volume_objects("b", 1).await.remove(0);
    let said = refused(&ark, "b").await;
    assert!(said.contains("has not ended"), "{said}");
    ark.complete(&volume).await;
    ark.ended("b", BackupPhase::Completed).await;

    let locations = ark.api::<BackupStorageLocation>();
    let frozen = Patch::Merge(json!({"spec": {"accessMode": "ReadOnly"}}));
    locations
        .patch("default", &PatchParams::default(), &frozen)
        .await
        .unwrap();
    ark.judged("default", LocationPhase::Available).await;
    let spec = serde_json::from_value(json!({"backupName": "b"})).unwrap();
    ark.create(DeleteBackupRequest::new("frozen", spec)).await;
    let said = says(&ark, "frozen", |status| {
        (!status.errors.is_empty()).then(|| status.errors.join("; "))
    })
    .await;
    assert!(said.contains("read-only"), "{said}");

    // The directory is away, and comes back.
    let patch = Patch::Merge(
        json!({"spec": {"accessMode": null, "objectStorage": {"prefix": "no/../where"}}}),
    );
    locations
        .patch("default", &PatchParams::default(), &patch)
        .await
        .unwrap();
    ark.judged("default", LocationPhase::Unavailable).await;
    let request = ask(&ark, "b", false).await;
    let said = says(&ark, &request, |status| status.waiting_for).await;
    assert!(said.contains("default is not available"), "{said}");
    assert!(ark.bucket().join(layout::marker("b")).exists());
    let patch = Patch::Merge(json!({"spec": {"objectStorage": {"prefix": null}}}));
    locations
        .patch("default", &PatchParams::default(), &patch)
        .await
        .unwrap();
    gone(&ark, "b", &request).await;
    assert!(!ark.bucket().join(layout::marker("b")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_deleted_backup_is_never_shown_as_good_and_is_deleted_to_the_end() {
    let mut ark = with_files().await;
    completed(&ark, "b").await;
    // The key is not the right one for a while.
    let key = password(&ark).await;
    set_password(&ark, "wrong").await;
    let request = ask(&ark, "b", false).await;
    let said = says(&ark, &request, |status| status.waiting_for).await;
    assert!(said.contains("could not be forgotten"), "{said}");
    let object = ark.api::<Backup>().get("b").await.unwrap();
    assert_eq!(object.status.unwrap().phase, Some(BackupPhase::Deleting));
    let marker = std::fs::read(ark.bucket().join(layout::marker("b"))).unwrap();
    let marker: Backup = serde_json::from_slice(&marker).unwrap();
    assert_eq!(marker.status.unwrap().phase, Some(BackupPhase::Deleting));

    // Nobody restores it meanwhile.
    let spec = json!({"backupName": "b"});
    ark.create(Restore::new("r", serde_json::from_value(spec).unwrap()))
        .await;
    let restores = ark.api::<Restore>();
    let phase = until("end of the restore", async || {
        let phase = restores.get("r").await.unwrap().status?.phase?;
        phase.is_terminal().then_some(phase)
    })
    .await;
    assert_eq!(phase, RestorePhase::FailedValidation);

    // The operator is killed; the key comes back; the next operator deletes to the end.
    ark.kill_operator();
    set_password(&ark, &key).await;
    ark.start_operator();
    gone(&ark, "b", &request).await;
    assert!(snapshots(&ark).await.is_empty());
    assert!(
        !ark.bucket()
            .join(layout::backup_dir("b"))
            .join(layout::CLAIM)
            .exists()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_name_was_taken_leaves_the_other_ones_data_alone() {
    let ark = Ark::with_location().await;
    let dir = ark.bucket().join(layout::backup_dir("b"));
    std::fs::create_dir_all(&dir).unwrap();
    let claim = json!({"cluster": "another", "backupUid": "another"});
    std::fs::write(dir.join(layout::CLAIM), claim.to_string()).unwrap();
    ark.backup("b", json!({})).await;
    ark.ended("b", BackupPhase::Failed).await;
    let request = ask(&ark, "b", false).await;
    gone(&ark, "b", &request).await;
    assert!(dir.join(layout::CLAIM).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_being_restored_is_deleted_when_the_restore_is_gone() {
    let ark = with_files().await;
    completed(&ark, "b").await;
    // The pod it makes is on no node, so it does not end.
    let spec = json!({"backupName": "b", "namespaceMapping": {ark.shop.clone(): format!("{}-copy", ark.shop)}});
    ark.create(Restore::new("r", serde_json::from_value(spec).unwrap()))
        .await;
    let restores = ark.api::<Restore>();
    until(
        &format!("start of the restore; {}", ark.tail()),
        async || {
            let status = restores.get("r").await.unwrap().status?;
            (status.phase == Some(RestorePhase::InProgress)).then_some(())
        },
    )
    .await;
    let request = ask(&ark, "b", false).await;
    let said = says(&ark, &request, |status| status.waiting_for).await;
    assert!(said.contains("restore r still reads"), "{said}");
    let object = ark.api::<Backup>().get("b").await.unwrap();
    assert_eq!(object.status.unwrap().phase, Some(BackupPhase::Completed));
    ark.delete::<Restore>("r").await;
    gone(&ark, "b", &request).await;
}
