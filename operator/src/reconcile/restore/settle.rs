//! Waits until what a restore made works: its controllers have been taken up by the cluster, and
//! the gates of its pods have let their applications start.
//!
//! What has not within the deadline is an error of the restore. Reads only. A look that fails is an
//! error of the object it was about.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;

use super::gates;
use super::pods::{Opening, Pods};
use super::report::about;
use super::run::Run;
use crate::apply::order::PODS;
use crate::apply::transform::{self, text};

/// How long controllers and gates may take, all together, unless a volume has less.
const DEADLINE: Duration = Duration::from_mins(1);
/// Objects waited for at the same time.
const PARALLEL: usize = 32;
/// Controllers of the cluster that say which generation of their object they have seen.
const SYNCED: &[&str] = &[
    "deployments.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "replicationcontrollers",
    "poddisruptionbudgets.policy",
];

/// A controller that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    resource: String,
    namespace: String,
    name: String,
    uid: String,
}

impl Made {
    /// `object`, if somebody says how far it was taken up.
    pub(crate) fn of(resource: &str, object: &Value) -> Option<Self> {
        SYNCED.contains(&resource).then(|| Self {
            resource: resource.to_owned(),
            namespace: text(object, "/metadata/namespace")
                .unwrap_or_default()
                .to_owned(),
            name: transform::name(object).to_owned(),
            uid: text(object, "/metadata/uid").unwrap_or_default().to_owned(),
        })
    }
}

/// Waits for everything.
pub(crate) async fn everything(run: &Run<'_>, pods: &Pods) {
    let deadline = Instant::now() + patience(run);
    let made = std::mem::take(
        &mut *run
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    );
    let openings = pods.openings(run);
    let mut works = Vec::new();
    for made in &made {
        works.push(controller(run, made, deadline).boxed());
    }
    for opening in &openings {
        works.push(gate(run, opening, deadline).boxed());
    }
    let mut ended = futures::stream::iter(works).buffer_unordered(PARALLEL);
    while ended.next().await.is_some() {}
}

/// How long controllers and gates may take in this restore.
fn patience(run: &Run<'_>) -> Duration {
    DEADLINE.min(run.common.deadlines.fill)
}

async fn controller(run: &Run<'_>, made: &Made, deadline: Instant) {
    let Made {
        resource,
        namespace,
        name,
        uid,
    } = made;
    let fail = |why: String| {
        let text = format!("{resource} {namespace}/{name}: {why}");
        run.report().log.error(about(namespace), text);
    };
    let target = match run.applier.served.resolve(resource, "").await {
        Ok(Some(target)) => target,
        Ok(None) => return fail("the cluster does not serve its kind any more".to_owned()),
        Err(error) => return fail(error.sentence()),
    };
    let api: Api<DynamicObject> =
        Api::namespaced_with(run.applier.client.clone(), namespace, &target.resource);
    let synced = |object: Option<&DynamicObject>| {
        object.is_none_or(|object| {
            object.uid().as_deref() != Some(uid)
                || object.metadata.deletion_timestamp.is_some()
                || has_synced(&object.data, object.metadata.generation)
        })
    };
    match tokio::time::timeout_at(deadline, await_condition(api, name, synced)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => fail(format!("cannot tell whether it was taken up: {error}")),
        Err(tokio::time::error::Elapsed { .. }) => fail(format!(
            "the cluster's controller has not taken it up within {} seconds; see its events and the controller's log",
            patience(run).as_secs()
        )),
    }
}

/// Whether the controller of an object has seen its present generation.
fn has_synced(object: &Value, generation: Option<i64>) -> bool {
    let observed = object
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    observed.is_some_and(|observed| generation.is_none_or(|generation| observed >= generation))
}

async fn gate(run: &Run<'_>, opening: &Opening, deadline: Instant) {
    let Opening {
        namespace,
        name,
        uid,
    } = opening;
    let api: Api<Pod> = Api::namespaced(run.applier.client.clone(), namespace);
    let opened = |pod: Option<&Pod>| {
        pod.is_none_or(|pod| {
            pod.uid().as_deref() != Some(uid)
                || pod.metadata.deletion_timestamp.is_some()
                || !gates::waits(pod)
        })
    };
    match tokio::time::timeout_at(deadline, await_condition(api.clone(), name, opened)).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => tracing::debug!(%error, "watching a pod is disturbed"),
        Err(tokio::time::error::Elapsed { .. }) => {}
    }
    let pod = api.get_opt(name).await.ok().flatten();
    let state = pod.as_ref().and_then(gates::state);
    let state = state.map(|state| format!(" ({state})")).unwrap_or_default();
    run.report().log.error(
        about(namespace),
        format!(
            "{PODS} {namespace}/{name}: its volumes are back, but the gate that held it has not let it start within {} \
             seconds{state}",
            patience(run).as_secs()
        ),
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_controller_has_synced_when_it_saw_the_present_generation() {
        for (status, wanted) in [
            (json!({"observedGeneration": 2}), true),
            (json!({"observedGeneration": 1}), false),
            (json!({"replicas": 1}), false),
        ] {
            let object = json!({ "status": status });
            assert_eq!(has_synced(&object, Some(2)), wanted, "{object}");
        }
        let own = json!({"metadata": {"namespace": "n", "name": "x", "uid": "u"}});
        assert!(Made::of("deployments.apps", &own).is_some());
        assert!(Made::of("configmaps", &own).is_none());
    }
}
