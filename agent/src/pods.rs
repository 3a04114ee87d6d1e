//! The pods of this node, kept up to date by a watch.
//!
//! Does: hold what the agent needs of each pod (names, volumes, gate status, no containers), and
//! let waiters wake when any of them changes. Does not: replace a direct question where an answer a
//! moment old would be wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// The pods of this node.
#[derive(Clone, Debug)]
pub(crate) struct Pods {
    store: Store<Pod>,
    seen: watch::Receiver<Seen>,
}

/// How much the watch has seen. The store's own way to wait for the first list wakes only one of
/// several waiters, so it is not used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Changes since the start.
    changes: u64,
    /// Whether the first list arrived.
    all: bool,
}

impl Pods {
    /// Starts the watch. The future it returns runs it, until it is dropped.
    pub(crate) fn start(
        client: Client,
        node: &str,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (store, writer) = reflector::store();
        let (tell, seen) = watch::channel(Seen::default());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let stream = watcher(Api::<Pod>::all(client), config)
            .modify(trim)
            .default_backoff();
        let run = async move {
            let mut events = std::pin::pin!(reflector::reflector(writer, stream));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => tell.send_modify(|seen| {
                        seen.changes += 1;
                        seen.all |= matches!(event, Event::InitDone);
                    }),
                    Err(error) => {
                        metrics.watch_errors.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(%error, "the watch of this node's pods broke; starting again");
                    }
                }
            }
        };
        (Self { store, seen }, run)
    }

    /// All pods of the node, as last seen. Empty until the first list arrived.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.store.state()
    }

    /// Whether the first list arrived.
    pub(crate) fn known(&self) -> bool {
        self.seen.borrow().all
    }

    /// Waits until the first list arrived; false if the watch ended before.
    pub(crate) async fn ready(&self) -> bool {
        self.seen.clone().wait_for(|seen| seen.all).await.is_ok()
    }

    /// The pod of this name, as last seen on this node.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// A receiver that is told of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<Seen> {
        let mut seen = self.seen.clone();
        seen.mark_unchanged();
        seen
    }
}

/// Drops what the agent never looks at: on a full node that is most of the memory.
fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.labels = None;
    pod.metadata.owner_references = None;
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key.starts_with("kubernetes.io/config."));
    }
    if let Some(spec) = &mut pod.spec {
        spec.containers.clear();
        spec.tolerations = None;
        spec.affinity = None;
        for container in spec.init_containers.iter_mut().flatten() {
            *container = k8s_openapi::api::core::v1::Container {
                name: std::mem::take(&mut container.name),
                ..Default::default()
            };
        }
    }
    if let Some(status) = &mut pod.status {
        status.container_statuses = None;
        status.ephemeral_container_statuses = None;
        status.conditions = None;
    }
}
