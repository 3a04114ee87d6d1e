//! What every part of the agent shares: passed down, never global.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::{Api, Client};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Result;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::pods::Pods;
use crate::queue::Queue;
use crate::repositories::Repositories;
use crate::settings::Settings;
use crate::volume;
use crate::writes::Writes;

/// Shared state of the agent.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) repositories: Arc<Repositories>,
    pub(crate) writes: Arc<Writes>,
    pub(crate) pods: Pods,
    pub(crate) liveness: Arc<Liveness>,
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
    /// Kind of the object.
    kind: &'static str,
}

/// The entry of an object that is worked on; it ends when this is dropped, also by a panic.
pub(crate) struct Entry {
    ctx: Arc<Context>,
    uid: String,
    /// How to stop it.
    pub(crate) running: Running,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ctx.running().remove(&self.uid);
    }
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
        Self {
            liveness: Liveness::new(
                client.clone(),
                &settings.namespace,
                &settings.pod,
                Handle::current(),
            ),
            client,
            metrics,
            queue: Queue::new(settings.concurrency),
            repositories: Arc::default(),
            writes: Arc::new(Writes::new()),
            pods,
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

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the object with this uid as being worked on. `None` if it already is.
    pub(crate) fn begin(self: &Arc<Self>, kind: &'static str, uid: &str) -> Option<Entry> {
        let mut running = self.running();
        if self.shutdown.is_cancelled() || running.contains_key(uid) {
            return None;
        }
        let entry = Running {
            stop: self.shutdown.child_token(),
            gone: CancellationToken::new(),
            kind,
        };
        running.insert(uid.to_owned(), entry.clone());
        Some(Entry {
            ctx: Arc::clone(self),
            uid: uid.to_owned(),
            running: entry,
        })
    }

    /// Stops the work on the object, if there is any, because somebody wishes it.
    pub(crate) fn cancel(&self, uid: &str) {
        if let Some(entry) = self.running().get(uid) {
            entry.stop.cancel();
        }
    }

    /// Stops the work on objects of `kind` that no longer exist: those whose uid is not in `there`.
    pub(crate) fn keep_only(&self, kind: &str, there: &BTreeSet<String>) {
        for (uid, entry) in self.running().iter() {
            if entry.kind == kind && !there.contains(uid) {
                entry.gone.cancel();
                entry.stop.cancel();
            }
        }
    }

    /// Stops the work on the object, if there is any, because it no longer exists.
    pub(crate) fn gone(&self, uid: &str) {
        if let Some(entry) = self.running().get(uid) {
            entry.gone.cancel();
            entry.stop.cancel();
        }
    }
}
