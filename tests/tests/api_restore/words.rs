//! Words of restores: every form is known, and what the backup does not hold is refused.

use ark_api::restore::RestorePhase;
use serde_json::json;

use crate::world::{World, claim, config_map, pod};

#[tokio::test(flavor = "multi_thread")]
async fn words_of_restores_are_those_of_backups() {
    let world = World::start().await;
    let app = world.app.clone();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": app}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": app},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
    world
        .stored_backup(
            "b",
            &[config_map(&app, "c", "v"), secret, deployment],
            json!([]),
        )
        .await;
    let cases = [
        ("cm", json!({"includedResources": ["CM"]}), "c"),
        ("kind", json!({"includedResources": ["ConfigMaps"]}), "c"),
        (
            "group",
            json!({"includedResources": ["Deployment.apps"]}),
            "d",
        ),
        ("short", json!({"includedResources": ["deploy.apps"]}), "d"),
        (
            "exclude",
            json!({"excludedResources": ["Secrets", "deploy"]}),
            "c",
        ),
    ];
    for (name, spec, _) in &cases {
        let mut spec = spec.clone();
        spec["backupName"] = json!("b");
        spec["namespaceMapping"] = json!({app.clone(): format!("{app}-{name}")});
        world.restore(name, spec).await;
    }
    for (name, _, only) in cases {
        let (phase, _) = world.finished(name).await;
        assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome(name));
        let mut found: Vec<String> = world
            .outcome(name)
            .items
            .into_iter()
            .map(|row| row.name)
            .collect();
        found.retain(|name| !name.starts_with("app-"));
        assert_eq!(found, [only], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backup_does_not_hold_is_refused_before_anything_is_written() {
    let world = World::start().await;
    let app = world.app.clone();
    let other = format!("{app}-other");
    let target = format!("{app}-target");
    let objects = [
        config_map(&app, "c", "v"),
        config_map(&other, "c", "w"),
        claim(&app, "data", "ReadWriteOnce"),
        claim(&other, "data", "ReadWriteOnce"),
    ];
    world.stored_backup("b", &objects, json!([])).await;
    let cases = [
        (
            "include",
            json!({"includedResources": ["cm", "nosuch"]}),
            "\"nosuch\"",
        ),
        (
            "exclude",
            json!({"excludedResources": ["Secretz"]}),
            "\"Secretz\"",
        ),
        (
            "namespace",
            json!({"includedNamespaces": ["wep"]}),
            "\"wep\"",
        ),
        (
            "mapping",
            json!({"namespaceMapping": {"wep": target}}),
            "\"wep\"",
        ),
        (
            "merge",
            json!({"namespaceMapping": {app.clone(): target, other.clone(): target}}),
            "would all become",
        ),
        (
            "onto",
            json!({"namespaceMapping": {app.clone(): other}}),
            "persistentvolumeclaims data",
        ),
    ];
    for (name, spec, _) in &cases {
        let mut spec = spec.clone();
        spec["backupName"] = json!("b");
        world.restore(name, spec).await;
    }
    for (name, _, text) in cases {
        let (phase, status) = world.finished(name).await;
        assert_eq!(phase, RestorePhase::FailedValidation, "{name}");
        let errors = status.validation_errors;
        assert!(errors.iter().any(|why| why.contains(text)), "{errors:?}");
    }
    for namespace in [&app, &other, &target] {
        assert!(world.get("namespaces", None, namespace).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_lacks_is_named() {
    let world = World::start().await;
    let app = world.app.clone();
    let mut web = pod(&app, "web", &[("scratch", "")]);
    web["spec"]["volumes"].as_array_mut().unwrap().extend([
        json!({"name": "a", "configMap": {"name": "there"}}),
        json!({"name": "b", "configMap": {"name": "gone"}}),
        json!({"name": "c", "configMap": {"name": "spare", "optional": true}}),
    ]);
    world
        .stored_backup("b", &[web, config_map(&app, "there", "v")], json!([]))
        .await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.finished("r").await;
    let warnings = world.outcome("r").warnings.namespaces.remove(&app).unwrap();
    let named = |name: &str| {
        warnings
            .iter()
            .any(|text| text.contains(&format!("configmaps {name}")))
    };
    assert!(named("gone"), "{warnings:?}");
    assert!(!named("there") && !named("spare"), "{warnings:?}");
}
