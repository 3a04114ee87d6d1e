//! What an object of a backup refers to, as far as that decides what is restored. Pure.

use serde_json::Value;

use super::plan::{Key, group};
use super::validate::Order;
use crate::apply::order::{CRDS, JOBS, VOLUMES};
use crate::apply::transform::{list, text};
use crate::collect::related;

/// Name of the account that a Secret holds a token of.
const TOKEN_OF: &str = "/metadata/annotations/kubernetes.io~1service-account.name";

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

/// What an object cannot do without: what a backup takes along with it, and what gives it its form.
pub(super) fn needs(resource: &str, object: &Value) -> Vec<Key> {
    let mut needs: Vec<Key> = related::of(resource, object)
        .into_iter()
        .map(|wanted| (wanted.resource, wanted.namespace, wanted.name))
        .collect();
    let mut need = |resource: &str, namespace: &str, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            needs.push((resource.to_owned(), namespace.to_owned(), name.to_owned()));
        }
    };
    match resource {
        VOLUMES => {
            let class = text(object, "/spec/storageClassName");
            need("storageclasses.storage.k8s.io", "", class);
        }
        "secrets" => {
            // A token without its account is deleted at once.
            let namespace = text(object, "/metadata/namespace").unwrap_or_default();
            let account = text(object, TOKEN_OF);
            need("serviceaccounts", namespace, account);
        }
        // A definition's name is its resource: `widgets.example.org`.
        _ if resource.contains('.') => need(CRDS, "", Some(resource)),
        _ => {}
    }
    needs
}
