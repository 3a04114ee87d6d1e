//! What every controller is given: client, settings, clock, metrics. Passed in, never global.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Error, Result, shorten};
use crate::list;
use crate::metrics::Metrics;
use crate::run::Registry;
use crate::settings::Settings;

/// Name under which the operator reports events.
const REPORTER: &str = "ark-operator";
/// An event's note has room for 1,024 bytes.
const MAX_NOTE: usize = 1000;

/// Shared by all controllers of the process.
pub(crate) struct Context {
    /// Client of the cluster.
    pub(crate) client: Client,
    /// Ark's namespace.
    pub(crate) namespace: String,
    /// What the environment says.
    pub(crate) settings: Settings,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Identity of the cluster: uid of its `kube-system` namespace.
    pub(crate) cluster: String,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// Runs of backups and restores.
    pub(crate) runs: Registry,
    /// What the repository controller tells the maintenance loop.
    pub(crate) maintenance: crate::maintain::Shared,
    /// What volume objects are asked for, by how many there are.
    pub(crate) pace: crate::volumes::pace::Pace,
    /// Cancelled when the process stops or loses its lease.
    pub(crate) shutdown: CancellationToken,
    recorder: Recorder,
}

impl Context {
    /// Asks the cluster who it is and puts everything together.
    pub(crate) async fn new(
        client: Client,
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let system: Namespace = Api::all(client.clone())
            .get("kube-system")
            .await
            .map_err(Error::kube("get Namespace kube-system"))?;
        let cluster = system
            .uid()
            .ok_or_else(|| Error::Bug("namespace kube-system has no uid".to_owned()))?;
        let reporter = Reporter {
            controller: REPORTER.to_owned(),
            instance: Some(settings.pod.clone()),
        };
        Ok(Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            namespace: settings.namespace.clone(),
            settings,
            clock,
            cluster,
            runs: Registry::new(shutdown.clone(), metrics.clone()),
            metrics,
            maintenance: crate::maintain::Shared::default(),
            pace: crate::volumes::pace::Pace::default(),
            shutdown,
        })
    }

    /// Objects of kind `K` in Ark's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of kind `K` in Ark's namespace, without those that cannot be read: each of these is
    /// told by the controller of its kind.
    pub(crate) async fn list<K>(&self, params: &ListParams) -> Result<Vec<K>>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api = Api::<DeserializeGuard<K>>::namespaced(self.client.clone(), &self.namespace);
        let what = format!("objects of kind {}", K::kind(&()));
        let objects = list::all(&api, params, &what).await?;
        Ok(objects
            .into_iter()
            .filter_map(|object| object.0.ok())
            .collect())
    }

    /// Puts an event on `object`. An event that cannot be written is logged; nothing depends on it.
    pub(crate) async fn event<K>(&self, object: &K, type_: EventType, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shorten(note, MAX_NOTE)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(error = %crate::error::describe(&error), reason, "cannot write an event");
        }
    }
}
