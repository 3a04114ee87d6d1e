//! Objects: those that exist, those that move, those of kinds that have to come first.

use ark_api::condition::{self, kind, reason};
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::restore::RestorePhase;
use ark_api::results::ItemAction;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::json;

use crate::world::{World, claim, config_map, gate, kubectl, pod, taken};

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
    world.stored_backup("b", &objects, rows).await;
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
        world.outcome("keep")
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
        .outcome("keep")
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
        world.outcome("update")
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
            .outcome("update")
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
        .stored_backup("b", &objects, json!([taken(&from, "web", "v", None)]))
        .await;
    world
        .restore(
            "r",
            json!({"backupName": "b", "namespaceMapping": {from.clone(): world.app}}),
        )
        .await;
    world.schedule("web", &world.node).await;
    let fill = world.fills(1).await.remove(0);
    // From the repository of the old namespace into the pod of the new one.
    assert_eq!(fill.spec.source_namespace, from);
    assert_eq!(fill.spec.pod.namespace, world.app);
    world.end(&fill, VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
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
    world.kill_operator();
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
        .stored_backup("b", &[definition, widget, unknown], json!([]))
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
        .stored_backup("b", &[config_map(&app, "c", "v")], json!([]))
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
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    assert!(world.get("configmaps", Some(&app), "c").await.is_some());
}
