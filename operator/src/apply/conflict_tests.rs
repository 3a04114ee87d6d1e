//! Objects that exist beside the same of a backup.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::apply::transform::Stamp;

fn run(
    resource: &str,
    existing: &Value,
    desired: &Value,
    policy: ExistingResourcePolicy,
) -> Decision {
    let none = BTreeMap::new();
    let rules = Rules {
        namespaces: &none,
        preserve_node_ports: false,
        status_is_data: false,
    };
    decide(
        resource,
        existing,
        desired,
        policy,
        "uid-1",
        rules,
        Binding::Fresh,
    )
}

fn map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"name": "c", "namespace": "n", "labels": {"a": "b"}},
           "data": {"k": value, "only": "here"}})
}

#[test]
fn equal_after_stripping_is_kept() {
    let mut existing = map("v");
    existing["metadata"]["uid"] = json!("u");
    existing["metadata"]["resourceVersion"] = json!("7");
    existing["metadata"]["managedFields"] = json!([{}]);
    let mut desired = map("v");
    transform::stamp(
        &mut desired,
        Stamp {
            restore: "r",
            uid: "uid-1",
            backup: "b",
        },
    );
    for policy in [ExistingResourcePolicy::None, ExistingResourcePolicy::Update] {
        assert_eq!(
            run("configmaps", &existing, &desired, policy),
            Decision::Equal
        );
    }
}

#[test]
fn different_is_kept_or_patched() {
    let existing = map("new");
    let mut desired = map("old");
    desired["data"].as_object_mut().unwrap().remove("only");
    assert_eq!(
        run(
            "configmaps",
            &existing,
            &desired,
            ExistingResourcePolicy::None
        ),
        Decision::Differs
    );
    assert_eq!(
        run(
            "configmaps",
            &existing,
            &desired,
            ExistingResourcePolicy::Update
        ),
        Decision::Patch {
            patch: json!({
                "data": {"k": "old", "only": null},
                "metadata": {"labels": {ark_api::label::RESTORE_UID: "uid-1"}},
            }),
            differs: false,
        }
    );
}

#[test]
fn own_objects_are_recognised() {
    let mut existing = map("changed since");
    transform::stamp(
        &mut existing,
        Stamp {
            restore: "r",
            uid: "uid-1",
            backup: "b",
        },
    );
    assert_eq!(
        run(
            "configmaps",
            &existing,
            &map("v"),
            ExistingResourcePolicy::Update
        ),
        Decision::Own
    );
    // Another restore of the same name is another restore.
    transform::stamp(
        &mut existing,
        Stamp {
            restore: "r",
            uid: "uid-0",
            backup: "b",
        },
    );
    assert_eq!(
        run(
            "configmaps",
            &existing,
            &map("v"),
            ExistingResourcePolicy::None
        ),
        Decision::Differs
    );
    let mut patched = map("v");
    patched["metadata"]["labels"][ark_api::label::RESTORE_UID] = json!("uid-1");
    assert_eq!(
        run(
            "configmaps",
            &patched,
            &map("v"),
            ExistingResourcePolicy::Update
        ),
        Decision::OwnChange
    );
}

#[test]
fn addresses_of_services_are_no_difference() {
    let existing = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.9",
        "clusterIPs": ["10.0.0.9"], "ports": [{"port": 80, "nodePort": 30001}]}});
    let desired = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    assert_eq!(
        run(
            "services",
            &existing,
            &desired,
            ExistingResourcePolicy::Update
        ),
        Decision::Equal
    );
}

fn patch(decision: Decision) -> (Value, bool) {
    match decision {
        Decision::Patch { mut patch, differs } => {
            let labels = patch["metadata"]["labels"].as_object_mut().unwrap();
            assert_eq!(
                labels.shift_remove(ark_api::label::RESTORE_UID),
                Some(json!("uid-1"))
            );
            (patch, differs)
        }
        other => panic!("no patch: {other:?}"),
    }
}

#[test]
fn accounts_are_merged_whatever_the_policy() {
    let account = |x: &str, secret: &str| {
        json!({"metadata": {"name": "default", "labels": {"x": x}},
            "imagePullSecrets": [{"name": secret}]})
    };
    let existing = account("cluster", "a");
    let mut desired = account("backup", "b");
    desired["metadata"]["labels"]["y"] = json!("1");
    desired["automountServiceAccountToken"] = json!(false);
    let mut wanted = json!({
        "automountServiceAccountToken": false,
        "imagePullSecrets": [{"name": "a"}, {"name": "b"}],
        "metadata": {"labels": {"y": "1"}},
    });
    let with = |policy| run("serviceaccounts", &existing, &desired, policy);
    assert_eq!(
        patch(with(ExistingResourcePolicy::None)),
        (wanted.clone(), true)
    );
    wanted["metadata"]["labels"]["x"] = json!("backup");
    assert_eq!(patch(with(ExistingResourcePolicy::Update)), (wanted, false));
    assert_eq!(
        run(
            "serviceaccounts",
            &existing,
            &existing,
            ExistingResourcePolicy::None
        ),
        Decision::Equal
    );
}

#[test]
fn subjects_and_finalizers_are_added_to() {
    let binding = |namespace: &str| {
        json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "app", "namespace": namespace}]})
    };
    let resource = "clusterrolebindings.rbac.authorization.k8s.io";
    let (live, clone) = (binding("web"), binding("web2"));
    let (change, differs) = patch(run(resource, &live, &clone, ExistingResourcePolicy::Update));
    assert!(!differs);
    assert_eq!(
        change["subjects"],
        json!([live["subjects"][0].clone(), clone["subjects"][0].clone()])
    );
    let mut both = live.clone();
    both["subjects"] = change["subjects"].clone();
    for policy in [ExistingResourcePolicy::None, ExistingResourcePolicy::Update] {
        assert_eq!(run(resource, &both, &clone, policy), Decision::Equal);
    }
    assert_eq!(
        run(resource, &live, &clone, ExistingResourcePolicy::None),
        Decision::Differs
    );

    let mut live = map("v");
    live["metadata"]["finalizers"] = json!(["example.org/a"]);
    let mut stored = map("w");
    stored["metadata"]["finalizers"] = json!(["example.org/b"]);
    let (change, _) = patch(run(
        "configmaps",
        &live,
        &stored,
        ExistingResourcePolicy::Update,
    ));
    assert_eq!(
        change["metadata"]["finalizers"],
        json!(["example.org/a", "example.org/b"])
    );
}

#[test]
fn under_another_name_nothing_is_taken_from_what_the_original_shares() {
    let names = BTreeMap::from([("web".to_owned(), "web2".to_owned())]);
    let rules = Rules {
        namespaces: &names,
        preserve_node_ports: false,
        status_is_data: false,
    };
    let role = |verb: &str| json!({"metadata": {"name": "r"}, "rules": [{"resources": ["pods"], "verbs": [verb]}]});
    let decide = |resource: &str| {
        let update = ExistingResourcePolicy::Update;
        decide(
            resource,
            &role("get"),
            &role("list"),
            update,
            "uid-1",
            rules,
            Binding::Fresh,
        )
    };
    let (change, _) = patch(decide("clusterroles.rbac.authorization.k8s.io"));
    assert_eq!(
        change["rules"],
        json!([
            role("get")["rules"][0].clone(),
            role("list")["rules"][0].clone()
        ])
    );
    assert_eq!(decide(CRDS), Decision::Differs);
}

#[test]
fn merge_patches() {
    for (from, to, wanted) in [
        (json!({"a": 1}), json!({"a": 1}), None),
        (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), None),
        (
            json!({"a": {"b": 1}}),
            json!({"a": {"b": 2}}),
            Some(json!({"a": {"b": 2}})),
        ),
        (
            json!({"a": {"b": 1}}),
            json!({"a": {}}),
            Some(json!({"a": {"b": null}})),
        ),
        (
            json!({"a": [1]}),
            json!({"a": [1, 2]}),
            Some(json!({"a": [1, 2]})),
        ),
        (
            json!({"a": 1}),
            json!({"a": {"b": 1}}),
            Some(json!({"a": {"b": 1}})),
        ),
        (json!({}), json!({"a": null}), Some(json!({"a": null}))),
    ] {
        assert_eq!(merge_patch(&from, &to), wanted, "{from} -> {to}");
    }
}

#[test]
fn labels_can_be_taken_alone() {
    let patch = json!({"spec": {"x": 1}, "metadata": {"labels": {"a": "b"}, "finalizers": []}});
    assert_eq!(
        labels_only(&patch),
        json!({"metadata": {"labels": {"a": "b"}}})
    );
}
