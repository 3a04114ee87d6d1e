//! Restores on a real API server, with the operator's real program and the chart's roles.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod world;

use ark_api::condition::{self, kind, reason};
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::restore::RestorePhase;
use ark_api::results::ItemAction;
use ark_api::{PodVolumeRestore, Restore, annotation, label, layout};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use world::{GATE_IMAGE, NODE, World, claim, config_map, gate, kubectl, pod, taken};

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
    world.backup(backup, &objects, rows).await;
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_application_comes_back_in_order() {
    let world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;

    // The pod comes first, held by its gate; no controller may make another one.
    world.schedule(&name, NODE).await;
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
        assert_eq!((spec.node.as_str(), spec.pod.uid.as_str()), (NODE, uid));
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
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.results("r"));
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
        .backup("b", &[config_map(&app, "c", "v")], json!([]))
        .await;
    let mut bytes = world::bundle(&[config_map(&app, "c", "v")]);
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
    world.schedule(&name, NODE).await;
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
    let results = world.results("r");
    assert!(
        results.warnings.namespaces[&app]
            .iter()
            .any(|w| w.contains("no replicas"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_agents_and_nodes_without_agent_are_rows() {
    let world = World::start().await;
    let app = world.app.clone();
    let pods = ["good", "failed", "lonely"].map(|name| pod(&app, name, &[("v", "")]));
    let rows: Vec<Value> = ["good", "failed", "lonely"]
        .map(|name| taken(&app, name, "v", None))
        .to_vec();
    world.backup("b", &pods, json!(rows)).await;
    world
        .make(
            "nodes",
            json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("no-agent-{app}")}}),
        )
        .await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("good", NODE).await;
    world.schedule("failed", NODE).await;
    world.schedule("lonely", &format!("no-agent-{app}")).await;
    for fill in world.fills(2).await {
        let good = fill.spec.pod.name == "good";
        let phase = if good {
            VolumePhase::Completed
        } else {
            VolumePhase::Failed
        };
        world.end(&fill, phase, "the snapshot is gone").await;
    }
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    let fill = |name: &str| {
        world.row(
            "r",
            "podvolumerestores.ark.heptio.com",
            &format!("{name}/v"),
        )
    };
    assert_eq!(fill("good").action, ItemAction::Created);
    assert!(fill("failed").message.contains("the snapshot is gone"));
    assert!(fill("lonely").message.contains("NoAgentOnNode"));
    assert_eq!(world.fills(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_is_kept_or_changed_as_asked() {
    let world = World::start().await;
    let app = world.app.clone();
    let objects = [
        config_map(&app, "same", "v"),
        config_map(&app, "different", "backup"),
        config_map(&app, "new", "v"),
        claim(&app, "data", "ReadWriteOnce"),
        pod(&app, "web", &[("data", "data")]),
        pod(&app, "other", &[("data", "data")]),
    ];
    let rows = json!([taken(&app, "web", "data", Some("data"))]);
    world.backup("b", &objects, rows).await;
    world
        .make(
            "namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app}}),
        )
        .await;
    world
        .make("configmaps", config_map(&app, "same", "v"))
        .await;
    world
        .make("configmaps", config_map(&app, "different", "cluster"))
        .await;
    let mut mine = claim(&app, "data", "ReadWriteOnce");
    mine["spec"].as_object_mut().unwrap().remove("volumeName");
    world.make("persistentvolumeclaims", mine).await;

    world.restore("keep", json!({"backupName": "b"})).await;
    let (phase, status) = world.finished("keep").await;
    assert_eq!(
        phase,
        RestorePhase::Completed,
        "{:#?}",
        world.results("keep")
    );
    assert!(status.warnings.unwrap() >= 2);
    assert_eq!(world.action("keep", "configmaps", "same"), ItemAction::Kept);
    assert_eq!(
        world.action("keep", "configmaps", "different"),
        ItemAction::Kept
    );
    assert_eq!(
        world.action("keep", "configmaps", "new"),
        ItemAction::Created
    );
    let warnings = world
        .results("keep")
        .warnings
        .namespaces
        .remove(&app)
        .unwrap();
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("configmaps") && w.contains("differs"))
    );
    // The existing claim's data is left alone, and nothing waits for it.
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("claim data existed before")),
        "{warnings:?}"
    );
    assert!(gate(&world.get("pods", Some(&app), "web").await.unwrap()).is_none());
    assert_eq!(status.volumes.unwrap_or_default().total, 0);

    world
        .restore(
            "update",
            json!({"backupName": "b", "existingResourcePolicy": "update",
            "includedResources": ["cm"]}),
        )
        .await;
    let (phase, _) = world.finished("update").await;
    assert_eq!(
        phase,
        RestorePhase::Completed,
        "{:#?}",
        world.results("update")
    );
    assert_eq!(
        world.action("update", "configmaps", "different"),
        ItemAction::Changed
    );
    assert_eq!(
        world.action("update", "configmaps", "same"),
        ItemAction::Kept
    );
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &app);
    let data = maps.get("different").await.unwrap().data.unwrap();
    assert_eq!(data["key"], "backup");
    assert!(
        world
            .results("update")
            .items
            .iter()
            .all(|row| row.resource != "pods")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_and_what_names_them_are_mapped() {
    let mut world = World::start().await;
    let from = format!("{}-before", world.app);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "rb", "namespace": from},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": from}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}});
    // A right the operator does not have itself: restoring it takes `escalate`.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": from},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}]});
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": from},
        "spec": {"clusterIP": "10.1.2.3", "clusterIPs": ["10.1.2.3"], "type": "NodePort",
                 "ports": [{"port": 80, "nodePort": 31999}], "selector": {"app": "web"}}});
    let objects = [binding, role, service, pod(&from, "web", &[("v", "")])];
    world
        .backup("b", &objects, json!([taken(&from, "web", "v", None)]))
        .await;
    world
        .restore(
            "r",
            json!({"backupName": "b", "namespaceMapping": {from.clone(): world.app}}),
        )
        .await;
    world.schedule("web", NODE).await;
    let fill = world.fills(1).await.remove(0);
    // From the repository of the old namespace into the pod of the new one.
    assert_eq!(fill.spec.source_namespace, from);
    assert_eq!(fill.spec.pod.namespace, world.app);
    world.end(&fill, VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.results("r"));
    assert!(world.get("namespaces", None, &from).await.is_none());
    let app = world.app.clone();
    let binding = world
        .get("rolebindings.rbac.authorization.k8s.io", Some(&app), "rb")
        .await
        .unwrap();
    assert_eq!(binding["subjects"][0]["namespace"], app);
    let service = world.get("services", Some(&app), "web").await.unwrap();
    assert_ne!(service["spec"]["clusterIP"], "10.1.2.3");
    assert_ne!(service["spec"]["ports"][0]["nodePort"], 31999);
    world.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_on_one_claim_share_one_restore() {
    let world = World::start().await;
    let app = world.app.clone();
    let objects = [
        claim(&app, "data", "ReadWriteOnce"),
        pod(&app, "a", &[("data", "data")]),
        pod(&app, "b", &[("files", "data"), ("own", "")]),
    ];
    let rows = json!([
        taken(&app, "a", "data", Some("data")),
        {"namespace": app, "pod": "b", "volume": "files", "claim": "data", "class": "taken",
         "method": "files", "reason": "TakenThroughOtherPod"},
    ]);
    world.backup("b", &objects, rows).await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("a", NODE).await;
    world.schedule("b", NODE).await;
    let second = world.get("pods", Some(&app), "b").await.unwrap();
    assert_eq!(
        gate(&second).as_deref(),
        Some("data"),
        "the name at the first pod"
    );
    world.provision("data").await;
    let fill = world.fills(1).await.remove(0);
    assert_eq!(fill.spec.pod.name, "a");
    let gates: Vec<_> = fill.spec.gates.iter().map(|pod| pod.uid.as_str()).collect();
    assert_eq!(gates, [second["metadata"]["uid"].as_str().unwrap()]);
    world.end(&fill, VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.results("r"));
    assert_eq!(world.fills(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_on_several_nodes_follow_the_first() {
    let world = World::start().await;
    let app = world.app.clone();
    let objects = [
        claim(&app, "data", "ReadWriteMany"),
        pod(&app, "a", &[("data", "data")]),
        pod(&app, "b", &[("data", "data")]),
    ];
    world
        .backup(
            "b",
            &objects,
            json!([taken(&app, "b", "data", Some("data"))]),
        )
        .await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.provision("data").await;
    world.schedule("a", NODE).await;
    let fill = world.fills(1).await.remove(0);
    assert!(fill.spec.gates.is_empty());
    assert!(
        world.get("pods", Some(&app), "b").await.is_none(),
        "not before the volume is full"
    );
    world.end(&fill, VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.results("r"));
    let second = world.get("pods", Some(&app), "b").await.unwrap();
    assert!(gate(&second).is_none(), "the volume is full already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_goes_on_where_it_was() {
    let mut world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule(&name, NODE).await;
    world.provision("data").await;
    let fills = world.fills(2).await;
    world.kill();
    // Finished while nobody looked.
    world.end(&fills[0], VolumePhase::Completed, "").await;
    let before = world.get("pods", Some(&app), &name).await.unwrap();
    world.expire_lease();
    world.operate();
    world
        .until("a second attempt", async |w| {
            (w.status("r").await.attempt == Some(2)).then_some(())
        })
        .await;
    world.end(&fills[1], VolumePhase::Completed, "").await;
    let (phase, status) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.results("r"));
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
async fn data_that_is_back_is_not_put_back_over_newer_data() {
    let mut world = World::start().await;
    let app = world.app.clone();
    let objects = [
        claim(&app, "data", "ReadWriteOnce"),
        pod(&app, "first", &[("data", "data")]),
        pod(&app, "second", &[("tmp", "")]),
    ];
    let rows = json!([
        taken(&app, "first", "data", Some("data")),
        taken(&app, "second", "tmp", None)
    ]);
    world.backup("b", &objects, rows).await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("first", NODE).await;
    world.schedule("second", NODE).await;
    world.provision("data").await;
    let fills = world.fills(2).await;
    let (data, tmp): (Vec<_>, Vec<_>) = fills.into_iter().partition(|f| f.spec.volume == "data");
    world.end(&data[0], VolumePhase::Completed, "").await;
    world
        .until("the row of the volume", async |w| {
            let done = w.status("r").await.volumes?.completed;
            (done == 1).then_some(())
        })
        .await;
    // The operator dies, and the first pod, long at work, is replaced by nobody.
    world.kill();
    kubectl(&[
        "delete",
        "pod",
        "-n",
        &app,
        "first",
        "--grace-period=0",
        "--force",
    ]);
    world.expire_lease();
    world.operate();
    world.schedule("first", NODE).await;
    world.end(&tmp[0], VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.results("r"));
    assert!(gate(&world.get("pods", Some(&app), "first").await.unwrap()).is_none());
    assert_eq!(world.fills(2).await.len(), 2, "no third one");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_restore_cancels_it() {
    let world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule(&name, NODE).await;
    world.fills(1).await;
    world
        .ark::<Restore>()
        .delete("r", &DeleteParams::default())
        .await
        .unwrap();
    world
        .until("the end of its volume restores", async |w| {
            let left = w
                .ark::<PodVolumeRestore>()
                .list(&ListParams::default())
                .await
                .unwrap();
            left.items.is_empty().then_some(())
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
async fn a_restore_with_an_origin_is_never_executed() {
    let world = World::start().await;
    let app = world.app.clone();
    world
        .backup("b", &[config_map(&app, "c", "v")], json!([]))
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
async fn custom_resources_come_after_their_definitions() {
    let world = World::start().await;
    let app = world.app.clone();
    let group = format!("{app}.example.org");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
        "status": {"conditions": []}});
    let widget = json!({"apiVersion": format!("{group}/v1"), "kind": "Widget",
        "metadata": {"name": "w", "namespace": app}, "spec": {"size": 3}});
    let unknown = json!({"apiVersion": "gone.example.org/v1", "kind": "Gadget",
        "metadata": {"name": "g", "namespace": app}});
    world
        .backup("b", &[definition, widget, unknown], json!([]))
        .await;
    world
        .restore("r", json!({"backupName": "b", "includedNamespaces": [app]}))
        .await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    assert_eq!(
        world.action("r", &format!("widgets.{group}"), "w"),
        ItemAction::Created
    );
    let row = world.row("r", "gadgets.gone.example.org", "g");
    assert!(
        row.action == ItemAction::Failed && row.message.contains("does not know"),
        "{row:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_going_away_is_waited_for() {
    let world = World::start().await;
    let app = world.app.clone();
    world
        .backup("b", &[config_map(&app, "c", "v")], json!([]))
        .await;
    world
        .make(
            "namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app}}),
        )
        .await;
    let mut held = config_map(&app, "holds", "v");
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    world.make("configmaps", held).await;
    kubectl(&["delete", "namespace", &app, "--wait=false"]);
    world.restore("r", json!({"backupName": "b"})).await;
    world
        .until("the reason for waiting", async |w| {
            let conditions = w.status("r").await.conditions;
            let waiting = condition::get(&conditions, kind::WAITING)?;
            (waiting.reason == reason::NAMESPACE_TERMINATING).then_some(())
        })
        .await;
    kubectl(&[
        "patch",
        "configmap",
        "-n",
        &app,
        "holds",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.results("r"));
    assert!(world.get("configmaps", Some(&app), "c").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_lost_in_the_middle_hands_out_no_empty_volume() {
    let world = World::start().await;
    let app = world.app.clone();
    let name = lost_application(&world, "b").await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule(&name, NODE).await;
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
