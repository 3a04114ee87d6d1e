//! Controller of repositories: is it due → open or make → status.
//!
//! A repository is looked at when its spec, its location or its key changes, and once a day (sooner
//! while it is not ready). It is made only where none is and none has been: one that was here and
//! is gone, or is another one than it was, is a fault that a person must look at.

mod look;
mod status;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ark_api::location::LocationPhase;
use ark_api::naming::key_secret;
use ark_api::{BackupStorageLocation, ResticRepository};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use super::meaning::on_meaning_of;
use super::{ControllerOf, Reconciler, on_change_of};
use crate::context::Context;
use crate::error::{Error, Result};

/// How often a repository that is ready is opened again. Maintenance and backups open it as well.
const FREQUENCY: Duration = Duration::from_hours(24);
/// How often one that is not is tried again.
const SOON: Duration = Duration::from_secs(15);

/// Pause before a look whose predecessor proved nothing.
const AT_ONCE: Duration = Duration::from_millis(500);

/// What a look depends on.
#[derive(Debug, PartialEq, Eq)]
struct Inputs {
    /// Versions of the object and its location.
    versions: Vec<String>,
    /// Version of the key Secret, if there is one.
    key: Option<String>,
}

/// What the last look depended on, and when the next is due.
struct Last {
    inputs: Inputs,
    next: Instant,
}

/// The controller.
#[derive(Default)]
pub(crate) struct RepositoryReconciler {
    last: Mutex<HashMap<String, Last>>,
}

impl Reconciler for RepositoryReconciler {
    type Kind = ResticRepository;

    async fn reconcile(&self, object: &ResticRepository, context: &Arc<Context>) -> Result<Action> {
        let name = object.name_any();
        context.maintenance.wake();
        let Some(repository) = context
            .api::<ResticRepository>()
            .get_opt(&name)
            .await
            .map_err(Error::kube(format!("get ResticRepository {name}")))?
        else {
            self.last().remove(&name);
            return Ok(Action::await_change());
        };
        let inputs = inputs(context, &repository).await?;
        if let Some(left) = self.not_due(&name, &inputs) {
            return Ok(Action::requeue(left));
        }
        let found = look::look(context, &repository).await;
        if let Err(problem) = &found {
            tracing::warn!(
                repository = name,
                reason = problem.reason,
                message = problem.message,
                "repository is not ready"
            );
        }
        let uid = repository.uid().unwrap_or_default();
        let now = context.clock.time();
        crate::status::update(&context.api(), &name, &uid, |repository| {
            status::apply(repository, &found, &now);
        })
        .await?;
        // A look that changed what it depends on (it may have made the key), or during which that
        // was changed, proves nothing about what is there now: the next one must not be skipped.
        if inputs.key.is_none() && found.is_ok()
            || self::inputs(context, &repository).await? != inputs
        {
            self.last().remove(&name);
            return Ok(Action::requeue(AT_ONCE));
        }
        let pause = if found.is_ok() { FREQUENCY } else { SOON };
        let last = Last {
            inputs,
            next: Instant::now() + pause,
        };
        self.last().insert(name, last);
        Ok(Action::requeue(pause))
    }

    fn triggers(
        &self,
        controller: ControllerOf<ResticRepository>,
        context: &Context,
    ) -> ControllerOf<ResticRepository> {
        context.maintenance.follow(controller.store());
        let controller = on_meaning_of::<ResticRepository, BackupStorageLocation, _>(
            controller, context, meaning,
        );
        on_change_of::<ResticRepository, PartialObjectMeta<Secret>>(
            controller,
            context,
            |repository, secret| {
                key_secret(&repository.spec.backup_storage_location) == secret.name_any()
            },
        )
    }
}

impl RepositoryReconciler {
    fn last(&self) -> std::sync::MutexGuard<'_, HashMap<String, Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until the next look, if nothing changed since the last.
    fn not_due(&self, name: &str, inputs: &Inputs) -> Option<Duration> {
        let last = self.last();
        let last = last.get(name).filter(|last| last.inputs == *inputs)?;
        let left = last.next.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// What a location means to its repositories.
fn meaning(location: &BackupStorageLocation) -> [String; 3] {
    let phase = location.status.as_ref().and_then(|status| status.phase);
    [
        location.uid().unwrap_or_default(),
        location.metadata.generation.unwrap_or_default().to_string(),
        (phase == Some(LocationPhase::Available)).to_string(),
    ]
}

/// Versions of everything a look depends on.
async fn inputs(context: &Context, repository: &ResticRepository) -> Result<Inputs> {
    let location = &repository.spec.backup_storage_location;
    let mut inputs = Inputs {
        versions: vec![
            repository.uid().unwrap_or_default(),
            repository
                .metadata
                .generation
                .unwrap_or_default()
                .to_string(),
        ],
        key: None,
    };
    if location.is_empty() {
        return Ok(inputs);
    }
    let found = context
        .api::<BackupStorageLocation>()
        .get_opt(location)
        .await
        .map_err(Error::kube(format!("get BackupStorageLocation {location}")))?;
    if let Some(found) = found {
        inputs.versions.extend(meaning(&found));
    }
    let secret = key_secret(location);
    let found = context
        .api::<Secret>()
        .get_metadata_opt(&secret)
        .await
        .map_err(Error::kube(format!("get Secret {secret}")))?;
    inputs.key = found.and_then(|secret| secret.resource_version());
    Ok(inputs)
}
