//! Whether the holder of a lock still lives.
//!
//! A holder's name is `<component>.<pod>@<start>.<location uid>`, the start of the process in
//! seconds (older locks name none). Only a name that ends with the uid of the location of this very
//! cluster is judged: the pods of another cluster that shares the bucket are unknown here, and
//! unknown is not dead.
//!
//! Dead is a holder whose pod is gone, and one whose container has ended, or was started again,
//! after the holder's start. Both times are of one machine's clock. An earlier process of this very
//! pod is dead without a question.
//!
//! The engine asks from places that must not wait, so the first question is answered with "not
//! known" and starts a look-up; a lock is asked about again and again while it is in the way, and
//! the next question gets what was found. A pod that was not there at any time after the lock was
//! seen cannot come back: the pod's name in a holder's name is that of one pod for ever (a pod of a
//! DaemonSet or Deployment is never made twice with one name).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use ark_api::lock_holder::{self, LockHolder};
use ark_engine::{Holder, HolderLiveness};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::runtime::Handle;

/// More names than this are not remembered; a bucket could make them up.
const MAX_KNOWN: usize = 1024;

/// Names of the containers that hold locks, in the pods of agents and operators, as the chart
/// writes them.
const CONTAINERS: [&str; 2] = ["agent", "operator"];

/// When this process started, in seconds.
static STARTED: LazyLock<i64> = LazyLock::new(|| jiff::Timestamp::now().as_second());

/// This process as the holder of locks at the location with this uid.
pub(crate) fn holder(pod: &str, location_uid: &str) -> Holder {
    let own = LockHolder {
        component: lock_holder::AGENT,
        pod,
        started: Some(*STARTED),
    };
    Holder {
        host_name: own.name(location_uid),
        user_name: "ark".to_owned(),
        pid: std::process::id(),
    }
}

/// A process in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    pod: String,
    /// Its start in seconds, if the holder's name says it.
    started: Option<i64>,
}

/// The process in a holder's name, if it can be judged here.
fn process_of(host_name: &str, location_uid: &str) -> Option<Process> {
    let holder = LockHolder::parse(host_name, location_uid)?;
    Some(Process {
        pod: holder.pod.to_owned(),
        started: holder.started,
    })
}

/// Whether the process has ended for certain, as its pod tells.
fn has_ended(pod: Option<&Pod>, started: Option<i64>) -> bool {
    let Some(pod) = pod else { return true };
    let statuses = pod.status.iter().flat_map(|s| &s.container_statuses);
    let Some(container) = statuses
        .flatten()
        .find(|c| CONTAINERS.contains(&c.name.as_str()))
    else {
        return false;
    };
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let mut times = states.into_iter().flatten().flat_map(|state| {
        let again = state.running.as_ref().and_then(|r| r.started_at.as_ref());
        let ended = state
            .terminated
            .as_ref()
            .and_then(|t| t.finished_at.as_ref());
        [again, ended]
    });
    started.is_some_and(|started| times.any(|at| at.is_some_and(|at| at.0.as_second() > started)))
}

/// Asks the API server about the pods of Ark's namespace.
pub(crate) struct Liveness {
    pods: Api<Pod>,
    runtime: Handle,
    /// This process's own pod.
    own: String,
    known: Mutex<HashMap<Process, Answer>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Asking,
    Alive,
    Dead,
}

impl Liveness {
    /// Asks about the pods of `namespace` through `client`, on `runtime`; `own` is the pod of this
    /// process.
    pub(crate) fn new(client: Client, namespace: &str, own: &str, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            pods: Api::namespaced(client, namespace),
            runtime,
            own: own.to_owned(),
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

    fn remember(&self, process: Process, answer: Option<Answer>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some(answer) => drop(known.insert(process, answer)),
            None => drop(known.remove(&process)),
        }
    }

    /// Whether a process lives, as far as is known. A process that was found alive, or about which
    /// nobody answered, is looked up anew;
    /// whoever was dead stays dead.
    fn ask(self: &Arc<Self>, process: Process) -> Option<bool> {
        let earlier = process.started.is_some_and(|started| started < *STARTED);
        if process.pod == self.own && earlier {
            return Some(false);
        }
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(&process) {
                Some(Answer::Dead) => return Some(false),
                Some(Answer::Asking) => return None,
                Some(Answer::Alive) | None => {}
            }
            let before = known.insert(process.clone(), Answer::Asking);
            if known.len() > MAX_KNOWN {
                known.clear();
                return None;
            }
            let this = Arc::clone(self);
            drop(
                self.runtime
                    .spawn(async move { this.look_up(process).await }),
            );
            before?;
        }
        Some(true)
    }

    async fn look_up(&self, process: Process) {
        let answer = match self.pods.get_opt(&process.pod).await {
            Ok(pod) if has_ended(pod.as_ref(), process.started) => Some(Answer::Dead),
            Ok(_) => Some(Answer::Alive),
            Err(error) => {
                tracing::warn!(pod = process.pod, %error, "cannot tell whether the holder of a lock lives");
                None
            }
        };
        self.remember(process, answer);
    }
}

struct AtLocation {
    liveness: Arc<Liveness>,
    location_uid: String,
}

impl HolderLiveness for AtLocation {
    fn is_alive(&self, host_name: &str) -> Option<bool> {
        self.liveness
            .ask(process_of(host_name, &self.location_uid)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_name_is_that_of_its_process() {
        let own = holder("agent-x1", "uid-1").host_name;
        let process = Process {
            pod: "agent-x1".to_owned(),
            started: Some(*STARTED),
        };
        assert_eq!(process_of(&own, "uid-1"), Some(process));
        assert_eq!(process_of(&own, "uid-2"), None);
    }

    #[test]
    fn a_process_ends_with_its_pod_and_with_its_container() {
        let pod = |state: serde_json::Value, last: serde_json::Value| -> Pod {
            serde_json::from_value(serde_json::json!({"status": {"containerStatuses": [
                {"name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 1,
                    "state": state, "lastState": last},
                {"name": "other", "image": "", "imageID": "", "ready": true, "restartCount": 1,
                    "state": {"running": {"startedAt": "2030-01-01T00:00:00Z"}}},
            ]}}))
            .unwrap()
        };
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
        let running = serde_json::json!({"running": {"startedAt": "2026-01-01T00:00:10Z"}});
        let waiting = serde_json::json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let ended = serde_json::json!({"terminated": {"exitCode": 137, "finishedAt": "2026-01-01T00:00:08Z"}});
        let none = serde_json::json!({});
        let first = Some(at("2026-01-01T00:00:01Z"));
        let second = Some(at("2026-01-01T00:00:10Z"));
        assert!(has_ended(None, first));
        assert!(has_ended(None, None));
        assert!(has_ended(Some(&pod(running.clone(), none.clone())), first));
        assert!(has_ended(Some(&pod(ended.clone(), none.clone())), first));
        assert!(has_ended(Some(&pod(waiting.clone(), ended.clone())), first));
        // The one that runs, also while the kubelet has not said so yet.
        assert!(!has_ended(
            Some(&pod(running.clone(), ended.clone())),
            second
        ));
        assert!(!has_ended(Some(&pod(waiting, ended)), second));
        assert!(!has_ended(Some(&pod(running, none)), None));
        assert!(!has_ended(Some(&Pod::default()), first));
    }
}
