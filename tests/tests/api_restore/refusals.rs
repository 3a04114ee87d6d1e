//! What is refused before anything is touched.

use ark_api::condition::{self, kind};
use ark_api::restore::RestorePhase;
use ark_api::{Restore, annotation, layout};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::world::{World, bundle, config_map, kubectl};

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_cannot_be_restored_are_refused_in_words() {
    let world = World::start().await;
    world
        .backup_object("running", json!({"phase": "InProgress"}))
        .await;
    world
        .backup_object(
            "failed",
            json!({"phase": "Failed", "failureReason": "the store was gone"}),
        )
        .await;
    world
        .backup_object("empty", json!({"phase": "Completed"}))
        .await;
    let mut other = world
        .backup_object("other", json!({"phase": "Completed"}))
        .await;
    other.metadata.uid = Some("somebody-elses".to_owned());
    world.write(
        &layout::marker("other"),
        &serde_json::to_vec(&other).unwrap(),
    );
    let cases = [
        ("none", json!({"backupName": "nobody"}), "no Backup named"),
        (
            "schedule",
            json!({"scheduleName": "nightly"}),
            "no backup that can be restored",
        ),
        ("running", json!({"backupName": "running"}), "not finished"),
        (
            "failed",
            json!({"backupName": "failed"}),
            "the store was gone",
        ),
        (
            "empty",
            json!({"backupName": "empty"}),
            "does not hold backup",
        ),
        (
            "other",
            json!({"backupName": "other"}),
            "another backup of the name",
        ),
        (
            "spec",
            json!({"backupName": "x", "restorePVs": false}),
            "restorePVs",
        ),
    ];
    for (name, spec, _) in &cases {
        world.restore(name, spec.clone()).await;
    }
    for (name, _, text) in &cases {
        let (phase, status) = world.finished(name).await;
        assert_eq!(phase, RestorePhase::FailedValidation, "{name}");
        assert!(
            status.validation_errors[0].contains(text),
            "{:?}",
            status.validation_errors
        );
        let finished = condition::get(&status.conditions, kind::FINISHED).unwrap();
        assert_eq!(finished.reason, "FailedValidation");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_bundle_changes_nothing() {
    let world = World::start().await;
    let app = world.app.clone();
    world
        .stored_backup("b", &[config_map(&app, "c", "v")], json!([]))
        .await;
    let mut bytes = bundle(&[config_map(&app, "c", "v")]);
    bytes.truncate(bytes.len() - 20);
    world.write(&layout::bundle("b"), &bytes);
    world.restore("r", json!({"backupName": "b"})).await;
    let (phase, status) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Failed);
    assert!(
        status
            .failure_reason
            .unwrap()
            .contains("bundle cannot be read")
    );
    assert!(world.get("namespaces", None, &app).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_with_an_origin_is_never_executed() {
    let world = World::start().await;
    let app = world.app.clone();
    world
        .stored_backup("b", &[config_map(&app, "c", "v")], json!([]))
        .await;
    world
        .restore(
            "imported",
            json!({"backupName": "b", "origin": {"location": "default", "uid": "x"}}),
        )
        .await;
    world
        .restore(
            "mine",
            json!({"backupName": "b", "excludedNamespaces": [app]}),
        )
        .await;
    world.finished("mine").await;
    assert_eq!(world.status("imported").await.phase, None);
    assert!(world.get("namespaces", None, &app).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_restore_that_is_applied_again_is_a_copy() {
    let world = World::start().await;
    let app = world.app.clone();
    world
        .stored_backup("b", &[config_map(&app, "c", "v")], json!([]))
        .await;
    world.restore("r", json!({"backupName": "b"})).await;
    assert_eq!(world.finished("r").await.0, RestorePhase::Completed);
    let api: Api<Restore> = world.api();
    let mut exported = api.get("r").await.unwrap();
    assert_eq!(
        exported.annotations()[annotation::RUN_UID],
        exported.uid().unwrap()
    );
    // Deleted on purpose, and then somebody applies the exported object.
    kubectl(&["delete", "configmap", "c", "-n", &app]);
    api.delete("r", &DeleteParams::default()).await.unwrap();
    world
        .until("the end of the first Restore", async |_| {
            api.get_opt("r").await.unwrap().is_none().then_some(())
        })
        .await;
    exported.metadata.uid = None;
    exported.metadata.resource_version = None;
    let copy = api.create(&PostParams::default(), &exported).await.unwrap();
    let status = world
        .until("the mark of a copy", async |w| {
            let status = w.status("r").await;
            (status.phase == Some(RestorePhase::Copy)).then_some(status)
        })
        .await;
    let told = condition::get(&status.conditions, kind::COPY).unwrap();
    assert!(told.message.contains("kubectl"), "{}", told.message);
    assert!(world.get("configmaps", Some(&app), "c").await.is_none());
    // On purpose.
    let patch = json!({"metadata": {"annotations": {annotation::RUN_UID: copy.uid()}}});
    api.patch("r", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    world
        .until("the restore on purpose", async |w| {
            let done = w.status("r").await.phase == Some(RestorePhase::Completed);
            done.then_some(())
        })
        .await;
    assert!(world.get("configmaps", Some(&app), "c").await.is_some());
}
