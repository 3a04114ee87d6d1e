//! What an object needs: other objects that are taken along with it. Pure.

use std::collections::HashSet;

use serde_json::Value;

use super::namespaces::text;

const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE_CLASSES: &str = "storageclasses.storage.k8s.io";
const PRIORITY_CLASSES: &str = "priorityclasses.scheduling.k8s.io";
const RUNTIME_CLASSES: &str = "runtimeclasses.node.k8s.io";
/// Bindings within a namespace.
pub(crate) const ROLE_BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
/// Bindings for the whole cluster.
pub(crate) const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
/// What the spec of a pod names of the cluster.
const CLUSTER_SCOPED: &[&str] = &[PRIORITY_CLASSES, RUNTIME_CLASSES];

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

/// What `object` of a resource names and cannot be used without: a pod, or a workload through its
/// template, its claims, `ConfigMaps`, Secrets, service account and classes; a claim its volume and
/// class; a binding its role.
pub(crate) fn of(resource: &str, object: &Value) -> Vec<Wanted> {
    let namespace = text(object, "/metadata/namespace");
    let mut wanted = Vec::new();
    let mut want = |resource: &str, namespace: &str, name: &str| {
        if !name.is_empty() {
            wanted.push(Wanted::new(resource, namespace, name));
        }
    };
    match resource {
        "pods" => {
            let pod = text(object, "/metadata/name");
            for volume in list(object, "/spec/volumes") {
                if volume.get("ephemeral").is_some() {
                    let claim = format!("{pod}-{}", text(volume, "/name"));
                    want(CLAIMS, namespace, &claim);
                }
            }
        }
        CLAIMS => {
            want("persistentvolumes", "", text(object, "/spec/volumeName"));
            want(STORAGE_CLASSES, "", text(object, "/spec/storageClassName"));
            let class = text(object, "/spec/volumeAttributesClassName");
            want("volumeattributesclasses.storage.k8s.io", "", class);
        }
        "statefulsets.apps" => {
            for claim in list(object, "/spec/volumeClaimTemplates") {
                want(STORAGE_CLASSES, "", text(claim, "/spec/storageClassName"));
            }
        }
        "serviceaccounts" => {
            for secret in list(object, "/imagePullSecrets") {
                want("secrets", namespace, text(secret, "/name"));
            }
        }
        "ingresses.networking.k8s.io" => {
            for tls in list(object, "/spec/tls") {
                want("secrets", namespace, text(tls, "/secretName"));
            }
            let class = text(object, "/spec/ingressClassName");
            want("ingressclasses.networking.k8s.io", "", class);
        }
        ROLE_BINDINGS | CLUSTER_ROLE_BINDINGS => {
            let role = text(object, "/roleRef/name");
            match text(object, "/roleRef/kind") {
                "ClusterRole" => want("clusterroles.rbac.authorization.k8s.io", "", role),
                "Role" => want("roles.rbac.authorization.k8s.io", namespace, role),
                _ => {}
            }
        }
        _ => {}
    }
    if let Some(spec) = pod_spec(resource, object) {
        of_pod_spec(spec, &mut |resource: &str, name: &str| {
            let home = if CLUSTER_SCOPED.contains(&resource) {
                ""
            } else {
                namespace
            };
            want(resource, home, name);
        });
    }
    wanted
}

/// The spec of a pod, or of the pods that a workload makes.
fn pod_spec<'a>(resource: &str, object: &'a Value) -> Option<&'a Value> {
    let pointer = match resource {
        "pods" => "/spec",
        "deployments.apps"
        | "replicasets.apps"
        | "statefulsets.apps"
        | "daemonsets.apps"
        | "jobs.batch"
        | "replicationcontrollers" => "/spec/template/spec",
        "cronjobs.batch" => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    };
    object.pointer(pointer)
}

fn of_pod_spec(spec: &Value, want: &mut impl FnMut(&str, &str)) {
    for volume in list(spec, "/volumes") {
        want(CLAIMS, text(volume, "/persistentVolumeClaim/claimName"));
        want("configmaps", text(volume, "/configMap/name"));
        want("secrets", text(volume, "/secret/secretName"));
        for source in list(volume, "/projected/sources") {
            // The cluster makes this one in every namespace.
            let config = text(source, "/configMap/name");
            if config != "kube-root-ca.crt" {
                want("configmaps", config);
            }
            want("secrets", text(source, "/secret/name"));
        }
    }
    let containers = list(spec, "/initContainers").chain(list(spec, "/containers"));
    for container in containers {
        for source in list(container, "/envFrom") {
            want("configmaps", text(source, "/configMapRef/name"));
            want("secrets", text(source, "/secretRef/name"));
        }
        for variable in list(container, "/env") {
            want(
                "configmaps",
                text(variable, "/valueFrom/configMapKeyRef/name"),
            );
            want("secrets", text(variable, "/valueFrom/secretKeyRef/name"));
        }
    }
    for secret in list(spec, "/imagePullSecrets") {
        want("secrets", text(secret, "/name"));
    }
    want("serviceaccounts", text(spec, "/serviceAccountName"));
    let priority = text(spec, "/priorityClassName");
    // The two that every cluster has belong to the cluster.
    if !priority.starts_with("system-") {
        want(PRIORITY_CLASSES, priority);
    }
    want(RUNTIME_CLASSES, text(spec, "/runtimeClassName"));
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let items = object.pointer(pointer).and_then(Value::as_array);
    items.into_iter().flatten()
}

/// A binding that gives one of `accounts` (namespace and name) something. Its role follows from the
/// binding.
pub(crate) fn of_binding(
    resource: &str,
    binding: &Value,
    accounts: &HashSet<(String, String)>,
) -> Option<Wanted> {
    let namespace = text(binding, "/metadata/namespace");
    let meant = list(binding, "/subjects").any(|subject| {
        let home = match text(subject, "/namespace") {
            "" => namespace,
            home => home,
        };
        text(subject, "/kind") == "ServiceAccount"
            && accounts.contains(&(home.to_owned(), text(subject, "/name").to_owned()))
    });
    meant.then(|| Wanted::new(resource, namespace, text(binding, "/metadata/name")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(resource: &str, object: &Value) -> Vec<String> {
        of(resource, object)
            .into_iter()
            .map(|w| format!("{}/{}/{}", w.resource, w.namespace, w.name))
            .collect()
    }

    #[test]
    fn a_pod_needs_what_it_mounts_reads_and_runs_as() {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "serviceAccountName": "web",
                "priorityClassName": "high",
                "runtimeClassName": "kata",
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "from"}}, {"secretRef": {"name": "froms"}}]}],
                "containers": [{"name": "c", "env": [
                    {"name": "A", "value": "x"},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "k"}}},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}},
                ]}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "tmp", "emptyDir": {}},
                    {"name": "conf", "configMap": {"name": "conf"}},
                    {"name": "sec", "secret": {"secretName": "sec"}},
                    {"name": "all", "projected": {"sources": [
                        {"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "p"}}, {"serviceAccountToken": {"path": "t"}}]}},
                ],
            },
        });
        assert_eq!(
            names("pods", &pod),
            [
                "persistentvolumeclaims/shop/web-scratch",
                "persistentvolumeclaims/shop/data",
                "configmaps/shop/conf",
                "secrets/shop/sec",
                "secrets/shop/p",
                "configmaps/shop/from",
                "secrets/shop/froms",
                "configmaps/shop/key",
                "secrets/shop/keys",
                "secrets/shop/pull",
                "serviceaccounts/shop/web",
                "priorityclasses.scheduling.k8s.io//high",
                "runtimeclasses.node.k8s.io//kata",
            ]
        );
        assert!(of("pods", &json!({"spec": {"volumes": "none"}})).is_empty());
        let system = json!({"spec": {"priorityClassName": "system-node-critical"}});
        assert!(of("pods", &system).is_empty());
    }

    #[test]
    fn a_workload_without_pods_needs_what_its_template_names() {
        let spec = json!({"template": {"spec": {"volumes": [{"name": "v", "configMap": {"name": "conf"}}]}},
            "volumeClaimTemplates": [{"spec": {"storageClassName": "fast"}}]});
        let metadata = json!({"name": "db", "namespace": "shop"});
        assert_eq!(
            names(
                "statefulsets.apps",
                &json!({"metadata": metadata, "spec": spec})
            ),
            [
                "storageclasses.storage.k8s.io//fast",
                "configmaps/shop/conf"
            ]
        );
        let cron = json!({"metadata": metadata, "spec": {"jobTemplate": {"spec": spec}}});
        assert_eq!(names("cronjobs.batch", &cron), ["configmaps/shop/conf"]);
    }

    #[test]
    fn claims_ingresses_and_bindings_need_what_they_name() {
        let metadata = json!({"name": "x", "namespace": "shop"});
        let claim =
            json!({"metadata": metadata, "spec": {"volumeName": "pv", "storageClassName": "fast"}});
        assert_eq!(
            names("persistentvolumeclaims", &claim),
            [
                "persistentvolumes//pv",
                "storageclasses.storage.k8s.io//fast"
            ]
        );
        let ingress = json!({"metadata": metadata, "spec": {"ingressClassName": "nginx", "tls": [{"secretName": "cert"}]}});
        assert_eq!(
            names("ingresses.networking.k8s.io", &ingress),
            [
                "secrets/shop/cert",
                "ingressclasses.networking.k8s.io//nginx"
            ]
        );
        let account = json!({"metadata": metadata, "imagePullSecrets": [{"name": "pull"}]});
        assert_eq!(names("serviceaccounts", &account), ["secrets/shop/pull"]);
        let binding =
            |kind: &str| json!({"metadata": metadata, "roleRef": {"kind": kind, "name": "r"}});
        assert_eq!(
            names(ROLE_BINDINGS, &binding("ClusterRole")),
            ["clusterroles.rbac.authorization.k8s.io//r"]
        );
        assert_eq!(
            names(ROLE_BINDINGS, &binding("Role")),
            ["roles.rbac.authorization.k8s.io/shop/r"]
        );
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
        assert!(of_binding(CLUSTER_ROLE_BINDINGS, &binding("shop"), &accounts).is_some());
        assert!(of_binding(CLUSTER_ROLE_BINDINGS, &binding("other"), &accounts).is_none());
    }
}
