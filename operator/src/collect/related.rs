//! What an object needs: other objects that are taken along with it. Pure.

use std::collections::HashSet;

use serde_json::Value;

use super::namespaces::text;

/// An object that is wanted because another needs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Wanted {
    /// `deployments.apps`.
    pub(crate) resource: String,
    /// Namespace; empty for cluster-scoped objects.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
}

impl Wanted {
    fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// What `object` of a resource names directly: pod → claims, service account, priority class;
/// claim → volume.
pub(crate) fn of(resource: &str, object: &Value) -> Vec<Wanted> {
    let namespace = text(object, "/metadata/namespace");
    let mut wanted = Vec::new();
    match resource {
        "pods" => {
            let pod = text(object, "/metadata/name");
            let volumes = object.pointer("/spec/volumes").and_then(Value::as_array);
            for volume in volumes.into_iter().flatten() {
                let claim = text(volume, "/persistentVolumeClaim/claimName");
                if !claim.is_empty() {
                    wanted.push(Wanted::new("persistentvolumeclaims", namespace, claim));
                } else if volume.get("ephemeral").is_some() {
                    let claim = format!("{pod}-{}", text(volume, "/name"));
                    wanted.push(Wanted::new("persistentvolumeclaims", namespace, &claim));
                }
            }
            let account = text(object, "/spec/serviceAccountName");
            if !account.is_empty() {
                wanted.push(Wanted::new("serviceaccounts", namespace, account));
            }
            let priority = text(object, "/spec/priorityClassName");
            // The two that every cluster has belong to the cluster.
            if !priority.is_empty() && !priority.starts_with("system-") {
                wanted.push(Wanted::new(
                    "priorityclasses.scheduling.k8s.io",
                    "",
                    priority,
                ));
            }
        }
        "persistentvolumeclaims" => {
            let volume = text(object, "/spec/volumeName");
            if !volume.is_empty() {
                wanted.push(Wanted::new("persistentvolumes", "", volume));
            }
        }
        _ => {}
    }
    wanted
}

/// A binding that gives one of `accounts` (namespace and name) something, and the role it gives.
pub(crate) fn of_binding(
    resource: &str,
    binding: &Value,
    accounts: &HashSet<(String, String)>,
) -> Vec<Wanted> {
    let namespace = text(binding, "/metadata/namespace");
    let subjects = binding.get("subjects").and_then(Value::as_array);
    let meant = subjects.into_iter().flatten().any(|subject| {
        let home = match text(subject, "/namespace") {
            "" => namespace,
            home => home,
        };
        text(subject, "/kind") == "ServiceAccount"
            && accounts.contains(&(home.to_owned(), text(subject, "/name").to_owned()))
    });
    if !meant {
        return Vec::new();
    }
    let mut wanted = vec![Wanted::new(
        resource,
        namespace,
        text(binding, "/metadata/name"),
    )];
    let role = text(binding, "/roleRef/name");
    match text(binding, "/roleRef/kind") {
        "ClusterRole" => wanted.push(Wanted::new(
            "clusterroles.rbac.authorization.k8s.io",
            "",
            role,
        )),
        "Role" => wanted.push(Wanted::new(
            "roles.rbac.authorization.k8s.io",
            namespace,
            role,
        )),
        _ => {}
    }
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_needs_claims_account_and_priority() {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "serviceAccountName": "web",
                "priorityClassName": "high",
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "tmp", "emptyDir": {}},
                ],
            },
        });
        let names: Vec<String> = of("pods", &pod)
            .into_iter()
            .map(|w| format!("{}/{}/{}", w.resource, w.namespace, w.name))
            .collect();
        assert_eq!(
            names,
            [
                "persistentvolumeclaims/shop/data",
                "persistentvolumeclaims/shop/web-scratch",
                "serviceaccounts/shop/web",
                "priorityclasses.scheduling.k8s.io//high",
            ]
        );
        assert!(of("pods", &json!({"spec": {"volumes": "none"}})).is_empty());
    }

    #[test]
    fn bindings_of_the_taken_accounts_only() {
        let accounts: HashSet<_> = [("shop".to_owned(), "web".to_owned())].into();
        let binding = |namespace: &str| {
            json!({
                "metadata": {"name": "b"},
                "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": namespace}],
                "roleRef": {"kind": "ClusterRole", "name": "view"},
            })
        };
        let resource = "clusterrolebindings.rbac.authorization.k8s.io";
        assert_eq!(of_binding(resource, &binding("shop"), &accounts).len(), 2);
        assert!(of_binding(resource, &binding("other"), &accounts).is_empty());
    }
}
