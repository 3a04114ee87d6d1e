//! Controller of requests to delete backups: judge → mark → delete → status.
//!
//! All requests for backups at one location are worked on together, by one pass at a time, so that
//! each repository is locked and listed once for many backups.
//!
//! Order for each backup: its phase becomes `Deleting`; its marker in the bucket says so too; its snapshots are
//! forgotten; its restores and their artefacts go; its artefacts go, then the marker, the claim object last;
//! the Backup object; the requests. So whatever is left after a crash is never taken for a good backup: a marker
//! is there as long as a snapshot may be, and it says `Deleting`. Each step can be done again.
//!
//! A request that cannot be granted is answered with the reason and goes away a day later. One that
//! has to wait, because the location is away or a restore still reads the backup, says what it
//! waits for.

mod bucket;
mod judge;
mod restores;
mod snapshots;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ark_api::requests::RequestPhase;
use ark_api::{Backup, BackupStorageLocation, DeleteBackupRequest, Restore};
use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use tokio::sync::Mutex as AsyncMutex;

use self::judge::Verdict;
pub(super) use self::judge::{available, location_of};
pub(crate) use self::restores::RestoreDeletionReconciler;
pub(super) use self::work::delete_object;
use super::{ControllerOf, Reconciler, on_change_of};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::settings::RESTORE_ONLY;

/// How long an answered request stays.
const KEPT: Duration = Duration::from_hours(24);
/// When to look again at what waits; what changes in the cluster wakes it before.
const AGAIN: Duration = Duration::from_secs(30);

/// The controller.
#[derive(Default)]
pub(crate) struct DeletionReconciler {
    /// One pass at a time for each location.
    passes: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

impl Reconciler for DeletionReconciler {
    type Kind = DeleteBackupRequest;

    async fn reconcile(
        &self,
        object: &DeleteBackupRequest,
        context: &Arc<Context>,
    ) -> Result<Action> {
        let Some(request) = open_request(context, &object.name_any()).await? else {
            return expire(context, object).await;
        };
        if context.settings.restore_only {
            let waits = Verdict::Waits(RESTORE_ONLY.to_owned());
            answer(context, &request, &waits).await?;
            return Ok(Action::await_change());
        }
        let backup = find_backup(context, &request.spec.backup_name).await?;
        let Some(backup) = backup else {
            return without_backup(context, &request).await;
        };
        let location = location_of(&backup);
        let lock = self.pass_of(&location);
        let _alone = lock.lock().await;
        // The pass before may have done it.
        if open_request(context, &request.name_any()).await?.is_none() {
            return Ok(Action::requeue(Duration::from_secs(1)));
        }
        Box::pin(work::pass(context, &location)).await?;
        Ok(match open_request(context, &request.name_any()).await? {
            Some(_) => Action::requeue(AGAIN),
            None => Action::requeue(KEPT),
        })
    }

    fn phase_of(request: &DeleteBackupRequest) -> Option<String> {
        let phase = request.status.as_ref().and_then(|status| status.phase);
        Some(format!("{:?}", phase.unwrap_or_default()))
    }

    fn triggers(
        &self,
        controller: ControllerOf<DeleteBackupRequest>,
        context: &Context,
    ) -> ControllerOf<DeleteBackupRequest> {
        let waits = |request: &DeleteBackupRequest| {
            request
                .status
                .as_ref()
                .is_some_and(|status| status.waiting_for.is_some())
        };
        let controller =
            on_change_of::<_, Restore>(controller, context, move |request, restore| {
                waits(request) && judge::reads(restore, &request.spec.backup_name)
            });
        on_change_of::<_, BackupStorageLocation>(controller, context, move |request, location| {
            let here = request
                .status
                .as_ref()
                .and_then(|status| status.waiting_for.as_deref())
                .is_some_and(|text| text.contains(&location.name_any()));
            here && available(location)
        })
    }
}

impl DeletionReconciler {
    fn pass_of(&self, location: &str) -> Arc<AsyncMutex<()>> {
        self.passes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(location.to_owned())
            .or_default()
            .clone()
    }
}

/// Whether nobody has answered a request yet.
fn is_open(request: &DeleteBackupRequest) -> bool {
    let phase = request.status.as_ref().and_then(|status| status.phase);
    request.metadata.deletion_timestamp.is_none()
        && matches!(
            phase,
            None | Some(RequestPhase::New | RequestPhase::InProgress)
        )
}

/// The request as it is now, if it is still to be answered.
async fn open_request(context: &Context, name: &str) -> Result<Option<DeleteBackupRequest>> {
    let found = context
        .api::<DeleteBackupRequest>()
        .get_opt(name)
        .await
        .map_err(Error::kube(format!("get DeleteBackupRequest {name}")))?;
    Ok(found.filter(is_open))
}

async fn find_backup(context: &Context, name: &str) -> Result<Option<Backup>> {
    if name.is_empty() {
        return Ok(None);
    }
    context
        .api::<Backup>()
        .get_opt(name)
        .await
        .map_err(Error::kube(format!("get Backup {name}")))
}

/// The Backup is gone: either the request did that before a crash, or it was never there.
async fn without_backup(context: &Context, request: &DeleteBackupRequest) -> Result<Action> {
    let begun =
        request.status.as_ref().and_then(|status| status.phase) == Some(RequestPhase::InProgress);
    if begun {
        delete_object(context, request).await?;
        return Ok(Action::await_change());
    }
    let why = format!("there is no Backup named {:?}", request.spec.backup_name);
    answer(context, request, &Verdict::Refused(why)).await?;
    Ok(Action::requeue(KEPT))
}

/// Removes a request that was answered a day ago.
async fn expire(context: &Context, object: &DeleteBackupRequest) -> Result<Action> {
    let answered = object.status.as_ref().and_then(|status| {
        let time = status.completion_timestamp.as_ref()?;
        Some(time.0)
    });
    let Some(answered) = answered else {
        // What the watch showed was older than the answer.
        return Ok(Action::requeue(AGAIN));
    };
    let age = context.clock.now().duration_since(answered);
    let left = KEPT.saturating_sub(Duration::try_from(age).unwrap_or_default());
    if left.is_zero() {
        delete_object(context, object).await?;
        return Ok(Action::await_change());
    }
    Ok(Action::requeue(left.min(Duration::from_hours(1))))
}

/// Writes into a request what becomes of it.
async fn answer(context: &Context, request: &DeleteBackupRequest, verdict: &Verdict) -> Result<()> {
    let (name, uid) = (request.name_any(), request.uid().unwrap_or_default());
    let now = context.clock.time();
    let api = context.api::<DeleteBackupRequest>();
    let written = crate::status::update(&api, &name, &uid, |request| {
        judge::write(request, verdict, &now);
    })
    .await;
    match written {
        Ok(_) => {}
        // Its user took it back.
        Err(Error::Permanent { .. }) => return Ok(()),
        Err(error) => return Err(error),
    }
    if let Verdict::Refused(why) = verdict {
        tracing::warn!(backup = request.spec.backup_name, why, "deletion refused");
        context
            .event(request, EventType::Warning, "DeletionRefused", why)
            .await;
        context.metrics.upkeep.deletion_refused();
    }
    Ok(())
}

/// All requests that are still to be answered, the oldest first.
async fn open_requests(context: &Context) -> Result<Vec<DeleteBackupRequest>> {
    let mut all: Vec<DeleteBackupRequest> = context.list(&ListParams::default()).await?;
    all.retain(is_open);
    all.sort_by_key(|request| (request.creation_timestamp(), request.name_any()));
    context
        .metrics
        .upkeep
        .deletions_pending
        .set(i64::try_from(all.len()).unwrap_or(i64::MAX));
    Ok(all)
}
