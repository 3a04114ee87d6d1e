//! Which kinds of objects the cluster has.
//!
//! Takes every resource once, in the version its group prefers (or the first that has it). A group
//! whose API does not answer is reported, not left out silently.

use std::collections::HashSet;

use kube::Client;
use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};

use crate::error::{Error, Result};

/// What a kind must support to be backed up and restored.
const VERBS: &[&str] = &["list", "get", "create", "delete"];
/// Resources served twice; the other copy is taken.
const DUPLICATES: &[&str] = &["events.events.k8s.io"];

/// A kind of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Group; empty for the core group.
    pub(crate) group: String,
    /// Version it is read in.
    pub(crate) version: String,
    /// Kind, as objects say it.
    pub(crate) name: String,
    /// Plural, in lower case.
    pub(crate) plural: String,
    /// Singular, in lower case.
    pub(crate) singular: String,
    /// Short names.
    pub(crate) short_names: Vec<String>,
    /// Whether its objects belong to namespaces.
    pub(crate) namespaced: bool,
}

impl Kind {
    /// `deployments.apps`; core resources without a group, `pods`.
    pub(crate) fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `apps/v1`, or `v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Path of its objects on the API server; of all namespaces when none is given.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => {
                format!(
                    "{root}/{}/namespaces/{namespace}/{}",
                    self.api_version(),
                    self.plural
                )
            }
            None => format!("{root}/{}/{}", self.api_version(), self.plural),
        }
    }

    /// Whether `name` means this kind: plural, singular, kind, short name, each also with its
    /// group.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let plain = |name: &str| {
            name == self.plural
                || name == self.singular
                || name == self.name.to_ascii_lowercase()
                || self.short_names.iter().any(|short| short == name)
        };
        match name.split_once('.') {
            None => plain(&name),
            Some((name, group)) => group == self.group && plain(name),
        }
    }
}

/// A group and version whose API does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Group.
    pub(crate) group: String,
    /// Version.
    pub(crate) version: String,
}

/// What the cluster has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Discovered {
    /// Kinds, those of the core group first.
    pub(crate) kinds: Vec<Kind>,
    /// APIs that do not answer.
    pub(crate) broken: Vec<Broken>,
}

impl Discovered {
    /// The kind of a resource, `deployments.apps`.
    pub(crate) fn get(&self, resource: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.resource() == resource)
    }
}

/// Asks the API server.
pub(crate) async fn discover(client: &Client) -> Result<Discovered> {
    let core = client
        .list_core_api_versions_aggregated()
        .await
        .map_err(Error::kube("discover the core API"))?;
    let groups = client
        .list_api_groups_aggregated()
        .await
        .map_err(Error::kube("discover the API groups"))?;
    Ok(read(&[core, groups]))
}

fn read(lists: &[APIGroupDiscoveryList]) -> Discovered {
    let mut found = Discovered::default();
    for group in lists.iter().flat_map(|list| &list.items) {
        let name = group
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.name.clone())
            .unwrap_or_default();
        let mut seen = HashSet::new();
        for version in &group.versions {
            let number = version.version.clone().unwrap_or_default();
            if version.freshness.as_deref() == Some("Stale") && version.resources.is_empty() {
                found.broken.push(Broken {
                    group: name.clone(),
                    version: number.clone(),
                });
            }
            for resource in &version.resources {
                let Some(kind) = kind(&name, &number, resource) else {
                    continue;
                };
                if seen.insert(kind.plural.clone())
                    && !DUPLICATES.contains(&kind.resource().as_str())
                {
                    found.kinds.push(kind);
                }
            }
        }
    }
    found
}

/// The kind of a resource, if it can be backed up and restored.
fn kind(group: &str, version: &str, resource: &APIResourceDiscovery) -> Option<Kind> {
    let usable = VERBS
        .iter()
        .all(|verb| resource.verbs.iter().any(|v| v == verb));
    if !usable {
        return None;
    }
    let answer = resource.response_kind.as_ref();
    Some(Kind {
        // A resource may answer with a kind of another group; objects are addressed by their own.
        group: group.to_owned(),
        version: version.to_owned(),
        name: answer.and_then(|kind| kind.kind.clone())?,
        plural: resource.resource.clone()?,
        singular: resource.singular_resource.clone().unwrap_or_default(),
        short_names: resource.short_names.clone(),
        namespaced: resource.scope.as_deref() == Some("Namespaced"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    fn resource(name: &str, kind: &str, scope: &str, verbs: &[&str]) -> serde_json::Value {
        json!({
            "resource": name, "singularResource": kind.to_lowercase(), "scope": scope, "verbs": verbs,
            "responseKind": {"group": "", "version": "v1", "kind": kind},
            "shortNames": if name == "pods" { json!(["po"]) } else { json!([]) },
        })
    }

    /// A small cluster: core, apps in two versions, a broken API, a read-only one.
    pub(crate) fn cluster() -> Discovered {
        let core: APIGroupDiscoveryList = serde_json::from_value(json!({"items": [{
            "metadata": {"name": ""},
            "versions": [{"version": "v1", "freshness": "Current", "resources": [
                resource("pods", "Pod", "Namespaced", VERBS),
                resource("persistentvolumeclaims", "PersistentVolumeClaim", "Namespaced", VERBS),
                resource("persistentvolumes", "PersistentVolume", "Cluster", VERBS),
                resource("namespaces", "Namespace", "Cluster", VERBS),
                resource("events", "Event", "Namespaced", VERBS),
                resource("componentstatuses", "ComponentStatus", "Cluster", &["get", "list"]),
            ]}],
        }]}))
        .unwrap();
        let groups: APIGroupDiscoveryList = serde_json::from_value(json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [
                {"version": "v2", "freshness": "Current", "resources": [
                    resource("deployments", "Deployment", "Namespaced", VERBS)]},
                {"version": "v1", "freshness": "Current", "resources": [
                    resource("deployments", "Deployment", "Namespaced", VERBS),
                    resource("widgets", "Widget", "Cluster", VERBS)]},
            ]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [
                {"version": "v1", "freshness": "Current", "resources": [
                    resource("events", "Event", "Namespaced", VERBS)]}]},
            {"metadata": {"name": "broken.example.org"}, "versions": [
                {"version": "v1alpha1", "freshness": "Stale", "resources": []}]},
        ]}))
        .unwrap();
        read(&[core, groups])
    }

    #[test]
    fn every_resource_once_in_its_preferred_version() {
        let found = cluster();
        let names: Vec<String> = found
            .kinds
            .iter()
            .map(|kind| format!("{}@{}", kind.resource(), kind.version))
            .collect();
        assert_eq!(
            names,
            [
                "pods@v1",
                "persistentvolumeclaims@v1",
                "persistentvolumes@v1",
                "namespaces@v1",
                "events@v1",
                "deployments.apps@v2",
                "widgets.apps@v1",
            ]
        );
    }

    #[test]
    fn a_broken_api_is_reported() {
        let broken = Broken {
            group: "broken.example.org".to_owned(),
            version: "v1alpha1".to_owned(),
        };
        assert_eq!(cluster().broken, [broken]);
    }

    #[test]
    fn names_and_paths() {
        let found = cluster();
        let deployment = found.get("deployments.apps").unwrap();
        for name in [
            "deployments",
            "Deployment",
            "deployments.apps",
            "deployment.apps",
        ] {
            assert!(deployment.is_called(name), "{name}");
        }
        assert!(!deployment.is_called("deployments.extensions"));
        assert!(found.get("pods").unwrap().is_called("po"));
        assert_eq!(
            deployment.path(Some("a")),
            "/apis/apps/v2/namespaces/a/deployments"
        );
        assert_eq!(deployment.path(None), "/apis/apps/v2/deployments");
        let disk = found.get("persistentvolumes").unwrap();
        assert_eq!(disk.path(Some("a")), "/api/v1/persistentvolumes");
    }
}
