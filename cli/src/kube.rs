//! The connection to the cluster, and the few calls that commands make through it. Every error
//! names the object and says why.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{self, Error, Object, Reason, Result};

/// How long a connection may take before the cluster counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A kind of Ark.
pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + 'static
{
}

/// A cluster and Ark's namespace in it.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig. Does not talk to the cluster yet.
    pub(crate) async fn connect(
        kubeconfig: Option<&PathBuf>,
        context: Option<&String>,
        namespace: &str,
    ) -> Result<Self> {
        let options = KubeConfigOptions {
            context: context.cloned(),
            ..KubeConfigOptions::default()
        };
        let failed = |error: &dyn std::error::Error| Error::Kubeconfig {
            message: error.to_string(),
        };
        let mut config = match kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|e| failed(&e))?;
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(|e| failed(&e))?
            }
            None if context.is_some() => Config::from_kubeconfig(&options)
                .await
                .map_err(|e| failed(&e))?,
            None => Config::infer().await.map_err(|_| Error::Kubeconfig {
                message: "there is none, and this is not a pod".to_owned(),
            })?,
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let client = Client::try_from(config).map_err(|e| failed(&e))?;
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
        })
    }

    /// Ark's namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// All objects of a kind in Ark's namespace.
    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One object.
    pub(crate) async fn get<K: Kind>(&self, name: &str) -> Result<K> {
        self.api()
            .get(name)
            .await
            .map_err(|e| self.failed::<K>("read", name, &e))
    }

    /// One object, if it exists.
    pub(crate) async fn find<K: Kind>(&self, name: &str) -> Result<Option<K>> {
        self.api()
            .get_opt(name)
            .await
            .map_err(|e| self.failed::<K>("read", name, &e))
    }

    /// The objects that `selector` matches; all if it is empty.
    pub(crate) async fn list<K: Kind>(&self, selector: &str) -> Result<Vec<K>> {
        let mut params = ListParams::default().limit(500);
        if !selector.is_empty() {
            params = params.labels(selector);
        }
        let mut items = Vec::new();
        loop {
            let page = self
                .api()
                .list(&params)
                .await
                .map_err(|e| self.failed::<K>("list", "", &e))?;
            items.extend(page.items);
            match page.metadata.continue_ {
                Some(token) if !token.is_empty() => params = params.continue_token(&token),
                _ => return Ok(items),
            }
        }
    }

    /// Creates an object.
    pub(crate) async fn create<K: Kind>(&self, object: &K) -> Result<K> {
        let name = object.meta().name.clone().unwrap_or_default();
        self.api()
            .create(&PostParams::default(), object)
            .await
            .map_err(|e| self.failed::<K>("create", &name, &e))
    }

    /// Merges `patch` into an object.
    pub(crate) async fn patch<K: Kind>(&self, name: &str, patch: &serde_json::Value) -> Result<K> {
        self.api()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|e| self.failed::<K>("change", name, &e))
    }

    /// Deletes an object.
    pub(crate) async fn delete<K: Kind>(&self, name: &str) -> Result<()> {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed::<K>("delete", name, &error)),
        }
    }

    /// What a failed call to the API server means.
    pub(crate) fn failed<K: Kind>(
        &self,
        verb: &'static str,
        name: &str,
        error: &kube::Error,
    ) -> Error {
        let mut reason = error::reason(error);
        // Creating in a namespace that is not there is a 404 that names the namespace.
        if verb == "create" && reason == Reason::NotFound {
            reason = Reason::Other(format!("namespace {} does not exist", self.namespace));
        }
        Error::Api {
            verb,
            object: self.object::<K>(name),
            reason,
        }
    }

    /// The object as messages name it.
    pub(crate) fn object<K: Kind>(&self, name: &str) -> Object {
        Object {
            kind: K::kind(&()).into_owned(),
            name: name.to_owned(),
            namespace: self.namespace.clone(),
        }
    }
}
