//! Words of restores, right and wrong.

use serde_json::json;

use super::*;
use crate::reconcile::restore::validate;

fn kind(plural: &str, group: &str, name: &str, short: &[&str]) -> Kind {
    Kind {
        group: group.to_owned(),
        version: "v1".to_owned(),
        name: name.to_owned(),
        plural: plural.to_owned(),
        singular: name.to_lowercase(),
        short_names: short.iter().map(|name| (*name).to_owned()).collect(),
        namespaced: true,
    }
}

fn held() -> Held {
    Held {
        kinds: vec![
            kind("configmaps", "", "ConfigMap", &["cm"]),
            kind("secrets", "", "Secret", &[]),
            kind("services", "", "Service", &["svc"]),
            kind("deployments", "apps", "Deployment", &["deploy"]),
            kind("services", "serving.knative.dev", "Service", &["ksvc"]),
        ],
        namespaces: ["web".to_owned(), "db".to_owned()].into(),
    }
}

fn run(spec: Value) -> std::result::Result<(Order, Vec<String>), Vec<String>> {
    let cluster = Discovered {
        kinds: vec![kind("ingresses", "networking.k8s.io", "Ingress", &["ing"])],
        broken: Vec::new(),
    };
    let mut spec = spec;
    spec["backupName"] = json!("b");
    let mut order = validate::check(&serde_json::from_value(spec).unwrap()).unwrap();
    let warnings = resolve(&mut order, &held(), &cluster)?;
    Ok((order, warnings))
}

#[test]
fn every_form_of_a_resource_is_known() {
    for (word, wanted) in [
        ("configmaps", "configmaps"),
        ("CM", "configmaps"),
        ("ConfigMap", "configmaps"),
        ("deployment.apps", "deployments.apps"),
        ("Deployments.apps", "deployments.apps"),
        ("deploy.Apps", "deployments.apps"),
        (" deploy ", "deployments.apps"),
        ("service", "services"),
        (
            "services.serving.knative.dev",
            "services.serving.knative.dev",
        ),
        ("ksvc", "services.serving.knative.dev"),
    ] {
        let (order, _) = run(json!({"includedResources": [word]})).unwrap();
        assert_eq!(order.resources.included(), [wanted], "{word}");
        let (order, _) = run(json!({"excludedResources": [word]})).unwrap();
        assert_eq!(order.resources.excluded(), [wanted], "{word}");
        for kind in held().kinds {
            let resource = kind.resource();
            assert_eq!(
                order.resources.admit_resource(&resource),
                resource != wanted
            );
        }
    }
    let (order, warnings) = run(json!({"includedResources": ["*"]})).unwrap();
    assert!(order.resources.is_everything() && warnings.is_empty());
}

#[test]
fn what_the_backup_does_not_hold_is_refused() {
    for (spec, wanted) in [
        (
            json!({"includedResources": ["nosuch"]}),
            "includedResources: the backup holds no resource called \"nosuch\"; it holds configmaps",
        ),
        (json!({"includedResources": ["ingresses"]}), "\"ingresses\""),
        (
            json!({"excludedResources": ["Secretz"]}),
            "excludedResources",
        ),
        (
            json!({"excludedResources": ["deployments.example.org"]}),
            "excludedResources",
        ),
        (
            json!({"includedNamespaces": ["wep"]}),
            "includedNamespaces: the backup holds no namespace \"wep\"; it holds db, web",
        ),
        (
            json!({"namespaceMapping": {"wep": "web2"}}),
            "namespaceMapping: the backup holds no namespace \"wep\"",
        ),
    ] {
        let wrong = run(spec.clone()).map(|_| ()).unwrap_err();
        assert_eq!(wrong.len(), 1, "{spec}: {wrong:?}");
        assert!(wrong[0].contains(wanted), "{wrong:?}");
    }
    let everything = run(
        json!({"includedResources": ["x"], "excludedResources": ["y"],
        "includedNamespaces": ["z", "web"], "namespaceMapping": {"y": "z"}}),
    );
    assert_eq!(everything.map(|_| ()).unwrap_err().len(), 4);
}

#[test]
fn what_does_no_harm_is_a_warning() {
    for (spec, wanted) in [
        (
            json!({"excludedResources": ["ing"]}),
            "nothing to leave out",
        ),
        (json!({"includedNamespaces": ["web", "x-*"]}), "\"x-*\""),
        (
            json!({"excludedNamespaces": ["kube-system"]}),
            "\"kube-system\"",
        ),
        (
            json!({"includedNamespaces": ["db"], "namespaceMapping": {"web": "web2"}}),
            "not restored",
        ),
    ] {
        let (_, warnings) = run(spec.clone()).unwrap();
        assert_eq!(warnings.len(), 1, "{spec}: {warnings:?}");
        assert!(warnings[0].contains(wanted), "{warnings:?}");
    }
    let (_, warnings) = run(
        json!({"includedNamespaces": ["*", "w*"], "excludedNamespaces": ["q*"],
        "namespaceMapping": {"web": "web2"}}),
    )
    .unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}
