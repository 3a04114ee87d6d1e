//! Volume objects that no agent looks at, because their node is gone or has no agent: somebody must
//! say so.
//!
//! Only the agent of its node works on a volume object and writes its status. When there is none,
//! this controller writes instead: while an agent may still come, what is waited for; when the node
//! itself has not existed for a while, that the volume failed. It leaves alone whatever an agent
//! works on. Who waits for the volume (a backup, a restore) has its own deadline, and hears of it
//! sooner this way.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ark_api::condition::reason;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::{PodVolumeBackup, PodVolumeRestore};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{ControllerOf, Reconciler};
use crate::agents;
use crate::context::Context;
use crate::error::{Error, Result};

/// How long a new object is left to the agent of its node.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// How often an object that has not ended is looked at.
const AGAIN: Duration = Duration::from_secs(30);
/// For how long it is remembered which agents run.
const AGENTS: Duration = Duration::from_secs(10);
/// How long a node must not exist before its volumes are given up.
const NODE_PATIENCE: Duration = Duration::from_mins(1);

/// A kind of volume object.
pub(crate) trait VolumeObject:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + PartialEq
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Where the view of all objects of this kind is kept for others.
    fn view(context: &Context) -> &OnceLock<Store<DeserializeGuard<Self>>>;
    /// The node it is for.
    fn node(&self) -> &str;
    /// Whether it came from elsewhere, so that nobody works on it.
    fn is_imported(&self) -> bool;
    /// Where it stands.
    fn phase(&self) -> VolumePhase;
    /// Writes phase, reason and message; the time if that is its end.
    fn say(&mut self, word: &Word, now: &Time);
}

macro_rules! volume_object {
    ($kind:ty, $view:ident) => {
        impl VolumeObject for $kind {
            fn view(context: &Context) -> &OnceLock<Store<DeserializeGuard<Self>>> {
                &context.pace.$view
            }

            fn node(&self) -> &str {
                &self.spec.node
            }

            fn is_imported(&self) -> bool {
                self.spec.origin.is_some()
            }

            fn phase(&self) -> VolumePhase {
                let status = self.status.as_ref();
                status.and_then(|status| status.phase).unwrap_or_default()
            }

            fn say(&mut self, word: &Word, now: &Time) {
                let status = self.status.get_or_insert_default();
                status.phase = Some(word.phase);
                status.reason = Some(word.reason.to_owned());
                status.message = Some(word.message.clone());
                if word.phase.is_terminal() {
                    status.completion_timestamp = Some(now.clone());
                }
            }
        }
    };
}

volume_object!(PodVolumeBackup, backups);
volume_object!(PodVolumeRestore, restores);

/// What is known of an object's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attended {
    /// Its agent runs and is ready.
    Agent,
    /// It exists.
    NoAgent,
    /// It has not existed for so long.
    NoNode(Duration),
}

/// What a status is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    phase: VolumePhase,
    reason: &'static str,
    message: String,
}

/// What the status of an object of this phase is to say; `None`: it is for the agent to say.
fn word(node: &str, phase: VolumePhase, attended: Attended) -> Option<Word> {
    let waits = matches!(phase, VolumePhase::New);
    let (phase, reason, message) = match attended {
        Attended::NoNode(since) if since >= NODE_PATIENCE => (
            VolumePhase::Failed,
            reason::NODE_GONE,
            format!("node {node} no longer exists, and the volume's pod with it"),
        ),
        Attended::NoNode(_) if waits => (
            VolumePhase::New,
            reason::NODE_GONE,
            format!("node {node} does not exist; unless it comes back, the volume is given up"),
        ),
        Attended::NoAgent if waits => (
            VolumePhase::New,
            reason::NO_AGENT,
            format!(
                "no agent is ready on node {node}: see the pods of Ark's DaemonSet, its node selector and tolerations"
            ),
        ),
        Attended::Agent | Attended::NoNode(_) | Attended::NoAgent => return None,
    };
    Some(Word {
        phase,
        reason,
        message,
    })
}

/// Which nodes have an agent, remembered for a moment: both kinds of objects ask.
#[derive(Debug, Default)]
pub(crate) struct Agents(Mutex<Option<(Instant, BTreeSet<String>)>>);

impl Agents {
    async fn is_ready(&self, context: &Context, node: &str) -> Result<bool> {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((_, nodes)) = known.filter(|(at, _)| at.elapsed() < AGENTS) {
            return Ok(nodes.contains(node));
        }
        let nodes = agents::ready_nodes(context).await?;
        let ready = nodes.contains(node);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), nodes));
        Ok(ready)
    }
}

/// The controller of one kind.
pub(crate) struct UnattendedReconciler<K> {
    agents: Arc<Agents>,
    /// Since when the nodes of objects, by uid, are known not to exist.
    gone: Mutex<HashMap<String, Instant>>,
    kind: PhantomData<K>,
}

impl<K: VolumeObject> UnattendedReconciler<K> {
    /// Asks `agents`.
    pub(crate) fn new(agents: Arc<Agents>) -> Self {
        Self {
            agents,
            gone: Mutex::default(),
            kind: PhantomData,
        }
    }

    fn gone(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attended(&self, context: &Context, object: &K) -> Result<Attended> {
        let (node, uid) = (object.node(), object.uid().unwrap_or_default());
        if self.agents.is_ready(context, node).await? {
            self.gone().remove(&uid);
            return Ok(Attended::Agent);
        }
        let nodes = Api::<Node>::all(context.client.clone());
        let found = match node {
            "" => None,
            node => nodes
                .get_metadata_opt(node)
                .await
                .map_err(Error::kube(format!("get Node {node}")))?,
        };
        let mut gone = self.gone();
        if found.is_some() {
            gone.remove(&uid);
            return Ok(Attended::NoAgent);
        }
        let since = gone.entry(uid).or_insert_with(Instant::now);
        Ok(Attended::NoNode(since.elapsed()))
    }
}

impl<K: VolumeObject> Reconciler for UnattendedReconciler<K> {
    type Kind = K;

    fn phase_of(object: &Self::Kind) -> Option<String> {
        Some(format!("{:?}", object.phase()))
    }

    async fn reconcile(&self, object: &K, context: &Arc<Context>) -> Result<Action> {
        let uid = object.uid().unwrap_or_default();
        if object.is_imported() || object.phase().is_terminal() {
            self.gone().remove(&uid);
            return Ok(Action::await_change());
        }
        let created = object.creation_timestamp().map(|time| time.0);
        let age = created.map_or(Duration::ZERO, |created| {
            let age = context.clock.now().duration_since(created);
            age.try_into().unwrap_or_default()
        });
        if let Some(left) = FIRST_LOOK.checked_sub(age).filter(|left| !left.is_zero()) {
            return Ok(Action::requeue(left));
        }
        let attended = self.attended(context, object).await?;
        if word(object.node(), object.phase(), attended).is_some() {
            let now = context.clock.time();
            let api = context.api::<K>();
            crate::status::update(&api, &object.name_any(), &uid, |object| {
                // It may have moved on meanwhile.
                let phase = object.phase();
                if phase.is_terminal() {
                    return;
                }
                if let Some(word) = word(object.node(), phase, attended) {
                    object.say(&word, &now);
                }
            })
            .await?;
        }
        Ok(Action::requeue(AGAIN))
    }

    fn triggers(&self, controller: ControllerOf<K>, context: &Context) -> ControllerOf<K> {
        if K::view(context).set(controller.store()).is_err() {
            tracing::debug!("the volume objects were handed over before");
        }
        controller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_works_on_is_left_to_it_and_the_rest_is_said() {
        use VolumePhase::{Accepted, Canceling, Failed, InProgress, New};
        let said = |phase, attended| word("n1", phase, attended).map(|w| (w.phase, w.reason));
        let (young, old) = (
            Attended::NoNode(Duration::ZERO),
            Attended::NoNode(NODE_PATIENCE),
        );
        for phase in [New, Accepted, InProgress, Canceling] {
            assert_eq!(said(phase, Attended::Agent), None, "{phase:?}");
            assert_eq!(
                said(phase, old),
                Some((Failed, reason::NODE_GONE)),
                "{phase:?}"
            );
        }
        assert_eq!(
            said(New, Attended::NoAgent),
            Some((New, reason::NO_AGENT)),
            "an agent may still come"
        );
        assert_eq!(said(New, young), Some((New, reason::NODE_GONE)));
        for phase in [Accepted, InProgress, Canceling] {
            assert_eq!(said(phase, Attended::NoAgent), None, "{phase:?}");
            assert_eq!(said(phase, young), None, "{phase:?}");
        }
    }
}
