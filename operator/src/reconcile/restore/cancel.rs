//! What happens to a restore that the user cancels while it runs. What it made stays. Volumes that are being filled
//! are cancelled and their gates told, controllers whose pods wait for volumes are made without replicas, and everything else that was
//! not dealt with yet is left out: each with a row.
//!
//! Order: volumes, so that their gates are told first; then the controllers; then rows. Fails only if the API server
//! does not answer, and the next attempt does the same again.

use std::collections::BTreeSet;
use std::time::Duration;

use ark_api::pod_volume_backup::VolumePhase;
use ark_api::results::ItemAction;
use tokio::time::Instant;

use super::plan::{OwnerKey, owner_key};
use super::report::Report;
use super::run::Run;
use super::volumes;
use crate::apply::order::{PODS, Stage, stage};
use crate::apply::transform::{self, Binding};
use crate::error::Result;

/// How long agents may take to end what is cancelled.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two looks at them.
const PAUSE: Duration = Duration::from_millis(500);
/// Why something was not done.
pub(super) const WHY: &str = "the restore was cancelled";

/// Ends a run that was interrupted.
pub(super) async fn cancelled(run: &Run<'_>) -> Result<()> {
    let (context, restore) = (run.common.context, run.common.restore);
    let uid = kube::ResourceExt::uid(restore).unwrap_or_default();
    run.report().log.info("the restore is being cancelled");
    super::status::Writer::new(context, restore)
        .canceling()
        .await?;
    super::give_up(context, restore, WHY).await?;
    wait_for_agents(run, &uid).await?;
    hold_controllers(run).await;
    skip_the_rest(run);
    Ok(())
}

/// What is said of it in one line.
pub(super) fn summary(report: &Report) -> String {
    let live = report.now();
    let skipped = report.count(ItemAction::Skipped);
    format!(
        "cancelled; {} objects and {} of {} volumes were restored and stay, {skipped} objects were left out",
        report.count(ItemAction::Created) + report.count(ItemAction::Changed),
        live.volumes.completed,
        live.volumes.total,
    )
}

/// Waits until no agent works for the restore any more, and says what became of each volume.
async fn wait_for_agents(run: &Run<'_>, uid: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let fills = volumes::of_restore(run.common.context, uid).await?;
        let ended = |phase: Option<VolumePhase>| phase.is_some_and(VolumePhase::is_terminal);
        let open = fills
            .iter()
            .filter(|fill| !ended(fill.status.as_ref().and_then(|status| status.phase)));
        if open.count() == 0 || Instant::now() >= deadline {
            for fill in &fills {
                let name = format!("{}/{}", fill.spec.pod.name, fill.spec.volume);
                let namespace = &fill.spec.pod.namespace;
                if run.report().has(volumes::RESOURCE, namespace, &name) {
                    continue;
                }
                let finished =
                    super::world::ended(fill).unwrap_or_else(|| super::fill::Finished::failed(WHY));
                volumes::record(run.report(), &fill.spec.pod, &fill.spec.volume, &finished);
            }
            return Ok(());
        }
        tokio::select! {
            () = run.common.stop.now.cancelled() => return Err(crate::error::Error::Stopping),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Makes the controllers whose pods wait for volumes so that they make no pods.
async fn hold_controllers(run: &Run<'_>) {
    let held: BTreeSet<OwnerKey> = run
        .plan
        .pods
        .iter()
        .filter(|pod| !pod.wanted.is_empty() || !pod.missing.is_empty())
        .flat_map(|pod| pod.owners.clone())
        .chain(run.plan.users.keys().cloned())
        .collect();
    for (resource, entries) in &run.plan.resources {
        if stage(resource) != Stage::AfterPods || resource == PODS {
            continue;
        }
        for entry in entries {
            let target = run.target(&entry.namespace);
            if run.report().has(resource, target, &entry.name) {
                continue;
            }
            // Objects that cannot be read get their row with the rest.
            let Ok(object) = run.spool.load(resource, entry) else {
                continue;
            };
            // What was there before is never held back.
            if held.contains(&owner_key(&object))
                && !run.applier.exists(resource, target, &entry.name).await
            {
                let binding = Binding::default();
                let object = transform::restored(resource, object, run.applier.rules(), binding);
                run.hold(resource, entry, object, WHY).await;
            }
        }
    }
}

/// A row for everything that was not dealt with.
fn skip_the_rest(run: &Run<'_>) {
    for (resource, entries) in &run.plan.resources {
        for entry in entries {
            let target = run.target(&entry.namespace);
            if !run.report().has(resource, target, &entry.name) {
                let action = ItemAction::Skipped;
                run.report()
                    .row(resource, target, &entry.name, action, WHY, false);
            }
        }
    }
}
