//! What an object of a backup refers to, as far as that decides what is restored. Pure.

use serde_json::Value;

use super::plan::{Key, group};
use super::validate::Order;
use crate::apply::order::{CLAIMS, CRDS, JOBS, PODS, VOLUMES};
use crate::apply::transform::{list, text};

/// Whether a cluster role binding is about a service account of a restored namespace.
pub(super) fn binds_account_within(resource: &str, object: &Value, order: &Order) -> bool {
    resource == "clusterrolebindings.rbac.authorization.k8s.io"
        && list(object, "/subjects")
            .iter()
            .filter_map(|subject| text(subject, "/namespace"))
            .any(|namespace| order.namespaces.admit(namespace))
}

/// The Job that a pod belongs to.
pub(super) fn job_of(pod: &Value) -> Option<Key> {
    let owner = list(pod, "/metadata/ownerReferences")
        .iter()
        .find(|owner| {
            text(owner, "/kind") == Some("Job")
                && text(owner, "/apiVersion").is_some_and(|version| group(version) == "batch")
        })?;
    let namespace = text(pod, "/metadata/namespace")?;
    Some((
        JOBS.to_owned(),
        namespace.to_owned(),
        text(owner, "/name")?.to_owned(),
    ))
}

/// What an object cannot do without.
pub(super) fn needs(resource: &str, object: &Value) -> Vec<Key> {
    let namespace = text(object, "/metadata/namespace").unwrap_or_default();
    let mut needs = Vec::new();
    let mut need = |resource: &str, namespace: &str, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            needs.push((resource.to_owned(), namespace.to_owned(), name.to_owned()));
        }
    };
    match resource {
        PODS => {
            for volume in list(object, "/spec/volumes") {
                let claim = text(volume, "/persistentVolumeClaim/claimName");
                need(CLAIMS, namespace, claim);
            }
            let account = text(object, "/spec/serviceAccountName");
            need("serviceaccounts", namespace, account);
            let class = text(object, "/spec/priorityClassName");
            need("priorityclasses.scheduling.k8s.io", "", class);
            let class = text(object, "/spec/runtimeClassName");
            need("runtimeclasses.node.k8s.io", "", class);
        }
        CLAIMS => {
            need(VOLUMES, "", text(object, "/spec/volumeName"));
            let class = text(object, "/spec/storageClassName");
            need("storageclasses.storage.k8s.io", "", class);
        }
        VOLUMES => {
            let class = text(object, "/spec/storageClassName");
            need("storageclasses.storage.k8s.io", "", class);
        }
        "rolebindings.rbac.authorization.k8s.io"
        | "clusterrolebindings.rbac.authorization.k8s.io" => {
            let name = text(object, "/roleRef/name");
            match text(object, "/roleRef/kind") {
                Some("ClusterRole") => need("clusterroles.rbac.authorization.k8s.io", "", name),
                Some("Role") => need("roles.rbac.authorization.k8s.io", namespace, name),
                _ => {}
            }
        }
        // A definition's name is its resource: `widgets.example.org`.
        _ if resource.contains('.') => need(CRDS, "", Some(resource)),
        _ => {}
    }
    needs
}
