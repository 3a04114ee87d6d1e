//! What every part of the agent shares: passed down, never global.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::{Api, Client};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Result;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::pods::Pods;
use crate::queue::Queue;
use crate::settings::Settings;
use crate::volume;

/// Shared state of the agent.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) queue: Queue,
    pub(crate) pods: Pods,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) runtime: Handle,
    /// Cancelled when the process is to end.
    pub(crate) shutdown: CancellationToken,
    /// Work in progress, waited for at the end.
    pub(crate) tracker: TaskTracker,
    /// Uids of the objects this process works on, and how to stop each.
    running: Mutex<BTreeMap<String, Running>>,
}

/// How to stop the work on an object.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// Cancelled by a wish, by the object's deletion, or with the process.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the object no longer exists.
    pub(crate) gone: CancellationToken,
}

impl Context {
    /// Puts it together.
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        pods: Pods,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let runtime = Handle::current();
        Self {
            liveness: Liveness::new(client.clone(), &settings.namespace, runtime.clone()),
            client,
            metrics,
            queue: Queue::new(settings.concurrency),
            pods,
            runtime,
            shutdown,
            tracker: TaskTracker::new(),
            running: Mutex::default(),
            settings,
        }
    }

    /// Objects of Ark's namespace.
    pub(crate) fn own<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    /// Whether the agent can find volumes at all: the reason it is not ready otherwise.
    pub(crate) fn check_kubelet(&self) -> Result<()> {
        let pods = self.pods.all();
        volume::kubelet::check(&self.settings.pods_dir, pods.iter().map(Arc::as_ref))
    }

    /// Enters the object with this uid as being worked on. `None` if it already is.
    pub(crate) fn begin(&self, uid: &str) -> Option<Running> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shutdown.is_cancelled() || running.contains_key(uid) {
            return None;
        }
        let entry = Running {
            stop: self.shutdown.child_token(),
            gone: CancellationToken::new(),
        };
        running.insert(uid.to_owned(), entry.clone());
        Some(entry)
    }

    /// The object is no longer worked on.
    pub(crate) fn end(&self, uid: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(uid);
    }

    /// Stops the work on the object, if there is any: because it is wished, or because it is gone.
    pub(crate) fn stop(&self, uid: &str, gone: bool) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = running.get(uid) {
            if gone {
                entry.gone.cancel();
            }
            entry.stop.cancel();
        }
    }
}
