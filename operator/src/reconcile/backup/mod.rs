//! Controller of backups: read → validate → run → status.
//!
//! A Backup that ended, that came from elsewhere (`spec.origin`) or that is being deleted is never run. One
//! that is deleted while it runs is stopped, and its name in the bucket is given back. The newest state
//! is read before anything starts, because what the watch shows may be older than our own last write.

mod run;
mod status;
pub(in crate::reconcile) mod validate;
mod volume_object;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use ark_api::backup::BackupPhase;
use ark_api::{Backup, BackupStorageLocation, label};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use serde_json::json;

use self::validate::{Plan, Usable};
use super::Reconciler;
use crate::bucket::claim::{self, Claim};
use crate::collect::namespaces::choose;
use crate::collect::run::all_namespaces;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::metrics::Outcome;
use crate::status::FIELD_MANAGER;
use crate::store;

/// How long a new backup waits for its location to be judged.
const LOCATION_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at it.
const LOCATION_PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked whether a running backup was deleted.
const DELETION_PAUSE: Duration = Duration::from_secs(2);

/// The controller.
#[derive(Debug, Default)]
pub(crate) struct BackupReconciler;

impl Reconciler for BackupReconciler {
    type Kind = Backup;

    // A backup mostly waits, and one that waits must not hold up the next.
    const CONCURRENCY: u16 = 8;

    async fn reconcile(&self, object: &Backup, context: &Arc<Context>) -> Result<Action> {
        let name = object.name_any();
        let found = context
            .api::<Backup>()
            .get_opt(&name)
            .await
            .map_err(Error::kube(format!("get Backup {name}")))?;
        let Some(backup) = found.filter(is_work) else {
            return Ok(Action::await_change());
        };
        let plan = match plan(context, &backup).await? {
            Planned::Run(plan) => plan,
            Planned::Later => return Ok(Action::requeue(LOCATION_PAUSE)),
            Planned::Refused(problems) => {
                refuse(context, &backup, &problems).await?;
                return Ok(Action::await_change());
            }
        };
        fix_location(context, &backup, &plan).await?;
        let stop = context.shutdown.child_token();
        let mut running = std::pin::pin!(run::run(context, &backup, &plan, &stop));
        tokio::select! {
            result = &mut running => result?,
            () = deleted(context, &backup) => {
                tracing::info!(backup = name, "deleted while it was running; cancelled");
                stop.cancel();
                if let Err(error) = running.await {
                    tracing::debug!(backup = name, %error, "the cancelled run ended");
                }
                give_back(context, &backup, &plan).await;
            }
        }
        Ok(Action::await_change())
    }
}

/// Whether there is anything to do.
fn is_work(backup: &Backup) -> bool {
    let phase = backup
        .status
        .as_ref()
        .and_then(|status| status.phase)
        .unwrap_or_default();
    backup.spec.origin.is_none()
        && backup.metadata.deletion_timestamp.is_none()
        && !phase.is_terminal()
        && phase != BackupPhase::Deleting
}

enum Planned {
    Run(Plan),
    Later,
    Refused(Vec<String>),
}

async fn plan(context: &Context, backup: &Backup) -> Result<Planned> {
    let locations: Vec<BackupStorageLocation> = context.list(&ListParams::default()).await?;
    let default = context.settings.default_location.as_deref();
    let plan = match validate::validate(&backup.spec, &locations, default) {
        Ok(plan) => plan,
        Err(problems) => return Ok(Planned::Refused(problems)),
    };
    let begun = backup.status.as_ref().and_then(|status| status.phase)
        == Some(BackupPhase::InProgress)
        || backup.status.as_ref().and_then(|status| status.phase) == Some(BackupPhase::Finalizing);
    if begun {
        // It made sense when it began; a store that is away now is the run's to put up with.
        return Ok(Planned::Run(plan));
    }
    let chosen = locations
        .iter()
        .find(|location| location.name_any() == plan.location);
    match chosen.map(validate::usable) {
        Some(Usable::Yes) => {}
        Some(Usable::No(why)) => return Ok(Planned::Refused(vec![why])),
        Some(Usable::NotYet) | None => {
            let age = backup
                .creation_timestamp()
                .map_or(LOCATION_PATIENCE, |created| {
                    context
                        .clock
                        .now()
                        .duration_since(created.0)
                        .try_into()
                        .unwrap_or_default()
                });
            if age < LOCATION_PATIENCE {
                return Ok(Planned::Later);
            }
            return Ok(Planned::Refused(vec![format!(
                "location {} has not been validated yet",
                plan.location
            )]));
        }
    }
    let problems = nowhere(context, backup).await?;
    Ok(if problems.is_empty() {
        Planned::Run(plan)
    } else {
        Planned::Refused(problems)
    })
}

/// What to say when not one of the named namespaces exists, so that there is nothing to back up.
async fn nowhere(context: &Context, backup: &Backup) -> Result<Vec<String>> {
    let include = &backup.spec.included_namespaces;
    if include.is_empty() || include.iter().any(|name| name == "*") {
        return Ok(Vec::new());
    }
    let all = all_namespaces(&context.client).await?;
    let chosen = choose(
        include,
        &backup.spec.excluded_namespaces,
        all,
        &context.namespace,
    );
    if !chosen.objects.is_empty() || chosen.missing.is_empty() {
        return Ok(Vec::new());
    }
    Ok(chosen
        .missing
        .iter()
        .map(|name| format!("namespace {name} does not exist"))
        .collect())
}

/// Writes the chosen location into the spec, as Velero does, so that it stays chosen when the default
/// changes, and into the label that selectors use.
async fn fix_location(context: &Context, backup: &Backup, plan: &Plan) -> Result<()> {
    let label = label::value(&plan.location);
    let done = backup.spec.storage_location.as_deref() == Some(plan.location.as_str())
        && backup.labels().get(label::STORAGE_LOCATION) == Some(&label);
    if done {
        return Ok(());
    }
    let name = backup.name_any();
    let patch = json!({
        "metadata": {"uid": backup.uid(), "labels": {label::STORAGE_LOCATION: label}},
        "spec": {"storageLocation": plan.location},
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    context
        .api::<Backup>()
        .patch(&name, &params, &Patch::Merge(patch))
        .await
        .map_err(Error::kube(format!("write the location of Backup {name}")))?;
    Ok(())
}

async fn refuse(context: &Context, backup: &Backup, problems: &[String]) -> Result<()> {
    let now = context.clock.time();
    let uid = backup.uid().unwrap_or_default();
    crate::status::update(
        &context.api::<Backup>(),
        &backup.name_any(),
        &uid,
        |backup| {
            status::refuse(backup, problems, &now);
        },
    )
    .await?;
    let phase = "failedvalidation".to_owned();
    context
        .metrics
        .backups
        .get_or_create(&Outcome { phase })
        .inc();
    let text = problems.join("; ");
    tracing::warn!(
        backup = backup.name_any(),
        problems = text,
        "backup refused"
    );
    context
        .event(backup, EventType::Warning, "FailedValidation", &text)
        .await;
    Ok(())
}

/// Returns once the Backup is gone, being deleted, or replaced by another of its name.
async fn deleted(context: &Context, backup: &Backup) {
    let api = context.api::<Backup>();
    loop {
        tokio::time::sleep(DELETION_PAUSE).await;
        match api.get_metadata_opt(&backup.name_any()).await {
            Ok(Some(found))
                if found.uid() == backup.uid() && found.metadata.deletion_timestamp.is_none() => {}
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(error = %crate::error::describe(&error), "cannot look at a running Backup");
            }
        }
    }
}

/// Removes what a cancelled run left in the bucket, so that the name can be used again. Snapshots stay in
/// the repository; nothing points to them, and maintenance removes them.
async fn give_back(context: &Context, backup: &Backup, plan: &Plan) {
    let claim = Claim {
        cluster: context.cluster.clone(),
        backup_uid: backup.uid().unwrap_or_default(),
    };
    let work = async {
        let location = store::connect(context, &plan.location).await?;
        claim::release(&location.store, &backup.name_any(), &claim).await
    };
    if let Err(error) = work.await {
        tracing::warn!(backup = backup.name_any(), %error, "what a cancelled backup wrote could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use ark_api::backup::{BackupSpec, BackupStatus};
    use ark_api::origin::Origin;

    use super::*;

    #[test]
    fn ended_and_imported_backups_are_no_work() {
        let mut backup = Backup::new("b", BackupSpec::default());
        assert!(is_work(&backup));
        for (phase, work) in [
            (BackupPhase::New, true),
            (BackupPhase::InProgress, true),
            (BackupPhase::Finalizing, true),
            (BackupPhase::Completed, false),
            (BackupPhase::PartiallyFailed, false),
            (BackupPhase::Failed, false),
            (BackupPhase::FailedValidation, false),
            (BackupPhase::Deleting, false),
        ] {
            backup.status = Some(BackupStatus {
                phase: Some(phase),
                ..BackupStatus::default()
            });
            assert_eq!(is_work(&backup), work, "{phase:?}");
        }
        backup.status = None;
        backup.spec.origin = Some(Origin::default());
        assert!(!is_work(&backup));
    }
}
