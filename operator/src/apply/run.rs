//! Applies one object: creates it, or treats the one that exists as [`conflict`] says.
//!
//! Does: retry what may pass (a busy server, a service account that is about to be made, an object
//! that is still going away). Does not: order objects, or wait for what they cause.
//!
//! Fails never: what went wrong is the [`Outcome`]. Idempotent: an object that an earlier attempt of
//! the same restore made is recognised by its stamp.

use std::collections::BTreeMap;
use std::time::Duration;

use ark_api::restore::ExistingResourcePolicy;
use ark_api::results::ItemAction;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::conflict::{self, Decision};
use super::discover::{Served, Target};
use super::transform::{self, Binding, Rules, Stamp};
use crate::error::{Class, Error, describe, is_not_found, status_code};
use crate::status::FIELD_MANAGER;

/// How long a server that is busy or unreachable is tried.
const BUSY: Duration = Duration::from_secs(30);
/// How long an object may take to go away before it is made again.
const LEAVING: Duration = Duration::from_mins(1);
/// First and longest pause between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What became of an object.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// What was done.
    pub(crate) action: ItemAction,
    /// Why, where it is not obvious.
    pub(crate) message: String,
    /// The user should know, although nothing failed.
    pub(crate) warn: bool,
    /// The object as it is now in the cluster, when it is this restore's own.
    pub(crate) own: Option<Value>,
}

impl Outcome {
    fn new(action: ItemAction, message: impl Into<String>) -> Self {
        Self {
            action,
            message: message.into(),
            warn: false,
            own: None,
        }
    }

    fn warning(action: ItemAction, message: impl Into<String>) -> Self {
        Self {
            warn: true,
            ..Self::new(action, message)
        }
    }

    /// It could not be applied.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(ItemAction::Failed, message)
    }
}

/// Applies the objects of one restore.
pub(crate) struct Applier {
    /// Client of the cluster.
    pub(crate) client: Client,
    /// What the cluster serves.
    pub(crate) served: Served,
    /// Namespace in the backup to namespace in the cluster.
    pub(crate) namespaces: BTreeMap<String, String>,
    /// Keep the node ports of Services.
    pub(crate) preserve_node_ports: bool,
    /// What happens to objects that exist.
    pub(crate) policy: ExistingResourcePolicy,
    /// Name of the Restore.
    pub(crate) restore: String,
    /// Its uid.
    pub(crate) uid: String,
    /// Name of the Backup.
    pub(crate) backup: String,
}

impl Applier {
    /// How objects are changed.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules {
            namespaces: &self.namespaces,
            preserve_node_ports: self.preserve_node_ports,
        }
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp {
            restore: &self.restore,
            uid: &self.uid,
            backup: &self.backup,
        }
    }

    /// Where `object` of `resource` is applied to, or why that is not possible.
    pub(crate) async fn target(&self, resource: &str, object: &Value) -> Result<Target, String> {
        let version = transform::text(object, "/apiVersion").unwrap_or_default();
        let namespaced = transform::text(object, "/metadata/namespace").is_some();
        match self.served.resolve(resource, version).await {
            Ok(Some(target)) if target.namespaced == namespaced => Ok(target),
            Ok(Some(_)) => Err("the cluster has this kind in another scope".to_owned()),
            Ok(None) => Err("the cluster does not know this kind of object".to_owned()),
            Err(error) => Err(error.sentence()),
        }
    }

    /// Applies `desired`, which went through [`transform::restored`] with `binding`.
    pub(crate) async fn apply(&self, resource: &str, desired: Value, binding: Binding) -> Outcome {
        let target = match self.target(resource, &desired).await {
            Ok(target) => target,
            Err(why) => return Outcome::failed(why),
        };
        let mut desired = desired;
        if let Some(version) = desired.get_mut("apiVersion") {
            *version = json!(target.resource.api_version);
        }
        let api = self.api(&target, transform::text(&desired, "/metadata/namespace"));
        let mut tries = Tries::start();
        loop {
            let outcome = self.once(resource, &api, &desired, binding).await;
            match outcome {
                Ok(outcome) => return outcome,
                Err(Again { message, patience }) => {
                    if !tries.pause(patience).await {
                        return Outcome::failed(message);
                    }
                }
            }
        }
    }

    /// Objects of `target` in `namespace`.
    pub(crate) fn api(&self, target: &Target, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => {
                Api::namespaced_with(self.client.clone(), namespace, &target.resource)
            }
            None => Api::all_with(self.client.clone(), &target.resource),
        }
    }

    async fn once(
        &self,
        resource: &str,
        api: &Api<DynamicObject>,
        desired: &Value,
        binding: Binding,
    ) -> Result<Outcome, Again> {
        let name = transform::name(desired);
        let mut stamped = desired.clone();
        transform::stamp(&mut stamped, self.stamp());
        let object: DynamicObject = match serde_json::from_value(stamped) {
            Ok(object) => object,
            Err(error) => return Ok(Outcome::failed(format!("its metadata is no use: {error}"))),
        };
        match api.create(&post(), &object).await {
            Ok(made) => {
                return Ok(Outcome {
                    own: serde_json::to_value(made).ok(),
                    ..Outcome::new(ItemAction::Created, "")
                });
            }
            Err(error) if already_exists(&error) => {}
            Err(error) => return judge(error),
        }
        let existing = match api.get(name).await {
            Ok(existing) => existing,
            Err(error) if is_not_found(&error) => {
                return Err(Again::soon("it exists and does not exist"));
            }
            Err(error) => return judge(error),
        };
        let leaving = existing.metadata.deletion_timestamp.is_some();
        let existing = match serde_json::to_value(existing) {
            Ok(existing) => existing,
            Err(error) => return Ok(Outcome::failed(error.to_string())),
        };
        if leaving {
            return Err(Again {
                message: "the one in the cluster is being deleted and does not go away".into(),
                patience: LEAVING,
            });
        }
        self.existing(resource, api, &existing, desired, binding)
            .await
    }

    async fn existing(
        &self,
        resource: &str,
        api: &Api<DynamicObject>,
        existing: &Value,
        desired: &Value,
        binding: Binding,
    ) -> Result<Outcome, Again> {
        let decision = conflict::decide(
            resource,
            existing,
            desired,
            self.policy,
            &self.uid,
            self.rules(),
            binding,
        );
        let patch = match decision {
            Decision::Own => {
                return Ok(Outcome {
                    own: Some(existing.clone()),
                    ..Outcome::new(ItemAction::Created, "")
                });
            }
            Decision::OwnChange => return Ok(Outcome::new(ItemAction::Changed, "")),
            Decision::Equal => return Ok(Outcome::new(ItemAction::Kept, "it is as in the backup")),
            Decision::Differs => {
                return Ok(Outcome::warning(
                    ItemAction::Kept,
                    "it exists and differs from the backup; it was left as it is",
                ));
            }
            Decision::Patch(patch) => patch,
        };
        let name = transform::name(desired);
        let error = match send(api, name, &patch).await {
            Ok(()) => return Ok(Outcome::new(ItemAction::Changed, "")),
            Err(error) if is_not_found(&error) => return Err(Again::soon("it went away")),
            Err(error) if status_code(&error) == Some(422) => error,
            Err(error) => return judge(error),
        };
        // Something in it cannot be changed; what can be is.
        let why = describe(&error);
        match send(api, name, &conflict::labels_only(&patch)).await {
            Ok(()) => Ok(Outcome::warning(
                ItemAction::Kept,
                format!("only its labels and annotations could be changed: {why}"),
            )),
            Err(error) => judge(error),
        }
    }
}

async fn send(api: &Api<DynamicObject>, name: &str, patch: &Value) -> kube::Result<()> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Merge(patch))
        .await
        .map(drop)
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// To be tried again, at most for `patience` since the first try.
struct Again {
    message: String,
    patience: Duration,
}

impl Again {
    fn soon(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            patience: BUSY,
        }
    }
}

/// Pauses between tries, longer and longer.
struct Tries {
    started: Instant,
    pause: Duration,
}

impl Tries {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            pause: PAUSE.0,
        }
    }

    /// Waits a moment; false when the patience is over.
    async fn pause(&mut self, patience: Duration) -> bool {
        match self.next(self.started.elapsed(), patience) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }

    /// The next pause, `elapsed` after the first try.
    fn next(&mut self, elapsed: Duration, patience: Duration) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE.1);
        (elapsed + pause <= patience).then_some(pause)
    }
}

fn already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists")
}

/// Whether an error is final.
fn judge(error: kube::Error) -> Result<Outcome, Again> {
    let text = describe(&error);
    let soon = is_soon(&error, &text);
    let error = Error::kube("apply it")(error);
    if soon || error.class() == Class::Transient {
        return Err(Again {
            message: text,
            patience: BUSY,
        });
    }
    Ok(Outcome::failed(text))
}

/// Refused now, but what it lacks is on its way: the default service account of a new namespace, the
/// roles of a new binding in the authoriser's cache.
fn is_soon(error: &kube::Error, text: &str) -> bool {
    status_code(error) == Some(403) && text.contains("serviceaccount") && text.contains("not found")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api_error(code: u16, reason: &str, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure(message, reason).with_code(code)))
    }

    #[test]
    fn what_is_tried_again() {
        for (code, reason, message, again) in [
            (503, "ServiceUnavailable", "later", true),
            (429, "TooManyRequests", "later", true),
            (409, "Conflict", "resourcequotas", true),
            (422, "Invalid", "spec", false),
            (403, "Forbidden", "no permission", false),
            (
                403,
                "Forbidden",
                "error looking up service account web/default: serviceaccount \"default\" not found",
                true,
            ),
        ] {
            let result = judge(api_error(code, reason, message));
            assert_eq!(result.is_err(), again, "{code} {message}");
        }
        assert!(already_exists(&api_error(409, "AlreadyExists", "x")));
        assert!(!already_exists(&api_error(409, "Conflict", "x")));
    }

    #[test]
    fn patience_ends() {
        let mut tries = Tries::start();
        let (mut count, mut elapsed) = (0, Duration::ZERO);
        while let Some(pause) = tries.next(elapsed, BUSY) {
            elapsed += pause;
            count += 1;
        }
        assert!(elapsed <= BUSY && elapsed + PAUSE.1 > BUSY);
        assert!(count > 10, "{count}");
    }
}
