//! Whether the holder of a lock still lives.
//!
//! A holder's name is `<component>.<pod>.<location uid>`. Only a name that ends with the uid of the
//! location of this very cluster is judged: the pods of another cluster that shares the bucket are
//! unknown here, and unknown is not dead.
//!
//! The engine asks from places that must not wait, so the first question is answered with "not
//! known" and starts a look-up; a lock is asked about again and again while it is in the way, and the
//! next question gets what was found. A pod that was not there at any time after the lock was seen
//! cannot come back: the pod's name in a holder's name is that of one pod for ever (a pod of a
//! DaemonSet or Deployment is never made twice with one name).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ark_engine::{Holder, HolderLiveness};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::runtime::Handle;

/// First part of the name of an agent.
const AGENT: &str = "ark-agent";
/// First part of the name of an operator.
const OPERATOR: &str = "ark-operator";
/// More names than this are not remembered; a bucket could make them up.
const MAX_KNOWN: usize = 1024;

/// This process as the holder of locks at the location with this uid.
pub(crate) fn holder(pod: &str, location_uid: &str) -> Holder {
    Holder {
        host_name: format!("{AGENT}.{pod}.{location_uid}"),
        user_name: "ark".to_owned(),
        pid: std::process::id(),
    }
}

/// The pod in a holder's name, if it can be judged here.
fn pod_of<'a>(host_name: &'a str, location_uid: &str) -> Option<&'a str> {
    let (component, rest) = host_name.split_once('.')?;
    let pod = rest.strip_suffix(location_uid)?.strip_suffix('.')?;
    let named = !location_uid.is_empty() && !pod.is_empty() && !pod.contains(['/', '%', '?']);
    (named && matches!(component, AGENT | OPERATOR)).then_some(pod)
}

/// Asks the API server about the pods of Ark's namespace.
pub(crate) struct Liveness {
    pods: Api<Pod>,
    runtime: Handle,
    known: Mutex<HashMap<String, Answer>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Asking,
    Alive,
    Dead,
}

impl Liveness {
    /// Asks about the pods of `namespace` through `client`, on `runtime`.
    pub(crate) fn new(client: Client, namespace: &str, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            pods: Api::namespaced(client, namespace),
            runtime,
            known: Mutex::default(),
        })
    }

    /// The same for the locks of one location.
    pub(crate) fn at(self: &Arc<Self>, location_uid: &str) -> Arc<dyn HolderLiveness> {
        Arc::new(AtLocation {
            liveness: Arc::clone(self),
            location_uid: location_uid.to_owned(),
        })
    }

    fn remember(&self, pod: &str, answer: Option<Answer>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some(answer) => drop(known.insert(pod.to_owned(), answer)),
            None => drop(known.remove(pod)),
        }
    }

    /// What is known of `pod`. What was found alive, or never answered, is looked up anew; whoever was
    /// dead stays dead.
    fn ask(self: &Arc<Self>, pod: &str) -> Option<bool> {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(pod) {
                Some(Answer::Dead) => return Some(false),
                Some(Answer::Asking) => return None,
                Some(Answer::Alive) | None => {}
            }
            let before = known.insert(pod.to_owned(), Answer::Asking);
            if known.len() > MAX_KNOWN {
                known.clear();
                return None;
            }
            let this = Arc::clone(self);
            let pod = pod.to_owned();
            drop(self.runtime.spawn(async move { this.look_up(&pod).await }));
            before?;
        }
        Some(true)
    }

    async fn look_up(&self, pod: &str) {
        let answer = match self.pods.get_metadata_opt(pod).await {
            Ok(Some(_)) => Some(Answer::Alive),
            Ok(None) => Some(Answer::Dead),
            Err(error) => {
                tracing::warn!(pod, %error, "cannot tell whether the holder of a lock lives");
                None
            }
        };
        self.remember(pod, answer);
    }
}

struct AtLocation {
    liveness: Arc<Liveness>,
    location_uid: String,
}

impl HolderLiveness for AtLocation {
    fn is_alive(&self, host_name: &str) -> Option<bool> {
        self.liveness.ask(pod_of(host_name, &self.location_uid)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_holders_of_this_cluster_are_judged() {
        let own = holder("agent-x1", "uid-1").host_name;
        assert_eq!(pod_of(&own, "uid-1"), Some("agent-x1"));
        assert_eq!(pod_of(&own, "uid-2"), None);
        assert_eq!(pod_of("ark-operator.op.0.uid-1", "uid-1"), Some("op.0"));
        for foreign in [
            "somebody.agent-x1.uid-1",
            "ark-agent.uid-1",
            "ark-agent..uid-1",
            "ark-agent.a/b.uid-1",
            "laptop",
            "",
        ] {
            assert_eq!(pod_of(foreign, "uid-1"), None, "{foreign}");
        }
        assert_eq!(pod_of("ark-agent.x.", ""), None);
    }
}
