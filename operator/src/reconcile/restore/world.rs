//! The world as a restore's volumes see it: watches of its pods, claims and PodVolumeRestores, and
//! of the agents.
//!
//! Reads only. A watch that is disturbed is taken up again by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ark_api::condition::reason;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::pod_volume_restore::PodVolumeRestoreStatus;
use ark_api::{PodVolumeRestore, label};
use ark_engine::FileOperation;
use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::runtime::reflector::{ObjectRef, Store, reflector, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::fill::{self, ClaimView, Deadlines, FillView, Finished, Job, PodView, Step, View};
use crate::context::Context;
use crate::error::{Error, Result};

/// The world as the watches show it.
pub(super) struct World {
    namespace: String,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    fills: Store<PodVolumeRestore>,
    agents: Store<Pod>,
    /// Claims that carry no label of ours, as last asked for.
    others: HashMap<(String, String), ClaimView>,
}

/// Something was seen.
pub(super) enum Seen {
    /// A watch has its first full list.
    Synced,
    /// Something changed.
    Changed,
}

/// Starts to watch everything that belongs to the restore with `uid`, and the agents.
pub(super) fn watch(context: &Context, uid: &str) -> (World, BoxStream<'static, Seen>) {
    let client = context.client.clone();
    let own = watcher::Config::default().labels(&format!("{}={uid}", label::RESTORE_UID));
    let agent = watcher::Config::default().labels(&format!(
        "{}={}",
        label::COMPONENT,
        label::COMPONENT_AGENT
    ));
    let (pods, a) = follow(Api::all(client.clone()), own.clone());
    let (claims, b) = follow(Api::all(client), own.clone());
    let (fills, c) = follow(context.api::<PodVolumeRestore>(), own);
    let (agents, d) = follow(context.api::<Pod>(), agent);
    let world = World {
        namespace: context.namespace.clone(),
        pods,
        claims,
        fills,
        agents,
        others: HashMap::new(),
    };
    (world, select_all([a, b, c, d]).boxed())
}

fn follow<K>(api: Api<K>, config: watcher::Config) -> (Store<K>, BoxStream<'static, Seen>)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = store::<K>();
    let mut synced = false;
    let stream = reflector(writer, watcher(api, config).default_backoff()).map(move |event| {
        match event {
            Ok(watcher::Event::InitDone) if !synced => {
                synced = true;
                Seen::Synced
            }
            Ok(_) => Seen::Changed,
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "watching is disturbed; it is tried again");
                Seen::Changed
            }
        }
    });
    (reader, stream.boxed())
}

impl World {
    /// Asks for claims that no watch shows: those that pods made for ephemeral volumes.
    pub(super) async fn ask(&mut self, context: &Context, jobs: &[&Job]) -> Result<()> {
        for job in jobs {
            let Some(claim) = &job.claim else {
                continue;
            };
            let namespace = &job.reference.namespace;
            let key = (namespace.clone(), claim.clone());
            let bound = self
                .others
                .get(&key)
                .is_some_and(|claim| claim.phase == "Bound");
            let shown = self.claims.get(&ObjectRef::new(claim).within(namespace));
            if bound || shown.is_some() {
                continue;
            }
            let api: Api<PersistentVolumeClaim> =
                Api::namespaced(context.client.clone(), namespace);
            let found = api.get_opt(claim).await.map_err(Error::kube(format!(
                "get PersistentVolumeClaim {namespace}/{claim}"
            )))?;
            if let Some(found) = found {
                self.others.insert(key, claim_view(&found));
            }
        }
        Ok(())
    }

    /// What is known of a job, whose PodVolumeRestore has this name.
    pub(super) fn view(&self, job: &Job, name: &str) -> View {
        let reference = &job.reference;
        let namespace = reference.namespace.as_str();
        let pod = self
            .pods
            .get(&ObjectRef::new(&reference.name).within(namespace))
            .map(|pod| pod_view(&pod));
        let claim = job.claim.as_ref().and_then(|claim| {
            let shown = self.claims.get(&ObjectRef::new(claim).within(namespace));
            shown.map(|claim| claim_view(&claim)).or_else(|| {
                self.others
                    .get(&(namespace.to_owned(), claim.clone()))
                    .cloned()
            })
        });
        let fill = self
            .fills
            .get(&ObjectRef::new(name).within(&self.namespace))
            .map(|fill| fill_view(&fill));
        let agent = pod
            .as_ref()
            .is_some_and(|pod: &PodView| self.has_agent(&pod.node));
        View {
            pod,
            claim,
            fill,
            agent,
        }
    }

    /// An agent that is just starting counts: it takes the volume up when it runs.
    fn has_agent(&self, node: &str) -> bool {
        let on_node = |pod: &Arc<Pod>| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.as_deref()) == Some(node)
                && pod.metadata.deletion_timestamp.is_none()
        };
        self.agents.state().iter().any(on_node)
    }
}

fn pod_view(pod: &Pod) -> PodView {
    let status = pod.status.clone().unwrap_or_default();
    let scheduled = status
        .conditions
        .unwrap_or_default()
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")).then(|| {
        status
            .message
            .or(status.reason)
            .unwrap_or_else(|| "it will not run again".to_owned())
    });
    PodView {
        uid: pod.uid().unwrap_or_default(),
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        unschedulable: scheduled.and_then(|condition| condition.message),
        leaving: pod.metadata.deletion_timestamp.is_some(),
        ended,
    }
}

fn claim_view(claim: &PersistentVolumeClaim) -> ClaimView {
    let spec = claim.spec.clone().unwrap_or_default();
    ClaimView {
        uid: claim.uid().unwrap_or_default(),
        phase: claim
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default(),
        volume: spec.volume_name,
        class: spec.storage_class_name,
    }
}

fn fill_view(fill: &PodVolumeRestore) -> FillView {
    let status = fill.status.clone().unwrap_or_default();
    FillView {
        phase: status.phase.unwrap_or_default(),
        message: status.message.clone(),
        started: status.start_timestamp.is_some(),
        kept: status.reason.as_deref() == Some(reason::VOLUME_NOT_EMPTY)
            && status.phase == Some(VolumePhase::Completed),
        bytes: status
            .progress
            .as_ref()
            .map_or(0, |progress| progress.bytes_done),
        file_errors: status.file_error_count.unwrap_or_default(),
        only_metadata: only_metadata(&status),
    }
}

/// Whether all content is back, as the agent decides it too when it opens the gate. Errors beyond
/// those that are listed may be anything.
fn only_metadata(status: &PodVolumeRestoreStatus) -> bool {
    let metadata = [
        FileOperation::Chown,
        FileOperation::Chmod,
        FileOperation::Times,
        FileOperation::Xattr,
    ];
    let listed = i64::try_from(status.file_errors.len()).ok();
    status.file_error_count == listed
        && status.file_errors.iter().all(|error| {
            metadata
                .iter()
                .any(|known| known.as_str() == error.operation)
        })
}

/// What became of a volume whose restore has ended; `None` while it runs, or if it did not get far
/// enough to be worth anything.
pub(super) fn ended(object: &PodVolumeRestore) -> Option<Finished> {
    let view = fill_view(object);
    let never = Deadlines {
        bind: Duration::MAX,
        queue: Duration::MAX,
        fill: Duration::MAX,
    };
    match view.phase {
        VolumePhase::Completed | VolumePhase::PartiallyFailed => {
            match fill::filling(&view, Duration::ZERO, never) {
                Step::Done(finished) => Some(finished),
                _ => None,
            }
        }
        _ => None,
    }
}
