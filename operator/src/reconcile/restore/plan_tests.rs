//! Plans from small bundles.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;
use crate::apply::volumes::stock::LackKind;
use crate::bundle::read::{Limits, spool};
use crate::reconcile::restore::validate;

/// Resource, object.
pub(in crate::reconcile::restore) fn bundle(objects: &[(&str, Value)]) -> Spool {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    let mut builder = tar::Builder::new(&mut gz);
    for (resource, object) in objects {
        let name = transform::name(object);
        let path = match text(object, "/metadata/namespace") {
            Some(namespace) => format!("resources/{resource}/namespaces/{namespace}/{name}.json"),
            None => format!("resources/{resource}/cluster/{name}.json"),
        };
        let bytes = serde_json::to_vec(object).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder
            .append_data(&mut header, path, bytes.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap();
    let bytes = gz.finish().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(bytes.as_slice(), directory.path(), Limits::default()).unwrap();
    assert_eq!(spool.rejected(), []);
    spool
}

fn object(kind: &str, namespace: &str, name: &str, more: Value) -> Value {
    let mut object = more;
    let version = match kind {
        "Deployment" | "ReplicaSet" => "apps/v1",
        "Job" => "batch/v1",
        "Widget" => "example.org/v1",
        _ => "v1",
    };
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!(name);
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

const CRB: &str = "clusterrolebindings.rbac.authorization.k8s.io";

#[expect(clippy::too_many_lines, reason = "a table of objects")]
fn application() -> Vec<(&'static str, Value)> {
    let owner = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": true}]);
    vec![
        ("namespaces", object("Namespace", "", "web", json!({}))),
        ("namespaces", object("Namespace", "", "db", json!({}))),
        (
            "pods",
            object(
                "Pod",
                "web",
                "nginx-1",
                json!({
                    "metadata": {"labels": {"app": "nginx"}, "ownerReferences": owner("ReplicaSet", "nginx-rs"),
                                 "annotations": {"post.hook.restore.velero.io/command": "x"}},
                    "spec": {"serviceAccountName": "default", "volumes": [
                        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                        {"name": "logs", "emptyDir": {}}]},
                }),
            ),
        ),
        (
            "pods",
            object(
                "Pod",
                "web",
                "done",
                json!({"status": {"phase": "Succeeded"}}),
            ),
        ),
        (
            "replicasets.apps",
            object(
                "ReplicaSet",
                "web",
                "nginx-rs",
                json!({
            "metadata": {"ownerReferences": owner("Deployment", "nginx")}}),
            ),
        ),
        (
            "deployments.apps",
            object("Deployment", "web", "nginx", json!({})),
        ),
        (
            "serviceaccounts",
            object("ServiceAccount", "web", "default", json!({})),
        ),
        (
            "serviceaccounts",
            object("ServiceAccount", "web", "other", json!({})),
        ),
        ("configmaps", object("ConfigMap", "web", "c", json!({}))),
        ("configmaps", object("ConfigMap", "db", "c", json!({}))),
        (
            "persistentvolumeclaims",
            object(
                "PersistentVolumeClaim",
                "web",
                "data",
                json!({
            "spec": {"volumeName": "pv-data", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}}),
            ),
        ),
        (
            "persistentvolumeclaims",
            object(
                "PersistentVolumeClaim",
                "web",
                "static",
                json!({
            "spec": {"volumeName": "pv-static"}}),
            ),
        ),
        (
            "persistentvolumeclaims",
            object(
                "PersistentVolumeClaim",
                "web",
                "gone",
                json!({
            "spec": {"volumeName": "pv-gone"}}),
            ),
        ),
        (
            "persistentvolumes",
            object(
                "PersistentVolume",
                "",
                "pv-data",
                json!({
            "spec": {"persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "web", "name": "data"}}}),
            ),
        ),
        (
            "persistentvolumes",
            object(
                "PersistentVolume",
                "",
                "pv-static",
                json!({
            "spec": {"persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "web", "name": "static"}}}),
            ),
        ),
        (
            "persistentvolumes",
            object(
                "PersistentVolume",
                "",
                "pv-gone",
                json!({
            "spec": {"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "web", "name": "gone"}}}),
            ),
        ),
        (
            "storageclasses.storage.k8s.io",
            object("StorageClass", "", "fast", json!({})),
        ),
        (
            "storageclasses.storage.k8s.io",
            object("StorageClass", "", "slow", json!({})),
        ),
        (
            CRB,
            object(
                "ClusterRoleBinding",
                "",
                "web-binding",
                json!({
            "subjects": [{"kind": "ServiceAccount", "namespace": "web", "name": "default"}],
            "roleRef": {"kind": "ClusterRole", "name": "reader"}}),
            ),
        ),
        (
            "clusterroles.rbac.authorization.k8s.io",
            object("ClusterRole", "", "reader", json!({})),
        ),
        (
            "clusterroles.rbac.authorization.k8s.io",
            object("ClusterRole", "", "unrelated", json!({})),
        ),
        (
            "widgets.example.org",
            object("Widget", "db", "w", json!({})),
        ),
        (
            "customresourcedefinitions.apiextensions.k8s.io",
            object(
                "CustomResourceDefinition",
                "",
                "widgets.example.org",
                json!({}),
            ),
        ),
        ("nodes", object("Node", "", "n1", json!({}))),
    ]
}

fn stock() -> Stock {
    let row = |volume: &str, claim: Option<&str>| {
        serde_json::from_value(
            json!({"namespace": "web", "pod": "nginx-1", "volume": volume,
            "claim": claim, "class": "taken", "method": "files", "reason": "Completed",
            "snapshotID": "a".repeat(64)}),
        )
        .unwrap()
    };
    Stock::read(Some(&[row("data", Some("data")), row("logs", None)]), &[])
}

fn run(spec: Value) -> Plan {
    let mut spec = spec;
    spec["backupName"] = json!("b");
    let order = validate::check(&serde_json::from_value(spec).unwrap()).unwrap();
    make(&bundle(&application()), &order, &stock()).unwrap()
}

fn chosen(plan: &Plan) -> Vec<String> {
    plan.resources
        .iter()
        .flat_map(|(resource, entries)| {
            let plural = resource.split('.').next().unwrap();
            entries
                .iter()
                .map(move |e| format!("{plural}:{}/{}", e.namespace, e.name))
        })
        .collect()
}

#[test]
fn everything_in_order() {
    let plan = run(json!({}));
    assert_eq!(
        chosen(&plan),
        [
            "customresourcedefinitions:/widgets.example.org",
            "namespaces:/db",
            "namespaces:/web",
            "storageclasses:/fast",
            "storageclasses:/slow",
            "persistentvolumes:/pv-data",
            "persistentvolumes:/pv-gone",
            "persistentvolumes:/pv-static",
            "persistentvolumeclaims:web/data",
            "persistentvolumeclaims:web/gone",
            "persistentvolumeclaims:web/static",
            "clusterroles:/reader",
            "clusterroles:/unrelated",
            "serviceaccounts:web/default",
            "serviceaccounts:web/other",
            "clusterrolebindings:/web-binding",
            "configmaps:db/c",
            "configmaps:web/c",
            "pods:web/nginx-1",
            "replicasets:web/nginx-rs",
            "deployments:web/nginx",
            "widgets:db/w",
        ]
    );
    assert_eq!(plan.len(), 22);
    assert_eq!(plan.never, BTreeMap::from([("nodes".to_owned(), 1)]));
    let mut skipped: Vec<_> = plan.skipped.iter().map(|s| s.name.as_str()).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["done"]);
    assert_eq!(plan.namespaces, BTreeSet::from(["db".into(), "web".into()]));
}

#[test]
fn claims_and_pods() {
    let plan = run(json!({}));
    let claim = |name: &str| &plan.claims[&("web".to_owned(), name.to_owned())];
    assert!(claim("data").lack.is_none() && claim("data").shared && claim("data").chosen);
    assert_eq!(claim("data").class.as_deref(), Some("fast"));
    assert_eq!(claim("static").disk.as_deref(), Some("pv-static"));
    let lack = claim("gone").lack.as_ref().unwrap();
    assert_eq!(lack.kind, LackKind::Unprotected);
    assert!(!claim("gone").shared);
    assert!(plan.disks["pv-static"].retain && !plan.disks["pv-gone"].retain);
    assert_eq!(plan.pods.len(), 1);
    let pod = &plan.pods[0];
    assert_eq!(pod.wanted.len(), 2);
    let owners: Vec<_> = pod
        .owners
        .iter()
        .map(|o| format!("{}/{}", o.2, o.3))
        .collect();
    assert_eq!(owners, ["Deployment/nginx", "ReplicaSet/nginx-rs"]);
    assert_eq!(plan.hooked, [("web".to_owned(), "nginx-1".to_owned())]);
}

#[test]
fn one_namespace_with_what_it_needs_of_the_cluster() {
    let plan = run(json!({"includedNamespaces": ["web"]}));
    let all = chosen(&plan);
    for wanted in [
        "namespaces:/web",
        "persistentvolumes:/pv-static",
        "storageclasses:/fast",
        "clusterrolebindings:/web-binding",
        "clusterroles:/reader",
        "configmaps:web/c",
    ] {
        assert!(all.iter().any(|x| x == wanted), "{wanted}: {all:?}");
    }
    for unwanted in [
        "namespaces:/db",
        "storageclasses:/slow",
        "clusterroles:/unrelated",
        "configmaps:db/c",
        "widgets:db/w",
        "customresourcedefinitions:/widgets.example.org",
    ] {
        assert!(!all.iter().any(|x| x == unwanted), "{unwanted}");
    }
    // Not chosen, so not worth a row either.
    assert!(plan.skipped.iter().all(|s| s.name != "w"));

    let db = chosen(&run(json!({"includedNamespaces": ["db"]})));
    assert!(db.contains(&"customresourcedefinitions:/widgets.example.org".to_owned()));
    assert!(!db.iter().any(|x| x.starts_with("clusterrolebindings")));
}

#[test]
fn cluster_resources_by_word() {
    let none = run(json!({"includeClusterResources": false}));
    let namespaced = |x: &String| !x.contains(":/") || x.starts_with("namespaces:");
    assert!(chosen(&none).iter().all(namespaced));
    assert!(none.disks.is_empty(), "they are not restored");

    let all = chosen(&run(
        json!({"includedNamespaces": ["db"], "includeClusterResources": true}),
    ));
    assert!(all.contains(&"clusterroles:/unrelated".to_owned()));
}

#[test]
fn a_selector_brings_what_pods_need() {
    let plan = run(json!({"labelSelector": {"matchLabels": {"app": "nginx"}}}));
    assert_eq!(
        chosen(&plan),
        [
            "namespaces:/web",
            "storageclasses:/fast",
            "persistentvolumes:/pv-data",
            "persistentvolumeclaims:web/data",
            "serviceaccounts:web/default",
            "pods:web/nginx-1",
        ]
    );
    assert_eq!(plan.pods.len(), 1);
}

#[test]
fn excluded_resources_stay_out_even_if_needed() {
    let all = chosen(&run(
        json!({"excludedResources": ["serviceaccounts", "pods"]}),
    ));
    assert!(
        !all.iter()
            .any(|x| x.starts_with("serviceaccounts") || x.starts_with("pods"))
    );
    assert!(all.contains(&"deployments:web/nginx".to_owned()));

    let only = run(json!({"includedResources": ["configmaps"], "includedNamespaces": ["web"]}));
    assert_eq!(chosen(&only), ["namespaces:/web", "configmaps:web/c"]);
    assert!(only.pods.is_empty());
}

#[test]
fn pods_of_a_restored_job_are_made_by_the_job() {
    let owner =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "long", "controller": true}]);
    let pod = |name: &str| {
        let more = json!({"metadata": {"ownerReferences": owner}, "spec": {"volumes": [{"name": "logs", "emptyDir": {}}]}});
        ("pods", object("Pod", "web", name, more))
    };
    let job = |status: Value| {
        (
            "jobs.batch",
            object("Job", "web", "long", json!({"status": status})),
        )
    };
    let plan = |job: (&'static str, Value)| {
        let spec = serde_json::from_value(json!({"backupName": "b"})).unwrap();
        let order = validate::check(&spec).unwrap();
        make(
            &bundle(&[job, pod("plain"), pod("nginx-1")]),
            &order,
            &stock(),
        )
        .unwrap()
    };
    let running = plan(job(json!({})));
    let skipped: Vec<_> = running.skipped.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(skipped, ["plain"]);
    // One with files to restore is made, and its Job takes it up.
    assert_eq!(running.pods.len(), 1);
    assert_eq!(running.pods[0].name, "nginx-1");
    // The pod of a Job that is not restored is nobody's.
    let finished = plan(job(
        json!({"conditions": [{"type": "Complete", "status": "True"}]}),
    ));
    assert_eq!(finished.skipped.len(), 1);
    assert!(chosen(&finished).contains(&"pods:web/plain".to_owned()));
}
