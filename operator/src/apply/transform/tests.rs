//! Tables: an object as it was stored, and as it is applied.

use serde_json::{Value, json};

use super::*;

fn mapping() -> BTreeMap<String, String> {
    BTreeMap::from([("web".to_owned(), "web2".to_owned())])
}

fn apply_with(resource: &str, object: Value, binding: Binding) -> Value {
    let namespaces = mapping();
    let rules = Rules {
        namespaces: &namespaces,
        preserve_node_ports: false,
        status_is_data: false,
    };
    let once = restored(resource, object, rules, binding);
    let none = BTreeMap::new();
    let rules = Rules {
        namespaces: &none,
        preserve_node_ports: false,
        status_is_data: false,
    };
    let twice = normalize(resource, once.clone(), rules, binding);
    assert_eq!(once, twice, "normalising {resource} again changes nothing");
    once
}

fn apply(resource: &str, object: Value) -> Value {
    apply_with(resource, object, Binding::Fresh)
}

#[test]
fn metadata_keeps_what_the_user_wrote() {
    let got = apply(
        "configmaps",
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "c", "namespace": "web", "generateName": "c-", "uid": "u",
                "resourceVersion": "5", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
                "selfLink": "/x", "ownerReferences": [{"kind": "Foo", "name": "f"}],
                "managedFields": [{}], "finalizers": ["example.org/x"],
                "labels": {"app": "x", label::RESTORE_NAME: "old", "velero.io/backup-name": "b"},
                "annotations": {"note": "y", annotation::RESTORE_UID: "old"},
            },
            "data": {"k": "v"}, "status": {"x": 1},
        }),
    );
    assert_eq!(
        got,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "c", "generateName": "c-", "namespace": "web2", "labels": {"app": "x"},
                "annotations": {"note": "y"}, "finalizers": ["example.org/x"],
            },
            "data": {"k": "v"},
        })
    );
}

#[test]
fn namespaces_take_their_new_name() {
    let got = apply(
        "namespaces",
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "web", "labels": {"kubernetes.io/metadata.name": "web", "team": "a"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        }),
    );
    assert_eq!(
        got["metadata"],
        json!({"name": "web2", "labels": {"team": "a"}})
    );
}

#[test]
fn skipped_objects_say_why() {
    let owner = json!([{"kind": "Pod", "controller": true, "name": "p"}]);
    let cases = [
        (
            "pods",
            json!({"status": {"phase": "Succeeded"}}),
            "finished",
        ),
        ("pods", json!({"status": {"phase": "Failed"}}), "finished"),
        (
            "pods",
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "h"}}}),
            "static",
        ),
        (
            "pods",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            "deleted",
        ),
        ("pods", json!({"status": {"phase": "Running"}}), ""),
        (
            "jobs.batch",
            json!({"status": {"completionTime": "t"}}),
            "finished",
        ),
        (
            "jobs.batch",
            json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}),
            "finished",
        ),
        ("jobs.batch", json!({"status": {"active": 1}}), ""),
        (
            "persistentvolumeclaims",
            json!({"metadata": {"ownerReferences": owner}}),
            "ephemeral",
        ),
        (
            "configmaps",
            json!({"metadata": {"name": "kube-root-ca.crt"}}),
            "itself",
        ),
        ("configmaps", json!({"metadata": {"name": "mine"}}), ""),
        (
            "apiservices.apiregistration.k8s.io",
            json!({"metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}}}),
            "itself",
        ),
        (
            "secrets",
            json!({"type": "kubernetes.io/service-account-token", "metadata": {
            "name": "default-token-abcde",
            "annotations": {"kubernetes.io/service-account.name": "default"}}}),
            "",
        ),
        (
            "volumesnapshotcontents.snapshot.storage.k8s.io",
            json!({"metadata": {"name": "snapcontent-1"}}),
            "does not hold",
        ),
        (
            "volumesnapshots.snapshot.storage.k8s.io",
            json!({"metadata": {"name": "s"}}),
            "not in the backup",
        ),
        (
            "volumesnapshotclasses.snapshot.storage.k8s.io",
            json!({"metadata": {"name": "c"}}),
            "",
        ),
        (
            "endpointslices.discovery.k8s.io",
            json!({"metadata": {"labels": {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}}),
            "Service",
        ),
        (
            "endpointslices.discovery.k8s.io",
            json!({"metadata": {"name": "by-hand"}}),
            "",
        ),
        (
            "endpoints",
            json!({"metadata": {"annotations": {
            "endpoints.kubernetes.io/last-change-trigger-time": "t"}}}),
            "Service",
        ),
    ];
    for (resource, object, wanted) in cases {
        match skip(resource, &object) {
            Some(why) => assert!(
                !wanted.is_empty() && why.contains(wanted),
                "{object}: {why}"
            ),
            None => assert_eq!(wanted, "", "{object}"),
        }
    }
}

#[test]
fn pods_lose_node_token_and_old_gates() {
    let mount = json!({"name": "kube-api-access-x1", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    let got = apply(
        "pods",
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "web", "ownerReferences": [{"kind": "ReplicaSet"}]},
            "spec": {
                "nodeName": "n1", "priority": 0, "serviceAccountName": "default",
                "ephemeralContainers": [{"name": "debug"}],
                "initContainers": [
                    {"name": "ark-restore-wait", "image": "x"},
                    {"name": "restore-wait", "image": "velero/velero", "command": ["/velero-restore-helper"]},
                    {"name": "restic-wait", "image": "gcr.io/heptio-images/ark-restic-restore-helper:v0.9"},
                    {"name": "restic-wait", "image": "mine:1"},
                ],
                "containers": [
                    {"name": "a", "volumeMounts": [mount, {"name": "data", "mountPath": "/d"}]},
                    {"name": "b", "volumeMounts": [mount]},
                ],
                "volumes": [
                    {"name": "data", "emptyDir": {}},
                    {"name": "kube-api-access-x1", "projected": {"sources": [
                        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}},
                    {"name": "kube-api-access-mine", "projected": {"sources": []}},
                    {"name": "ark-restore-gate", "emptyDir": {}},
                ],
            },
            "status": {"phase": "Running"},
        }),
    );
    assert_eq!(
        got["spec"],
        json!({
            "serviceAccountName": "default",
            "initContainers": [{"name": "restic-wait", "image": "mine:1"}],
            "containers": [
                {"name": "a", "volumeMounts": [{"name": "data", "mountPath": "/d"}]},
                {"name": "b"},
            ],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "kube-api-access-mine", "projected": {"sources": []}},
            ],
        })
    );
    assert!(got["metadata"].get("ownerReferences").is_none());
}

#[test]
fn tokens_that_somebody_mounted_stay() {
    let got = apply(
        "pods",
        json!({
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "robot",
                "containers": [{"name": "a", "volumeMounts": [
                    {"name": "t", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}],
                "volumes": [
                    {"name": "t", "secret": {"secretName": "robot-token-12345"}},
                    {"name": "kube-api-access-own", "projected": {"sources": [
                        {"serviceAccountToken": {"audience": "vault", "expirationSeconds": 3607}}]}},
                ],
            },
        }),
    );
    assert_eq!(list(&got, "/spec/volumes").len(), 2);
    assert_eq!(list(&got, "/spec/containers/0/volumeMounts").len(), 1);
}

#[test]
fn claims_by_binding() {
    let claim = json!({
        "metadata": {"name": "c", "namespace": "web", "annotations": {
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
            "volume.kubernetes.io/selected-node": "n1",
            "volume.kubernetes.io/storage-provisioner": "p",
            "volume.beta.kubernetes.io/storage-provisioner": "p",
        }},
        "spec": {
            "volumeName": "pv-1", "storageClassName": "fast",
            "dataSource": {"kind": "VolumeSnapshot", "name": "s"},
            "selector": {"matchLabels": {"a": "b"}},
        },
        "status": {"phase": "Bound"},
    });
    for (binding, keys) in [
        (
            Binding::Same,
            vec!["volumeName", "storageClassName", "dataSource", "selector"],
        ),
        (
            Binding::Fresh,
            vec!["storageClassName", "dataSource", "selector"],
        ),
        (Binding::Filled, vec!["storageClassName"]),
    ] {
        let got = apply_with("persistentvolumeclaims", claim.clone(), binding);
        assert!(got["metadata"].get("annotations").is_none());
        let spec: Vec<_> = got["spec"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(spec, keys, "{binding:?}");
    }
}

#[test]
fn volumes_follow_their_claims() {
    let volume = |policy: &str| {
        json!({
            "metadata": {"name": "pv", "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
            "spec": {
                "persistentVolumeReclaimPolicy": policy,
                "claimRef": {"namespace": "web", "name": "c", "uid": "u", "resourceVersion": "1"},
            },
        })
    };
    let got = apply("persistentvolumes", volume("Retain"));
    assert_eq!(
        got["spec"]["claimRef"],
        json!({"namespace": "web2", "name": "c"})
    );
}

#[test]
fn services_get_new_addresses() {
    let service = json!({
        "metadata": {"name": "s", "namespace": "web"},
        "spec": {
            "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"], "healthCheckNodePort": 31000,
            "ports": [
                {"port": 80, "protocol": "TCP", "nodePort": 30080},
                {"port": 80, "protocol": "UDP", "nodePort": 30081},
            ],
        },
    });
    let ports = |service: &Value| -> Vec<bool> {
        list(service, "/spec/ports")
            .iter()
            .map(|p| p.get("nodePort").is_some())
            .collect()
    };
    let got = apply("services", service.clone());
    assert!(got["spec"].get("clusterIP").is_none());
    assert!(got["spec"].get("clusterIPs").is_none());
    assert!(got["spec"].get("healthCheckNodePort").is_none());
    assert_eq!(ports(&got), [false, false]);

    let mut explicit = service.clone();
    explicit["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
        json!(r#"{"spec":{"ports":[{"port":80,"nodePort":30080}]}}"#);
    assert_eq!(ports(&apply("services", explicit)), [true, false]);

    let none = BTreeMap::new();
    let keep = Rules {
        namespaces: &none,
        preserve_node_ports: true,
        status_is_data: false,
    };
    let kept = restored("services", service.clone(), keep, Binding::Fresh);
    assert_eq!(ports(&kept), [true, true]);

    let mut managed = service.clone();
    managed["metadata"]["managedFields"] = json!([{"fieldsV1": {"f:spec": {"f:ports": {
        ".": {}, "k:{\"port\":80,\"protocol\":\"UDP\"}": {"f:nodePort": {}}}}}}]);
    let rules = Rules {
        namespaces: &none,
        preserve_node_ports: false,
        status_is_data: false,
    };
    let got = restored("services", managed, rules, Binding::Fresh);
    assert_eq!(ports(&got), [false, true]);

    let mut headless = service;
    headless["spec"]["clusterIP"] = json!("None");
    assert_eq!(apply("services", headless)["spec"]["clusterIP"], "None");
}

#[test]
fn jobs_lose_the_old_uid() {
    let labels = json!({"controller-uid": "u", "job-name": "j", "batch.kubernetes.io/job-name": "j", "app": "x"});
    let job = |manual: bool| {
        json!({
            "metadata": {"name": "j", "labels": labels},
            "spec": {"manualSelector": manual, "selector": {"matchLabels": {"controller-uid": "u"}},
                     "template": {"metadata": {"labels": labels}}},
        })
    };
    let got = apply("jobs.batch", job(false));
    assert!(got["spec"].get("selector").is_none());
    assert_eq!(
        got["spec"]["template"]["metadata"]["labels"],
        json!({"app": "x"})
    );
    assert_eq!(got["metadata"]["labels"], json!({"app": "x"}));
    assert!(
        apply("jobs.batch", job(true))["spec"]
            .get("selector")
            .is_some()
    );
}

#[test]
fn accounts_and_their_secrets() {
    let got = apply(
        "serviceaccounts",
        json!({
            "metadata": {"name": "robot", "namespace": "web"},
            "secrets": [{"name": "robot-token-12345"}, {"name": "mine"}],
            "imagePullSecrets": [{"name": "robot-dockercfg-12345"}],
        }),
    );
    assert_eq!(
        got["secrets"],
        json!([{"name": "robot-token-12345"}, {"name": "mine"}])
    );
    assert_eq!(
        got["imagePullSecrets"],
        json!([{"name": "robot-dockercfg-12345"}])
    );

    let got = apply(
        "secrets",
        json!({
            "metadata": {"name": "t", "annotations": {
                "kubernetes.io/service-account.name": "robot",
                "kubernetes.io/service-account.uid": "u"}},
            "type": "kubernetes.io/service-account-token",
            "data": {"token": "x", "ca.crt": "y", "namespace": "z"},
        }),
    );
    assert!(got.get("data").is_none());
    assert_eq!(
        got["metadata"]["annotations"],
        json!({"kubernetes.io/service-account.name": "robot"})
    );

    let opaque = json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"token": "x"}});
    assert_eq!(apply("secrets", opaque.clone()), opaque);
}

#[test]
fn bindings_follow_their_namespaces() {
    for resource in [
        "rolebindings.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
    ] {
        let got = apply(
            resource,
            json!({
                "metadata": {"name": "b"},
                "subjects": [
                    {"kind": "ServiceAccount", "name": "a", "namespace": "web"},
                    {"kind": "ServiceAccount", "name": "a", "namespace": "other"},
                    {"kind": "Group", "name": "system:serviceaccounts:web"},
                    {"kind": "User", "name": "web"},
                    {"kind": "User", "name": "system:serviceaccount:web:a"},
                    {"kind": "User", "name": "system:serviceaccount:other:a"},
                ],
            }),
        );
        assert_eq!(
            got["subjects"],
            json!([
                {"kind": "ServiceAccount", "name": "a", "namespace": "web2"},
                {"kind": "ServiceAccount", "name": "a", "namespace": "other"},
                {"kind": "Group", "name": "system:serviceaccounts:web2"},
                {"kind": "User", "name": "web"},
                {"kind": "User", "name": "system:serviceaccount:web2:a"},
                {"kind": "User", "name": "system:serviceaccount:other:a"},
            ])
        );
    }
}

#[test]
fn definitions_from_v1beta1_become_valid() {
    let got = apply(
        crate::apply::order::CRDS,
        json!({
            "metadata": {"name": "x.example.org"},
            "spec": {"preserveUnknownFields": true,
                     "versions": [{"name": "v1"}, {"name": "v2", "schema": {"openAPIV3Schema": {"type": "object"}}}, "odd"]},
        }),
    );
    assert!(got["spec"].get("preserveUnknownFields").is_none());
    for i in 0..2 {
        assert_eq!(
            got["spec"]["versions"][i]["schema"]["openAPIV3Schema"],
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
        );
    }
}

#[test]
fn nonsense_does_not_panic() {
    let odd = [
        json!({"metadata": {"name": "x", "labels": [], "annotations": "no"}, "spec": 1, "status": 2}),
        json!({"metadata": {"name": "x"}, "spec": {"volumes": {}, "containers": [1, "a"], "ports": [1],
            "initContainers": [null], "claimRef": 5, "versions": 1, "template": []},
            "subjects": [1, {"kind": "Group"}], "secrets": [1], "data": 3, "type": []}),
    ];
    for resource in [
        "pods",
        "services",
        "secrets",
        "serviceaccounts",
        "persistentvolumes",
        "persistentvolumeclaims",
        "jobs.batch",
        "namespaces",
        "endpoints",
        "rolebindings.rbac.authorization.k8s.io",
        crate::apply::order::CRDS,
    ] {
        for object in &odd {
            skip(resource, object);
            let mut got = apply(resource, object.clone());
            stamp(
                &mut got,
                Stamp {
                    restore: "r",
                    uid: "u",
                    backup: "b",
                },
            );
            assert_eq!(stamped_by(&got), Some("u"));
        }
    }
}

#[test]
fn marks_fit_where_annotations_have_no_room() {
    let stamp = Stamp {
        restore: "r",
        uid: "uid-1",
        backup: "b",
    };
    for (length, place) in [(10, "annotations"), (MAX_ANNOTATIONS - 10, "labels")] {
        let mut object =
            json!({"metadata": {"name": "c", "annotations": {"big": "x".repeat(length)}}});
        super::stamp(&mut object, stamp);
        assert_eq!(object["metadata"][place][annotation::RESTORE_UID], "uid-1");
        assert_eq!(stamped_by(&object), Some("uid-1"));
        // They are never carried into another cluster.
        let namespaces = mapping();
        let rules = Rules {
            namespaces: &namespaces,
            preserve_node_ports: false,
            status_is_data: false,
        };
        let again = normalize("configmaps", object, rules, Binding::default());
        assert_eq!(stamped_by(&again), None);
    }
}

#[test]
fn a_job_takes_up_the_pods_that_were_filled_for_it() {
    let labels = json!({"app": "x", "batch.kubernetes.io/controller-uid": "u", "job-name": "j"});
    let stored = json!({"metadata": {"name": "j"}, "spec": {
        "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
        "template": {"metadata": {"labels": labels}, "spec": {}}}});
    let mut job = apply("jobs.batch", stored.clone());
    assert_eq!(job["spec"].get("selector"), None);
    keep_pods(&stored, &mut job);
    assert_eq!(job["spec"]["manualSelector"], true);
    assert_eq!(job["spec"]["selector"], stored["spec"]["selector"]);
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels);
}
