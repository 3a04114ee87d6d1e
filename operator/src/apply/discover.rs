//! What the API server serves: from a resource of the bundle (`deployments.apps`) to the endpoint
//! it is applied to.
//!
//! Asks only for the groups that a restore needs, each once, so that a broken aggregated API
//! disturbs nobody but its own objects. [`Served::forget`] after new definitions.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::Client;
use kube::core::ApiResource;
use tokio::sync::Mutex;

use crate::error::{Error, Result, is_not_found};

/// Where objects of one resource are applied to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Group, version, kind and plural.
    pub(crate) resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
    /// Whether the status is written apart from the rest, by controllers.
    pub(crate) has_status: bool,
}

/// Resources by group and version.
type Lists = HashMap<String, Arc<Vec<APIResource>>>;
/// Versions of each group, the preferred one first.
type Groups = HashMap<String, Vec<String>>;

/// What the API server serves, as far as it was asked.
pub(crate) struct Served {
    client: Client,
    /// `None` until asked.
    groups: Mutex<Option<Arc<Groups>>>,
    lists: Mutex<Lists>,
}

impl Served {
    /// Asks nothing yet.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            groups: Mutex::new(None),
            lists: Mutex::default(),
        }
    }

    /// Asks again from now on.
    pub(crate) async fn forget(&self) {
        *self.groups.lock().await = None;
        self.lists.lock().await.clear();
    }

    /// Where objects of `resource` with `api_version` go: that version if it is served, else the
    /// preferred one. `None` if the cluster has no such resource.
    pub(crate) async fn resolve(
        &self,
        resource: &str,
        api_version: &str,
    ) -> Result<Option<Target>> {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        for version in self.versions(group, api_version).await? {
            let list = self.list(group, &version).await?;
            if let Some(found) = list.iter().find(|r| r.name == plural) {
                let api_version = join(group, &version);
                let status = format!("{plural}/status");
                return Ok(Some(Target {
                    resource: ApiResource {
                        group: group.to_owned(),
                        version,
                        api_version,
                        kind: found.kind.clone(),
                        plural: plural.to_owned(),
                    },
                    namespaced: found.namespaced,
                    has_status: list.iter().any(|r| r.name == status),
                }));
            }
        }
        Ok(None)
    }

    /// Served versions of `group`: that of `api_version` first, then the preferred one.
    async fn versions(&self, group: &str, api_version: &str) -> Result<Vec<String>> {
        if group.is_empty() {
            return Ok(vec!["v1".to_owned()]);
        }
        let groups = self.groups().await?;
        let mut versions = groups.get(group).cloned().unwrap_or_default();
        let wanted = api_version.rsplit('/').next().unwrap_or_default();
        if let Some(at) = versions.iter().position(|v| v == wanted) {
            let own = versions.remove(at);
            versions.insert(0, own);
        }
        Ok(versions)
    }

    async fn groups(&self) -> Result<Arc<Groups>> {
        let mut slot = self.groups.lock().await;
        if let Some(groups) = &*slot {
            return Ok(groups.clone());
        }
        let listed = self
            .client
            .list_api_groups()
            .await
            .map_err(Error::kube("list the API groups of the cluster"))?;
        let groups = listed.groups.into_iter().map(|group| {
            let mut versions: Vec<String> = group.versions.into_iter().map(|v| v.version).collect();
            let preferred = group.preferred_version.map(|v| v.version);
            versions.sort_by_key(|v| Some(v) != preferred.as_ref());
            (group.name, versions)
        });
        let groups = Arc::new(groups.collect::<Groups>());
        *slot = Some(groups.clone());
        Ok(groups)
    }

    async fn list(&self, group: &str, version: &str) -> Result<Arc<Vec<APIResource>>> {
        let key = join(group, version);
        let mut lists = self.lists.lock().await;
        if let Some(list) = lists.get(&key) {
            return Ok(list.clone());
        }
        let listed = if group.is_empty() {
            self.client.list_core_api_resources(version).await
        } else {
            self.client.list_api_group_resources(&key).await
        };
        let resources = match listed {
            Ok(listed) => listed.resources,
            // A version that went away since the groups were listed.
            Err(error) if is_not_found(&error) => Vec::new(),
            Err(error) => return Err(Error::kube(format!("list the resources of {key}"))(error)),
        };
        let list = Arc::new(resources);
        lists.insert(key, list.clone());
        Ok(list)
    }
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}
