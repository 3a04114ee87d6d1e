//! What restored pods cannot start without, and nobody has: ConfigMaps and Secrets that a filter
//! left out or the backup lacks. Such a pod waits for ever, so its volumes are waited for until
//! their deadline: the reason is told before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::report::about;
use super::run::Run;
use crate::apply::order::PODS;
use crate::apply::transform::list;

const CONFIG_MAPS: &str = "configmaps";
const SECRETS: &str = "secrets";

/// Tells what the pods of a restore lack. To be called when everything that pods need is applied.
pub(super) async fn tell(run: &Run<'_>) {
    let mut wanted: BTreeMap<(String, &str, String), BTreeSet<String>> = BTreeMap::new();
    for entry in run.plan.entries(PODS) {
        // A pod that cannot be read has its row when it is applied.
        let Ok(pod) = run.spool.load(PODS, entry) else {
            continue;
        };
        for (resource, name) in must_have(&pod) {
            let mut entries = run.plan.entries(resource).iter();
            if !entries.any(|e| e.namespace == entry.namespace && e.name == name) {
                wanted
                    .entry((entry.namespace.clone(), resource, name))
                    .or_default()
                    .insert(entry.name.clone());
            }
        }
    }
    for ((namespace, resource, name), pods) in wanted {
        let namespace = run.target(&namespace);
        if run.applier.exists(resource, namespace, &name).await {
            continue;
        }
        for pod in pods {
            run.report().log.warn(
                about(namespace),
                format!(
                    "pods {namespace}/{pod}: it cannot start, because {resource} {name}, which it needs, is neither restored nor in the cluster"
                ),
            );
        }
    }
}

/// ConfigMaps and Secrets that a pod does not start without.
fn must_have(pod: &Value) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    let mut take = |resource: &'static str, source: Option<&Value>, key: &str| {
        let source = source.filter(|source| source.get("optional") != Some(&Value::Bool(true)));
        if let Some(name) = source.and_then(|source| source.get(key)?.as_str()) {
            found.insert((resource, name.to_owned()));
        }
    };
    for volume in list(pod, "/spec/volumes") {
        take(CONFIG_MAPS, volume.get("configMap"), "name");
        take(SECRETS, volume.get("secret"), "secretName");
        for source in list(volume, "/projected/sources") {
            take(CONFIG_MAPS, source.get("configMap"), "name");
            take(SECRETS, source.get("secret"), "name");
        }
    }
    for containers in ["/spec/initContainers", "/spec/containers"] {
        for container in list(pod, containers) {
            for source in list(container, "/envFrom") {
                take(CONFIG_MAPS, source.get("configMapRef"), "name");
                take(SECRETS, source.get("secretRef"), "name");
            }
            for variable in list(container, "/env") {
                take(
                    CONFIG_MAPS,
                    variable.pointer("/valueFrom/configMapKeyRef"),
                    "name",
                );
                take(SECRETS, variable.pointer("/valueFrom/secretKeyRef"), "name");
            }
        }
    }
    // The cluster makes it in every namespace.
    found.retain(|(_, name)| name != "kube-root-ca.crt");
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_pod_cannot_start_without() {
        let pod = json!({"spec": {
            "volumes": [
                {"name": "a", "configMap": {"name": "config"}},
                {"name": "b", "configMap": {"name": "maybe", "optional": true}},
                {"name": "c", "secret": {"secretName": "key"}},
                {"name": "d", "projected": {"sources": [
                    {"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "projected"}}]}},
            ],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "init"}}]}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "env"}}], "env": [
                {"name": "X", "valueFrom": {"secretKeyRef": {"name": "one", "key": "k"}}},
                {"name": "Y", "valueFrom": {"configMapKeyRef": {"name": "two", "key": "k", "optional": true}}},
                {"name": "Z", "value": "z"}]}],
        }});
        let names: Vec<String> = must_have(&pod)
            .into_iter()
            .map(|(resource, name)| format!("{resource}/{name}"))
            .collect();
        assert_eq!(
            names,
            [
                "configmaps/config",
                "configmaps/env",
                "secrets/init",
                "secrets/key",
                "secrets/one",
                "secrets/projected"
            ]
        );
    }
}
