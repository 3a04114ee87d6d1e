//! An application that is lost and comes back, and everything that can happen in between.

use ark_api::condition::{self, kind, reason};
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::restore::RestorePhase;
use ark_api::results::ItemAction;
use ark_api::{PodVolumeRestore, ResticRepository, Restore, annotation, label, layout, naming};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{GATE_IMAGE, World, claim, config_map, gate, kubectl, pod, taken};

/// The Deployment of the tests, with its volumes.
fn deployment(namespace: &str) -> Value {
    let template = pod(namespace, "x", &[("data", "data"), ("logs", "")]);
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]}}})
}

/// Makes the application, loses it, and lays a backup of it into the store. Returns its pod's name.
async fn lost_application(world: &World, backup: &str) -> String {
    let app = world.app.clone();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": app, "labels": {"team": "blue"}}});
    let objects = world
        .lose(
            &[
                ("namespaces", namespace),
                (
                    "persistentvolumeclaims",
                    claim(&app, "data", "ReadWriteOnce"),
                ),
                ("configmaps", config_map(&app, "settings", "v")),
                ("deployments.apps", deployment(&app)),
            ],
            &[
                "pods",
                "replicasets",
                "deployments",
                "persistentvolumeclaims",
                "configmaps",
                "serviceaccounts",
            ],
            async |w| !kubectl(&["get", "pods", "-n", &w.app, "-o", "name"]).is_empty(),
        )
        .await;
    let pod = objects[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let rows = json!([
        taken(&app, &pod, "data", Some("data")),
        taken(&app, &pod, "logs", None)
    ]);
    world.stored_backup(backup, &objects, rows).await;
    pod
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told once")]
async fn a_lost_application_comes_back_in_order() {
    let world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;

    // The pod comes first, held by its gate; no controller may make another one.
    world.schedule(&name, &world.node).await;
    let restored = world.get("pods", Some(&app), &name).await.unwrap();
    assert_eq!(gate(&restored).as_deref(), Some("data,logs"));
    assert_eq!(restored["spec"]["initContainers"][0]["image"], GATE_IMAGE);
    let uid = restored["metadata"]["uid"].as_str().unwrap();
    assert!(
        world
            .get("deployments.apps", Some(&app), "web")
            .await
            .is_none()
    );
    // The repository has an object again, which may only open it.
    let repository = naming::repository(&app, "default");
    world
        .until("the object of the repository", async |w| {
            let found = w.api::<ResticRepository>().get_opt(&repository).await;
            (found.unwrap()?.spec.open_only == Some(true)).then_some(())
        })
        .await;
    let made = world.stored(&format!("{}/config", layout::repository(&app)));
    assert!(!made.exists(), "a restore makes no repository");
    // Only the emptyDir can be filled; the claim is still waited for, and it is said.
    world
        .until("a condition that says what is waited for", async |w| {
            let conditions = w.status("r").await.conditions;
            let waiting = condition::get(&conditions, kind::WAITING)?;
            (waiting.status == "True").then_some(())
        })
        .await;
    world.provision("data").await;

    let fills = world.fills(2).await;
    assert_eq!(fills.len(), 2);
    for fill in &fills {
        let spec = &fill.spec;
        assert_eq!(
            (spec.node.as_str(), spec.pod.uid.as_str()),
            (world.node.as_str(), uid)
        );
        assert_eq!(spec.snapshot_id, "ab".repeat(32));
        assert_eq!(spec.source_namespace, app);
        assert_eq!(spec.uploader_type.as_deref(), Some("restic"));
        assert_eq!(spec.claim.is_some(), spec.volume == "data");
        let owner = &fill.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Restore", "r"));
    }
    world.end(&fills[0], VolumePhase::Completed, "").await;
    assert!(
        world
            .get("deployments.apps", Some(&app), "web")
            .await
            .is_none()
    );
    world.end(&fills[1], VolumePhase::Completed, "").await;

    let (phase, status) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    assert_eq!((status.errors, status.attempt), (Some(0), Some(1)));
    let volumes = status.volumes.unwrap();
    assert_eq!(
        (
            volumes.total,
            volumes.completed,
            volumes.failed,
            volumes.bytes
        ),
        (2, 2, 0, 84)
    );
    let progress = status.progress.unwrap();
    assert_eq!(progress.total_items, progress.items_restored);
    assert_eq!(status.backup_name.as_deref(), Some("b"));
    assert!(condition::is_true(&status.conditions, kind::FINISHED));

    let namespace = world.get("namespaces", None, &app).await.unwrap();
    assert_eq!(namespace["metadata"]["labels"]["team"], "blue");
    let made = world
        .get("persistentvolumeclaims", Some(&app), "data")
        .await
        .unwrap();
    assert_ne!(made["spec"]["volumeName"], "pv-before", "a new volume");
    assert_eq!(made["metadata"]["labels"][label::RESTORE_NAME], "r");
    // The restored pod is adopted; nobody makes a second one.
    world
        .until("the pod's adoption", async |w| {
            let pod = w.get("pods", Some(&app), &name).await?;
            let owner = pod.pointer("/metadata/ownerReferences/0/kind")?.clone();
            (owner == "ReplicaSet").then_some(())
        })
        .await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &app);
    assert_eq!(
        pods.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
    let deployment = world
        .get("deployments.apps", Some(&app), "web")
        .await
        .unwrap();
    assert_eq!(deployment["spec"]["replicas"], 1);
    for path in [
        layout::restore_logs("r"),
        layout::restore_results("r"),
        layout::restore_resource_list("r"),
    ] {
        assert!(world.stored(&path).exists(), "{path}");
    }
    assert_eq!(
        world.action("r", "configmaps", "settings"),
        ItemAction::Created
    );
    assert_eq!(
        world.action("r", "configmaps", "kube-root-ca.crt"),
        ItemAction::Skipped
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_never_binds_ends_with_its_reason() {
    let world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world
        .restore(
            "r",
            json!({"backupName": "b", "itemOperationTimeout": "4s"}),
        )
        .await;
    world.schedule(&name, &world.node).await;
    let fill = world.fills(1).await.remove(0);
    assert_eq!(fill.spec.volume, "logs");
    world.end(&fill, VolumePhase::Completed, "").await;
    world
        .until("the reason for waiting", async |w| {
            let conditions = w.status("r").await.conditions;
            let waiting = condition::get(&conditions, kind::WAITING)?;
            (waiting.status == "True" && waiting.reason == reason::CLAIM_NOT_BOUND).then_some(())
        })
        .await;
    let (phase, status) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    let why = status.failure_reason.unwrap();
    assert!(
        why.contains("ClaimNotBound") && why.contains("storage class manual"),
        "{why}"
    );
    let volumes = status.volumes.unwrap();
    assert_eq!((volumes.completed, volumes.failed), (1, 1));
    assert!(!condition::is_true(&status.conditions, kind::WAITING));
    // The gate need not wait for its own deadline, whenever it starts.
    let pod = world.get("pods", Some(&app), &name).await.unwrap();
    let told = pod["metadata"]["annotations"][annotation::GAVE_UP].as_str();
    assert!(told.unwrap().contains("ClaimNotBound"), "{told:?}");

    // Its controller makes no pod with an empty volume, and says how many it should have.
    let deployment = world
        .get("deployments.apps", Some(&app), "web")
        .await
        .unwrap();
    assert_eq!(deployment["spec"]["replicas"], 0);
    assert_eq!(
        deployment["metadata"]["annotations"][annotation::WANTED_REPLICAS],
        "1"
    );
    let row = world.row("r", "deployments.apps", "web");
    assert!(
        row.message.contains("no replicas instead of 1"),
        "{}",
        row.message
    );
    let results = world.outcome("r");
    assert!(
        results.warnings.namespaces[&app]
            .iter()
            .any(|w| w.contains("no replicas"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_lost_in_the_middle_hands_out_no_empty_volume() {
    let world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule(&name, &world.node).await;
    world.provision("data").await;
    let fills = world.fills(2).await;
    // The directory goes, and nobody can make it again.
    let store = world.stored("");
    let away = world.stored("../away");
    std::fs::rename(&store, &away).unwrap();
    std::fs::write(store.to_str().unwrap().trim_end_matches('/'), "in the way").unwrap();
    for fill in &fills {
        world
            .end(fill, VolumePhase::Failed, "the store does not answer")
            .await;
    }
    let (phase, status) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    assert!(
        status.errors.unwrap() >= 3,
        "two volumes and the artefacts: {status:?}"
    );
    // The gate is still there, and no controller makes pods without one.
    let pod = world.get("pods", Some(&app), &name).await.unwrap();
    assert!(gate(&pod).is_some());
    let deployment = world
        .get("deployments.apps", Some(&app), "web")
        .await
        .unwrap();
    assert_eq!(deployment["spec"]["replicas"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_goes_on_where_it_was() {
    let mut world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule(&name, &world.node).await;
    world.provision("data").await;
    let fills = world.fills(2).await;
    world.kill_operator();
    // Finished while nobody looked.
    world.end(&fills[0], VolumePhase::Completed, "").await;
    let before = world.get("pods", Some(&app), &name).await.unwrap();
    world.start_operator();
    world
        .until("a second attempt", async |w| {
            (w.status("r").await.attempt == Some(2)).then_some(())
        })
        .await;
    world.end(&fills[1], VolumePhase::Completed, "").await;
    let (phase, status) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    assert_eq!(status.volumes.unwrap().completed, 2);
    // Its own objects are its own, and nothing was made or filled twice.
    for (resource, name) in [
        ("pods", name.as_str()),
        ("configmaps", "settings"),
        ("persistentvolumeclaims", "data"),
    ] {
        assert_eq!(
            world.action("r", resource, name),
            ItemAction::Created,
            "{resource}"
        );
    }
    let after = world.get("pods", Some(&app), &name).await.unwrap();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(world.fills(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_restore_cancels_it() {
    let world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule(&name, &world.node).await;
    world.fills(1).await;
    world
        .api::<Restore>()
        .delete("r", &DeleteParams::default())
        .await
        .unwrap();
    world
        .until("the end of its volume restores", async |w| {
            let left = w
                .api::<PodVolumeRestore>()
                .list(&ListParams::default())
                .await
                .unwrap();
            left.items.is_empty().then_some(())
        })
        .await;
    // The gate of its pod is told, so nobody waits for hours.
    world
        .until("a word to the gate", async |w| {
            let pod = w.get("pods", Some(&app), &name).await?;
            let told = pod["metadata"]["annotations"][annotation::GAVE_UP].as_str()?;
            told.contains("restore r was deleted").then_some(())
        })
        .await;
    // The next restore is served, so the cancelled one holds nothing up.
    world.restore("next", json!({"backupName": "nobody"})).await;
    world.finished("next").await;
    assert!(
        world
            .get("deployments.apps", Some(&app), "web")
            .await
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_of_a_restore_deleted_while_no_operator_ran_are_told() {
    let mut world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule(&name, &world.node).await;
    world.fills(1).await;
    world.kill_operator();
    let api = world.api::<Restore>();
    api.delete("r", &DeleteParams::default()).await.unwrap();
    // Whatever holds its end up belongs to an operator that is away.
    let bare = json!({"metadata": {"finalizers": null}});
    drop(
        api.patch("r", &PatchParams::default(), &Patch::Merge(bare))
            .await,
    );
    world.start_operator();
    world
        .until("a word to the gate", async |w| {
            let pod = w.get("pods", Some(&app), &name).await?;
            let told = pod["metadata"]["annotations"][annotation::GAVE_UP].as_str()?;
            told.contains("was deleted").then_some(())
        })
        .await;
}
