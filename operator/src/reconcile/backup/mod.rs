//! Controller of backups. A reconcile is short: read, decide, write, return.
//!
//! What can be decided: that it is a copy of one that was executed ([`crate::copies`]), that the
//! spec makes no sense, that it is cancelled before it began, that it waits for its turn
//! ([`turn`]), that its run starts ([`act`]). The run is a task in the registry of runs, which also
//! watches for deletion and `spec.cancel`; its end is a reason to look at all backups again.
//!
//! A Backup that ended, that came from elsewhere (`spec.origin`), that is being deleted or that is
//! a copy is never run. One that is to run is stamped before. One that has begun goes on after a
//! restart without waiting for its turn again. The newest state is read before anything starts,
//! because what the watch shows may be older than our own last write.

mod act;
mod status;
mod turn;
mod units;
pub(in crate::reconcile) mod validate;
mod volume_object;
mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ark_api::backup::BackupPhase;
use ark_api::{Backup, BackupStorageLocation, annotation, label, run_stamp};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::Store;
use serde_json::{Value, json};

use self::validate::{Plan, Usable};
use super::{ControllerOf, Reconciler};
use crate::collect::namespaces::choose;
use crate::collect::run::all_namespaces;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::metrics::Outcome;
use crate::run::queue::Turn;
use crate::run::registry::Kind;
use crate::run::{Activity, Subject};
use crate::settings::RESTORE_ONLY;
use crate::status::FIELD_MANAGER;

/// How long a new backup waits for its location to be judged.
const LOCATION_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at it.
const LOCATION_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two looks at whose turn it is. The end of a run is looked at at once.
const TURN_PAUSE: Duration = Duration::from_secs(10);

/// The controller.
#[derive(Default)]
pub(crate) struct BackupReconciler {
    /// All Backups, as the watch shows them.
    known: OnceLock<Store<DeserializeGuard<Backup>>>,
}

impl Reconciler for BackupReconciler {
    type Kind = Backup;

    async fn reconcile(&self, object: &Backup, context: &Arc<Context>) -> Result<Action> {
        if job(object) == Job::None {
            return Ok(Action::await_change());
        }
        match context.runs.activity(&object.uid().unwrap_or_default()) {
            Activity::Running => return Ok(Action::await_change()),
            Activity::Resting(left) => return Ok(Action::requeue(left)),
            Activity::None => {}
        }
        let name = object.name_any();
        let found = context
            .api::<Backup>()
            .get_opt(&name)
            .await
            .map_err(Error::kube(format!("get Backup {name}")))?;
        let Some(backup) = found else {
            return Ok(Action::await_change());
        };
        match job(&backup) {
            Job::None => return Ok(Action::await_change()),
            Job::Stamp => {
                crate::copies::stamp(&context.api(), &backup).await?;
                return Ok(Action::await_change());
            }
            Job::Start => {
                if crate::copies::mark_copy(context, &backup, status::copy).await? {
                    return Ok(Action::await_change());
                }
            }
            Job::GoOn => {}
        }
        if context.settings.restore_only && (has_begun(&backup) || backup.spec.cancel != Some(true))
        {
            leave(context, &backup).await?;
            return Ok(Action::await_change());
        }
        if backup.spec.cancel == Some(true) && !has_begun(&backup) {
            cancel(context, &backup).await?;
            return Ok(Action::await_change());
        }
        let namespaces = all_namespaces(&context.client).await?;
        let plan = match plan(context, &backup, &namespaces).await? {
            Planned::Run(plan) => plan,
            Planned::Later => return Ok(Action::requeue(LOCATION_PAUSE)),
            Planned::Refused(problems) => {
                refuse(context, &backup, &problems).await?;
                return Ok(Action::await_change());
            }
        };
        fix_location(context, &backup, &plan).await?;
        let deciding = context.runs.decide().await;
        if let Turn::Wait { position, why } = self.turn(context, &backup, &namespaces) {
            drop(deciding);
            queue(context, &backup, position, &why).await?;
            return Ok(Action::requeue(TURN_PAUSE));
        }
        crate::copies::stamp(&context.api(), &backup).await?;
        let subject = Subject {
            kind: Kind::Backup,
            name,
            uid: backup.uid().unwrap_or_default(),
            scope: turn::scope(&backup.spec, &namespaces, &context.namespace),
        };
        let shared = Arc::clone(context);
        context.runs.start(subject, move |stop| async move {
            Box::pin(act::act(&shared, &backup, &plan, &stop)).await
        });
        Ok(Action::await_change())
    }

    fn phase_of(backup: &Backup) -> Option<String> {
        Some(format!("{:?}", phase(backup)))
    }

    fn triggers(
        &self,
        controller: ControllerOf<Backup>,
        context: &Context,
    ) -> ControllerOf<Backup> {
        // Set once: a controller is started once.
        drop(self.known.set(controller.store()));
        controller.reconcile_all_on(context.runs.changes())
    }
}

impl BackupReconciler {
    /// The turn of `backup` among all there are.
    fn turn(&self, context: &Context, backup: &Backup, namespaces: &[Value]) -> Turn {
        if has_begun(backup) {
            return Turn::Now;
        }
        let known = self.known.get().map(Store::state).unwrap_or_default();
        let known = known.iter().filter_map(|backup| backup.0.as_ref().ok());
        let running = context.runs.running(Kind::Backup);
        let scope = |backup: &Backup| turn::scope(&backup.spec, namespaces, &context.namespace);
        let work = turn::work(backup, known, &running, scope);
        let limit = context.settings.concurrent_backups;
        let uid = backup.uid().unwrap_or_default();
        crate::run::queue::turn(&work, &uid, limit, "backup")
    }
}

/// The phase a Backup is in.
fn phase(backup: &Backup) -> BackupPhase {
    let status = backup.status.as_ref();
    status.and_then(|status| status.phase).unwrap_or_default()
}

/// What there is to do for a Backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// Nothing.
    None,
    /// It was executed before Ark wrote stamps.
    Stamp,
    /// It is new, waits for its turn, or was a copy when it was looked at last.
    Start,
    /// A run of it has begun, perhaps in an earlier process.
    GoOn,
}

fn job(backup: &Backup) -> Job {
    if backup.spec.origin.is_some() || backup.metadata.deletion_timestamp.is_some() {
        return Job::None;
    }
    match phase(backup) {
        BackupPhase::Completed | BackupPhase::PartiallyFailed | BackupPhase::Failed
            if run_stamp::stamp(&backup.metadata).is_none() =>
        {
            Job::Stamp
        }
        BackupPhase::InProgress | BackupPhase::Finalizing | BackupPhase::Canceling => Job::GoOn,
        BackupPhase::Copy => Job::Start,
        phase if phase.is_terminal() || phase == BackupPhase::Deleting => Job::None,
        _ => Job::Start,
    }
}

/// Whether it runs or is to run.
fn is_work(backup: &Backup) -> bool {
    matches!(job(backup), Job::Start | Job::GoOn)
}

/// Whether a run of it has begun, perhaps in an earlier process.
fn has_begun(backup: &Backup) -> bool {
    job(backup) == Job::GoOn
}

enum Planned {
    Run(Plan),
    Later,
    Refused(Vec<String>),
}

async fn plan(context: &Context, backup: &Backup, namespaces: &[Value]) -> Result<Planned> {
    let locations: Vec<BackupStorageLocation> = context.list(&ListParams::default()).await?;
    let default = context.settings.default_location.as_deref();
    let plan = match validate::validate(&backup.spec, &locations, default) {
        Ok(plan) => plan,
        Err(problems) => return Ok(Planned::Refused(problems)),
    };
    if has_begun(backup) {
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
    let problems = nowhere(context, backup, namespaces);
    Ok(if problems.is_empty() {
        Planned::Run(plan)
    } else {
        Planned::Refused(problems)
    })
}

/// What to say when not one of the named namespaces exists, so that there is nothing to back up.
fn nowhere(context: &Context, backup: &Backup, namespaces: &[Value]) -> Vec<String> {
    let include = &backup.spec.included_namespaces;
    if include.is_empty() || include.iter().any(|name| name == "*") {
        return Vec::new();
    }
    let chosen = choose(
        include,
        &backup.spec.excluded_namespaces,
        namespaces.to_vec(),
        &context.namespace,
    );
    if !chosen.objects.is_empty() || chosen.missing.is_empty() {
        return Vec::new();
    }
    chosen
        .missing
        .iter()
        .map(|name| format!("namespace {name} does not exist"))
        .collect()
}

/// Writes the chosen location into the spec, as Velero does, so that it stays chosen when the
/// default changes, and into the label that selectors use; and the schedule that Velero's label
/// names into ours.
async fn fix_location(context: &Context, backup: &Backup, plan: &Plan) -> Result<()> {
    let labels = labels(backup, &plan.location);
    let done = backup.spec.storage_location.as_deref() == Some(plan.location.as_str())
        && labels
            .iter()
            .all(|(key, value)| backup.labels().get(key) == Some(value));
    if done {
        return Ok(());
    }
    let name = backup.name_any();
    let patch = json!({
        "metadata": {"uid": backup.uid(), "labels": labels},
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

/// The labels by which a backup is found.
fn labels(backup: &Backup, location: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    labels.insert(label::STORAGE_LOCATION.to_owned(), label::value(location));
    if let Some(schedule) = annotation::get(backup.labels(), label::SCHEDULE_NAME) {
        labels.insert(label::SCHEDULE_NAME.to_owned(), schedule.to_owned());
    }
    labels
}

/// In restore-only mode: one that has not begun is refused. One that an earlier process began is
/// left as it is, and goes on when the mode ends.
async fn leave(context: &Context, backup: &Backup) -> Result<()> {
    if has_begun(backup) {
        context
            .event(backup, EventType::Warning, "RestoreOnly", RESTORE_ONLY)
            .await;
        return Ok(());
    }
    refuse(context, backup, &[RESTORE_ONLY.to_owned()]).await
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

/// Writes that it waits for its turn, and for whom.
async fn queue(context: &Context, backup: &Backup, position: i32, why: &str) -> Result<()> {
    let now = context.clock.time();
    let (name, uid) = (backup.name_any(), backup.uid().unwrap_or_default());
    crate::status::update(&context.api::<Backup>(), &name, &uid, |backup| {
        status::queue(backup, position, why, &now);
    })
    .await?;
    Ok(())
}

/// Ends a Backup that was cancelled before it began.
async fn cancel(context: &Context, backup: &Backup) -> Result<()> {
    let now = context.clock.time();
    let (name, uid) = (backup.name_any(), backup.uid().unwrap_or_default());
    let what = "cancelled before it began; nothing is stored";
    crate::status::update(&context.api::<Backup>(), &name, &uid, |backup| {
        status::cancel(backup, what, &now);
    })
    .await?;
    let phase = "canceled".to_owned();
    context
        .metrics
        .backups
        .get_or_create(&Outcome { phase })
        .inc();
    context
        .event(backup, EventType::Normal, "Canceled", what)
        .await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ark_api::annotation::RUN_UID;
    use ark_api::backup::{BackupSpec, BackupStatus};
    use ark_api::origin::Origin;

    use super::*;

    #[test]
    fn a_schedule_that_veleros_label_names_is_found() {
        let mut backup = Backup::new("b", BackupSpec::default());
        let schedule = ("velero.io/schedule-name".to_owned(), "daily".to_owned());
        backup.metadata.labels = Some([schedule].into());
        let found = labels(&backup, "default");
        assert_eq!(found[label::SCHEDULE_NAME], "daily");
        assert_eq!(found[label::STORAGE_LOCATION], "default");
        backup.metadata.labels = None;
        assert_eq!(labels(&backup, "default").len(), 1);
    }

    #[test]
    fn ended_imported_and_deleted_backups_are_no_work() {
        let mut backup = Backup::new("b", BackupSpec::default());
        backup.metadata.uid = Some("u".to_owned());
        assert_eq!(job(&backup), Job::Start);
        for (phase, unstamped, stamped) in [
            (BackupPhase::New, Job::Start, Job::Start),
            (BackupPhase::InProgress, Job::GoOn, Job::GoOn),
            (BackupPhase::Finalizing, Job::GoOn, Job::GoOn),
            (BackupPhase::Queued, Job::Start, Job::Start),
            (BackupPhase::Canceling, Job::GoOn, Job::GoOn),
            (BackupPhase::Canceled, Job::None, Job::None),
            (BackupPhase::Completed, Job::Stamp, Job::None),
            (BackupPhase::PartiallyFailed, Job::Stamp, Job::None),
            (BackupPhase::Failed, Job::Stamp, Job::None),
            (BackupPhase::FailedValidation, Job::None, Job::None),
            (BackupPhase::Deleting, Job::None, Job::None),
            (BackupPhase::Copy, Job::Start, Job::Start),
        ] {
            backup.status = Some(BackupStatus {
                phase: Some(phase),
                ..BackupStatus::default()
            });
            backup.metadata.annotations = None;
            assert_eq!(job(&backup), unstamped, "{phase:?}");
            let stamp = (RUN_UID.to_owned(), "u".to_owned());
            backup.metadata.annotations = Some([stamp].into());
            assert_eq!(job(&backup), stamped, "{phase:?} with stamp");
        }
        backup.status = None;
        backup.spec.origin = Some(Origin::default());
        assert_eq!(job(&backup), Job::None);
    }
}
