//! Which disk a restored claim gets: its own, a new one, never another's.

use ark_api::annotation;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::pod_volume_restore::WhenNotEmpty;
use ark_api::restore::RestorePhase;
use ark_api::results::ItemAction;
use serde_json::{Value, json};

use crate::world::{World, gate, pod, taken};

/// A PersistentVolume made by hand.
fn disk(world: &World, name: &str, claim: &Value) -> Value {
    let class = format!("by-hand-{}", world.app);
    json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": format!("{name}-{}", world.app), "labels": {"disk": name}},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": class,
            "hostPath": {"path": format!("/nowhere/{name}")}, "claimRef": claim}})
}

/// A claim as it was when it was bound to `disk`.
fn claim(world: &World, name: &str, disk: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": world.app, "uid": format!("uid-{name}")},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": format!("by-hand-{}", world.app),
            "volumeName": format!("{disk}-{}", world.app), "resources": {"requests": {"storage": "1Gi"}}}})
}

fn holder(world: &World, claim: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": world.app, "name": claim,
        "uid": format!("uid-{claim}")})
}

async fn bound_to(world: &World, claim: &str) -> String {
    world
        .until(&format!("a bound claim {claim}"), async |w| {
            let claim = w.get("persistentvolumeclaims", Some(&w.app), claim).await?;
            (claim["status"]["phase"] == "Bound").then(|| {
                let name = claim["spec"]["volumeName"].as_str().unwrap();
                name.split('-').next().unwrap().to_owned()
            })
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_get_their_own_retained_disks_back_with_the_data_they_hold() {
    let world = World::start().await;
    let app = world.app.clone();
    // The first is free, the second still belongs to the claim that is gone.
    world
        .make("persistentvolumes", disk(&world, "free", &json!(null)))
        .await;
    world
        .make(
            "persistentvolumes",
            disk(&world, "released", &holder(&world, "two")),
        )
        .await;
    let objects = [
        disk(&world, "free", &holder(&world, "one")),
        disk(&world, "released", &holder(&world, "two")),
        claim(&world, "one", "free"),
        claim(&world, "two", "released"),
        pod(&app, "web", &[("a", "one"), ("b", "two")]),
    ];
    let rows = json!([
        taken(&app, "web", "a", Some("one")),
        // Nothing of this one is in the backup, and nothing of it is lost.
        {"namespace": app, "pod": "web", "volume": "b", "claim": "two", "class": "unprotected",
         "reason": "NotAnnotated"},
    ]);
    world.stored_backup("b", &objects, rows).await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("web", &world.node).await;
    assert_eq!(bound_to(&world, "one").await, "free");
    assert_eq!(bound_to(&world, "two").await, "released");
    let fill = world.fills(1).await.remove(0);
    assert_eq!(
        fill.spec.when_not_empty,
        WhenNotEmpty::Keep,
        "its own data is newer"
    );
    world.keep(&fill).await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    let row = world.row("r", "podvolumerestores.ark.heptio.com", "web/a");
    assert_eq!(row.action, ItemAction::Kept);
    assert!(
        row.message.contains("held files already"),
        "{}",
        row.message
    );
    let made = world
        .get("persistentvolumeclaims", Some(&app), "one")
        .await
        .unwrap();
    assert!(made["metadata"]["annotations"][annotation::AWAITS_DATA].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_made_by_hand_that_is_gone_is_made_again_and_filled() {
    let world = World::start().await;
    let app = world.app.clone();
    let mut stored = claim(&world, "data", "lost");
    stored["spec"]["selector"] = json!({"matchLabels": {"disk": "lost"}});
    let objects = [
        disk(&world, "lost", &holder(&world, "data")),
        stored,
        pod(&app, "web", &[("d", "data")]),
    ];
    let rows = json!([taken(&app, "web", "d", Some("data"))]);
    world.stored_backup("b", &objects, rows).await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("web", &world.node).await;
    assert_eq!(bound_to(&world, "data").await, "lost");
    let fill = world.fills(1).await.remove(0);
    world.end(&fill, VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_no_disk_of_the_original_and_a_disk_of_another_claim_is_left_alone() {
    let world = World::start().await;
    let app = world.app.clone();
    let original = format!("original-{app}");
    let belongs = |namespace: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": "data",
            "uid": "uid-data"})
    };
    // One disk of the original's, one that somebody else has by now.
    let kept = disk(&world, "kept", &belongs(&original));
    let other = disk(&world, "other", &belongs("somebody-else"));
    world.make("persistentvolumes", kept.clone()).await;
    world.make("persistentvolumes", other.clone()).await;
    let mut data = claim(&world, "data", "kept");
    data["metadata"]["namespace"] = json!(original);
    let mut taken_by_other = claim(&world, "second", "other");
    taken_by_other["metadata"]["namespace"] = json!(original);
    let objects = [
        kept,
        other,
        data,
        taken_by_other,
        pod(&original, "web", &[("d", "data"), ("s", "second")]),
    ];
    let rows = json!([
        taken(&original, "web", "d", Some("data")),
        taken(&original, "web", "s", Some("second"))
    ]);
    world.stored_backup("b", &objects, rows).await;
    let spec = json!({"backupName": "b", "namespaceMapping": {original.clone(): app},
        "itemOperationTimeout": "3s"});
    world.restore("r", spec).await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed, "no disk can be had");
    for (name, namespace) in [("kept", original.as_str()), ("other", "somebody-else")] {
        let name = format!("{name}-{app}");
        let disk = world.get("persistentvolumes", None, &name).await.unwrap();
        assert_eq!(disk["spec"]["claimRef"]["namespace"], namespace, "{name}");
        assert_eq!(disk["spec"]["claimRef"]["uid"], "uid-data", "{name}");
        assert_eq!(
            world.action("r", "persistentvolumes", &name),
            ItemAction::Kept
        );
    }
    let copy = world
        .get("persistentvolumeclaims", Some(&app), "data")
        .await
        .unwrap();
    assert!(copy["spec"]["volumeName"].is_null());
    // The pod stays held, and a later restore may fill the claim.
    assert!(gate(&world.get("pods", Some(&app), "web").await.unwrap()).is_some());
    assert!(!copy["metadata"]["annotations"][annotation::AWAITS_DATA].is_null());
}
