//! Controller of locations: is it due → look → status.
//!
//! A look happens when the spec or one of the Secrets changes, and every `validationFrequency`
//! (every few seconds while something is not as it should be). Fails only when Kubernetes does;
//! whatever the store says is status. Writes the handshake file before the status.

mod handshake;
mod look;
mod status;
mod validate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ark_api::BackupStorageLocation;
use ark_api::naming::key_secret;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use super::{ControllerOf, Reconciler, on_change_of};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::metrics::LocationLabels;

/// How often the store is asked when the spec does not say.
const DEFAULT_FREQUENCY: Duration = Duration::from_mins(1);
/// How often it is asked while something is wrong or pending.
const SOON: Duration = Duration::from_secs(5);

/// Pause before a look whose predecessor proved nothing.
const AT_ONCE: Duration = Duration::from_millis(500);

/// What the last look depended on, and when the next is due.
struct Last {
    inputs: Vec<String>,
    next: Option<Instant>,
}

/// The controller.
#[derive(Default)]
pub(crate) struct LocationReconciler {
    last: Mutex<HashMap<String, Last>>,
}

impl Reconciler for LocationReconciler {
    type Kind = BackupStorageLocation;

    async fn reconcile(
        &self,
        object: &BackupStorageLocation,
        context: &Arc<Context>,
    ) -> Result<Action> {
        let name = object.name_any();
        let Some(location) = context
            .api::<BackupStorageLocation>()
            .get_opt(&name)
            .await
            .map_err(Error::kube(format!("get BackupStorageLocation {name}")))?
        else {
            self.last().remove(&name);
            return Ok(Action::await_change());
        };
        let all = context.list(&ListParams::default()).await?;
        let note = validate::duplicate_default(&location, &all);
        let inputs = inputs(context, &location, note.as_deref()).await?;
        if let Some(wait) = self.not_due(&name, &inputs) {
            return Ok(wait);
        }

        let found = look::look(context, &location).await;
        let uid = location.uid().unwrap_or_default();
        let now = context.clock.time();
        crate::status::update(&context.api(), &name, &uid, |location| {
            status::apply(location, &found, note.as_deref(), &now);
        })
        .await?;
        context
            .metrics
            .location_available
            .get_or_create(&LocationLabels {
                location: name.clone(),
            })
            .set(i64::from(found.unavailable.is_none()));
        if let Some((reason, message)) = &found.unavailable {
            tracing::warn!(
                location = name,
                reason,
                message,
                "location is not available"
            );
        }

        // What changed during the look may not have been seen by it; the next one must not be
        // skipped.
        if self::inputs(context, &location, note.as_deref()).await? != inputs {
            self.last().remove(&name);
            return Ok(Action::requeue(AT_ONCE));
        }
        let next = pause(&location, found.soon);
        let last = Last {
            inputs,
            next: next.map(|pause| Instant::now() + pause),
        };
        self.last().insert(name, last);
        Ok(next.map_or_else(Action::await_change, Action::requeue))
    }

    fn triggers(
        &self,
        controller: ControllerOf<BackupStorageLocation>,
        context: &Context,
    ) -> ControllerOf<BackupStorageLocation> {
        let default = context.settings.default_credentials_secret.clone();
        on_change_of::<_, PartialObjectMeta<Secret>>(
            controller,
            context,
            move |location, secret| {
                secrets_of(location, default.as_deref()).contains(&secret.name_any())
            },
        )
    }
}

impl LocationReconciler {
    fn last(&self) -> std::sync::MutexGuard<'_, HashMap<String, Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do if nothing changed since the last look and the next is not due yet.
    fn not_due(&self, name: &str, inputs: &[String]) -> Option<Action> {
        let last = self.last();
        let last = last.get(name).filter(|last| last.inputs == inputs)?;
        match last.next {
            None => Some(Action::await_change()),
            Some(next) => {
                let left = next.saturating_duration_since(Instant::now());
                (!left.is_zero()).then(|| Action::requeue(left))
            }
        }
    }
}

/// Until the next look; `None` means not before something changes.
fn pause(location: &BackupStorageLocation, soon: bool) -> Option<Duration> {
    let frequency = location
        .spec
        .validation_frequency
        .map_or(DEFAULT_FREQUENCY, |frequency| frequency.0);
    match (soon, frequency.is_zero()) {
        (true, _) => Some(SOON.min(if frequency.is_zero() { SOON } else { frequency })),
        (false, true) => None,
        (false, false) => Some(frequency),
    }
}

/// Names of the Secrets a location depends on.
fn secrets_of(location: &BackupStorageLocation, default: Option<&str>) -> Vec<String> {
    let spec = &location.spec;
    let mut names = vec![key_secret(&location.name_any())];
    match (&spec.credential, default) {
        (Some(selector), _) => names.push(selector.name.clone()),
        (None, Some(default)) => names.push(default.to_owned()),
        (None, None) => {}
    }
    names.extend(
        spec.object_storage
            .ca_cert_ref
            .iter()
            .map(|s| s.name.clone()),
    );
    names
}

/// Versions of everything a look depends on.
async fn inputs(
    context: &Context,
    location: &BackupStorageLocation,
    note: Option<&str>,
) -> Result<Vec<String>> {
    let mut inputs = vec![
        location.uid().unwrap_or_default(),
        location.metadata.generation.unwrap_or_default().to_string(),
        note.unwrap_or_default().to_owned(),
    ];
    let api = context.api::<Secret>();
    for name in secrets_of(
        location,
        context.settings.default_credentials_secret.as_deref(),
    ) {
        let secret = api
            .get_metadata_opt(&name)
            .await
            .map_err(Error::kube(format!("get Secret {name}")))?;
        inputs.push(
            secret
                .and_then(|s| s.resource_version())
                .unwrap_or_default(),
        );
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use ark_api::location::{BackupStorageLocationSpec, SecretKeySelector};

    use super::*;

    fn location(frequency: Option<&str>) -> BackupStorageLocation {
        let spec = BackupStorageLocationSpec {
            validation_frequency: frequency.map(|text| text.parse().unwrap()),
            ..BackupStorageLocationSpec::default()
        };
        BackupStorageLocation::new("l", spec)
    }

    #[test]
    fn frequency_zero_means_only_on_change_unless_something_is_wrong() {
        assert_eq!(pause(&location(None), false), Some(DEFAULT_FREQUENCY));
        assert_eq!(pause(&location(Some("0")), false), None);
        assert_eq!(pause(&location(Some("0")), true), Some(SOON));
        assert_eq!(pause(&location(Some("10m")), true), Some(SOON));
        assert_eq!(
            pause(&location(Some("2s")), true),
            Some(Duration::from_secs(2))
        );
    }

    #[test]
    fn all_secrets_are_watched() {
        let mut l = location(None);
        assert_eq!(
            secrets_of(&l, Some("cloud")),
            ["ark-repository-key-l", "cloud"]
        );
        let selector = |name: &str| SecretKeySelector {
            name: name.to_owned(),
            ..SecretKeySelector::default()
        };
        l.spec.credential = Some(selector("own"));
        l.spec.object_storage.ca_cert_ref = Some(selector("ca"));
        assert_eq!(
            secrets_of(&l, Some("cloud")),
            ["ark-repository-key-l", "own", "ca"]
        );
    }
}
