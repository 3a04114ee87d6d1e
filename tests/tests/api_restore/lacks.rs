//! What the backup lacks, what an earlier restore held, and what was there before.

use ark_api::annotation;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::restore::RestorePhase;
use ark_api::results::ItemAction;
use serde_json::{Value, json};

use crate::world::{World, claim, gate, kubectl, pod, taken};

fn deployment(namespace: &str, replicas: i64, volumes: &[(&str, &str)]) -> Value {
    let template = pod(namespace, "x", volumes);
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "worker", "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "worker"}},
            "template": {"metadata": {"labels": {"app": "worker"}}, "spec": template["spec"]}}})
}

async fn replicas(world: &World) -> Value {
    let found = world
        .get("deployments.apps", Some(&world.app), "worker")
        .await;
    found.unwrap()["spec"]["replicas"].clone()
}

/// Plays the kubelet for a pod that is being deleted.
async fn end_pod(world: &World, name: &str) {
    world
        .until(&format!("deletion of pod {name}"), async |w| {
            let pod = w.get("pods", Some(&w.app), name).await?;
            pod.pointer("/metadata/deletionTimestamp").map(|_| ())
        })
        .await;
    kubectl(&[
        "delete",
        "pod",
        "-n",
        &world.app,
        name,
        "--force",
        "--grace-period=0",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_whose_data_the_backup_lacks_are_held_until_the_user_accepts_that() {
    let world = World::start().await;
    let app = world.app.clone();
    let objects = [
        claim(&app, "full", "ReadWriteOnce"),
        claim(&app, "lost", "ReadWriteOnce"),
        claim(&app, "nobody", "ReadWriteOnce"),
        pod(&app, "both", &[("f", "full"), ("l", "lost")]),
        pod(&app, "none", &[("l", "lost")]),
        // Its pods are not in the backup, and would mount the empty claim.
        deployment(&app, 2, &[("l", "lost")]),
    ];
    let rows = json!([
        taken(&app, "both", "f", Some("full")),
        {"namespace": app, "pod": "both", "volume": "l", "claim": "lost", "class": "failed",
         "reason": "AgentError", "message": "the disk is broken"},
        {"namespace": app, "claim": "nobody", "class": "unprotected", "reason": "NotMounted"},
    ]);
    world.stored_backup("b", &objects, rows).await;
    world.restore("held", json!({"backupName": "b"})).await;
    world.schedule("both", &world.node).await;
    world.provision("full").await;
    world.provision("lost").await;
    let fill = world.fills(1).await.remove(0);
    world.end(&fill, VolumePhase::Completed, "").await;
    let (phase, status) = world.finished("held").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    assert_eq!(status.volumes.unwrap().failed, 2, "one volume of each pod");
    // What there is was put back, and the pod is told why it does not start.
    let both = world.get("pods", Some(&app), "both").await.unwrap();
    let command = both["spec"]["initContainers"][0]["command"].to_string();
    assert!(
        command.contains("--refuse") && command.contains("the disk is broken"),
        "{command}"
    );
    assert!(world.get("pods", Some(&app), "none").await.is_none());
    let row = world.row("held", "pods", "none");
    assert!(row.message.contains("not made"), "{}", row.message);
    assert_eq!(replicas(&world).await, 0);
    let errors = world
        .outcome("held")
        .errors
        .namespaces
        .remove(&app)
        .unwrap();
    assert!(
        errors.iter().any(|e| e.contains("nobody is empty")),
        "{errors:?}"
    );

    // In the cluster the gate has ended badly.
    world
        .gate_status(
            "both",
            json!({"terminated": {"exitCode": 1, "reason": "Error"}}),
        )
        .await;
    world
        .restore(
            "accepted",
            json!({"backupName": "b", "missingVolumeData": "accept"}),
        )
        .await;
    end_pod(&world, "both").await;
    let (phase, status) = world.finished("accepted").await;
    assert_eq!(
        phase,
        RestorePhase::Completed,
        "{:#?}",
        world.outcome("accepted")
    );
    assert!(status.warnings.unwrap() >= 2);
    let both = world.get("pods", Some(&app), "both").await.unwrap();
    assert!(gate(&both).is_none(), "its data is there");
    assert!(world.get("pods", Some(&app), "none").await.is_some());
    assert_eq!(replicas(&world).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_restore_held_is_filled_by_the_next() {
    let world = World::start().await;
    let app = world.app.clone();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app}});
    let objects = world
        .lose(
            &[
                ("namespaces", namespace),
                (
                    "persistentvolumeclaims",
                    claim(&app, "data", "ReadWriteOnce"),
                ),
                ("deployments.apps", deployment(&app, 1, &[("d", "data")])),
            ],
            &[
                "pods",
                "replicasets",
                "deployments",
                "persistentvolumeclaims",
            ],
            async |w| !kubectl(&["get", "pods", "-n", &w.app, "-o", "name"]).is_empty(),
        )
        .await;
    let name = objects[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let rows = json!([taken(&app, &name, "d", Some("data"))]);
    world.stored_backup("b", &objects, rows).await;
    world.restore("first", json!({"backupName": "b"})).await;
    world.schedule(&name, &world.node).await;
    world.provision("data").await;
    let fill = world.fills(1).await.remove(0);
    world
        .end(&fill, VolumePhase::Failed, "the store is gone")
        .await;
    let (phase, _) = world.finished("first").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    let held = world
        .get("deployments.apps", Some(&app), "worker")
        .await
        .unwrap();
    assert_eq!(held["spec"]["replicas"], 0);
    assert!(!held["metadata"]["annotations"][annotation::HELD_BY].is_null());
    // Its ReplicaSet removes the pod that waits in vain; the kubelet ends it.
    end_pod(&world, &name).await;

    world.restore("second", json!({"backupName": "b"})).await;
    world.schedule(&name, &world.node).await;
    let fills = world.fills(2).await;
    let again = fills.iter().find(|f| f.metadata.name != fill.metadata.name);
    world.end(again.unwrap(), VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("second").await;
    assert_eq!(
        phase,
        RestorePhase::Completed,
        "{:#?}",
        world.outcome("second")
    );
    let deployment = world
        .get("deployments.apps", Some(&app), "worker")
        .await
        .unwrap();
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert!(deployment["metadata"]["annotations"][annotation::HELD_BY].is_null());
    let claim = world
        .get("persistentvolumeclaims", Some(&app), "data")
        .await
        .unwrap();
    assert!(claim["metadata"]["annotations"][annotation::AWAITS_DATA].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_was_there_before_is_never_held() {
    let world = World::start().await;
    let app = world.app.clone();
    let live = |replicas| deployment(&app, replicas, &[("cache", "")]);
    let mut owned = pod(&app, "worker-old", &[("cache", "")]);
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": "worker-1", "uid": "u", "controller": true}]);
    let mut set = deployment(&app, 2, &[("cache", "")]);
    set["kind"] = json!("ReplicaSet");
    set["metadata"] = json!({"name": "worker-1", "namespace": app, "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker", "uid": "u", "controller": true}]});
    let mut files = claim(&app, "files", "ReadWriteOnce");
    files["metadata"]["annotations"] = json!({});
    let mut other = deployment(&app, 1, &[("f", "files")]);
    other["metadata"]["name"] = json!("reader");
    let objects = [
        live(2),
        set,
        owned,
        files,
        other.clone(),
        pod(&app, "writer", &[("f", "files")]),
    ];
    let rows = json!([
        taken(&app, "worker-old", "cache", None),
        taken(&app, "writer", "f", Some("files")),
    ]);
    world.stored_backup("b", &objects, rows).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app}});
    world.make("namespaces", namespace).await;
    world.make("deployments.apps", live(1)).await;
    world.make("deployments.apps", other).await;
    world
        .restore("r", json!({"backupName": "b", "existingResourcePolicy": "update", "itemOperationTimeout": "3s"}))
        .await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(replicas(&world).await, 2, "those of the backup");
    let row = world.row("r", "pods", "worker-old");
    assert_eq!(row.action, ItemAction::Skipped);
    assert!(row.message.contains("was there before"), "{}", row.message);
    // A claim whose files are in the backup is not handed empty to what lives.
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    let row = world.row("r", "persistentvolumeclaims", "files");
    assert!(row.message.contains("deployment reader"), "{}", row.message);
    assert!(
        world
            .get("persistentvolumeclaims", Some(&app), "files")
            .await
            .is_none()
    );
}
