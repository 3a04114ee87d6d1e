//! The driver shared by all controllers: one per kind, watching Ark's own namespace only.
//!
//! A controller implements [`Reconciler`]; the driver gives it objects one at a time per name, logs
//! an error once, counts it, and decides by the error's class alone when to come back. An object
//! that cannot be read stops nothing: it is logged, gets an event, and waits for its next change.

pub(crate) mod backup;
pub(crate) mod deletion;
pub(crate) mod download;
pub(crate) mod expiry;
pub(crate) mod location;
mod meaning;
pub(crate) mod repository;
pub(crate) mod restore;
pub(crate) mod schedule;
pub(crate) mod status_request;
pub(crate) mod sync;
pub(crate) mod unattended;
pub(crate) mod unsupported;

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::{Class, Error, Result, show};
use crate::metrics;

/// Back-off of the first failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest back-off.
const LAST_RETRY: Duration = Duration::from_mins(2);
/// When to look again at what waits for a change outside the cluster.
const WAITING_RETRY: Duration = Duration::from_secs(30);

/// The controller type of kind `K`, for extra triggers.
pub(crate) type ControllerOf<K> = Controller<DeserializeGuard<K>>;

/// Works on objects of one kind.
pub(crate) trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static;

    /// Objects worked on at the same time.
    const CONCURRENCY: u16 = 4;

    /// Brings the world in line with one object. `object` may be a moment old: whoever starts
    /// something that must not happen twice reads it again first.
    fn reconcile(
        &self,
        object: &Self::Kind,
        context: &Arc<Context>,
    ) -> impl Future<Output = Result<Action>> + Send;

    /// The phase of an object, for the count of objects by phase; `None` for kinds that are not
    /// counted, or are counted by another controller.
    fn phase_of(_object: &Self::Kind) -> Option<String> {
        None
    }

    /// Adds further reasons to look at objects again.
    fn triggers(
        &self,
        controller: ControllerOf<Self::Kind>,
        _context: &Context,
    ) -> ControllerOf<Self::Kind> {
        controller
    }
}

/// What can be watched in Ark's namespace.
pub(crate) trait Watched:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Watched for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Looks at every object of kind `K` again to which a changed object of kind `O`, in Ark's
/// namespace, means something. Nothing is kept of the objects of kind `O`.
pub(crate) fn on_change_of<K, O>(
    controller: ControllerOf<K>,
    context: &Context,
    means: impl Fn(&K, &O) -> bool + Send + Sync + 'static,
) -> ControllerOf<K>
where
    K: Watched,
    O: Watched,
{
    let others =
        kube::Api::<DeserializeGuard<O>>::namespaced(context.client.clone(), &context.namespace);
    let namespace = context.namespace.clone();
    let known = controller.store();
    controller.watches(
        others,
        watcher::Config::default(),
        move |changed: DeserializeGuard<O>| {
            // One that cannot be read means nothing to anybody; its own controller says so.
            let Ok(changed) = changed.0 else {
                return Vec::new();
            };
            known
                .state()
                .iter()
                .filter_map(|object| object.0.as_ref().ok())
                .filter(|object| means(object, &changed))
                .map(|object| ObjectRef::new(&object.name_any()).within(&namespace))
                .collect()
        },
    )
}

/// What the driver hands to kube's runtime.
struct Shared<R> {
    reconciler: R,
    context: Arc<Context>,
    /// Consecutive failures by object name.
    failures: Mutex<HashMap<String, u32>>,
}

/// Runs one controller until the process stops.
pub(crate) async fn run<R: Reconciler>(reconciler: R, context: Arc<Context>) {
    let api = kube::Api::<DeserializeGuard<R::Kind>>::namespaced(
        context.client.clone(),
        &context.namespace,
    );
    let controller = Controller::new(api, watcher::Config::default())
        .with_config(Config::default().concurrency(R::CONCURRENCY))
        .graceful_shutdown_on(context.shutdown.clone().cancelled_owned());
    let controller = reconciler.triggers(controller, &context);
    let kind = R::Kind::kind(&()).into_owned();
    let known = controller.store();
    context.metrics.census.follow(&kind, move || {
        let known = known.state();
        let readable = known.iter().filter_map(|object| object.0.as_ref().ok());
        readable.filter_map(R::phase_of).collect()
    });
    let shared = Arc::new(Shared {
        reconciler,
        context,
        failures: Mutex::default(),
    });
    controller
        .run(step::<R>, on_error::<R>, shared)
        .for_each(|result| {
            // The reconciler's own errors are logged where they happen; what is left is the watch.
            if let Err(error @ kube::runtime::controller::Error::QueueError(_)) = result {
                tracing::warn!(kind, %error, "watching is disturbed; it is tried again");
            }
            std::future::ready(())
        })
        .await;
}

async fn step<R: Reconciler>(
    object: Arc<DeserializeGuard<R::Kind>>,
    shared: Arc<Shared<R>>,
) -> Result<Action> {
    let context = &shared.context;
    let result = match &object.0 {
        Ok(object) => shared.reconciler.reconcile(object, context).await,
        Err(invalid) => {
            let message = format!("the object cannot be read: {}", invalid.error);
            tracing::error!(
                object = show(&*object),
                message,
                "object ignored until it changes"
            );
            context
                .event(&*object, EventType::Warning, "Malformed", &message)
                .await;
            Ok(Action::await_change())
        }
    };
    let name = object.name_any();
    let mut failures = shared
        .failures
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if result.is_ok() {
        failures.remove(&name);
    } else {
        *failures.entry(name).or_default() += 1;
    }
    drop(failures);
    result
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature is that of kube's runtime"
)]
fn on_error<R: Reconciler>(
    object: Arc<DeserializeGuard<R::Kind>>,
    error: &Error,
    shared: Arc<Shared<R>>,
) -> Action {
    if matches!(error, Error::Stopping) {
        return Action::requeue(FIRST_RETRY);
    }
    let kind = R::Kind::kind(&()).into_owned();
    let labels = metrics::Controller { kind };
    shared
        .context
        .metrics
        .reconcile_errors
        .get_or_create(&labels)
        .inc();
    let failures = shared
        .failures
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&object.name_any())
        .copied()
        .unwrap_or(1);
    let object = show(&*object);
    let action = after(error.class(), failures);
    match error.class() {
        Class::Bug => tracing::error!(object, %error, hint = error.hint(), "internal error"),
        Class::Permanent => tracing::error!(object, %error, hint = error.hint(), "given up"),
        Class::Transient | Class::Waiting => {
            tracing::warn!(object, %error, hint = error.hint(), "tried again later");
        }
    }
    action
}

/// When to come back after the `failures`th failure of a class in a row.
fn after(class: Class, failures: u32) -> Action {
    match class {
        Class::Transient => Action::requeue(
            FIRST_RETRY
                .saturating_mul(1 << failures.saturating_sub(1).min(10))
                .min(LAST_RETRY),
        ),
        Class::Waiting => Action::requeue(WAITING_RETRY),
        Class::Permanent | Class::Bug => Action::await_change(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_alone_decides() {
        assert_eq!(after(Class::Permanent, 1), Action::await_change());
        assert_eq!(after(Class::Bug, 9), Action::await_change());
        assert_eq!(after(Class::Waiting, 1), Action::requeue(WAITING_RETRY));
        assert_eq!(after(Class::Transient, 1), Action::requeue(FIRST_RETRY));
        assert_eq!(after(Class::Transient, 3), Action::requeue(FIRST_RETRY * 4));
        assert_eq!(after(Class::Transient, 99), Action::requeue(LAST_RETRY));
    }
}
