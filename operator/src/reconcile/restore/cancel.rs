//! What happens to a restore that the user cancels while it runs. What it made stays. Volumes that
//! are being filled are cancelled and their gates told, controllers whose pods wait for volumes are
//! made without replicas, and everything else that was not dealt with yet is left out: each with a
//! row. Left out are controllers whose pods have all their volumes, too: made without replicas,
//! they would take these pods for their own and end them.
//!
//! Order: volumes, so that their gates are told first; then the controllers; then rows. Fails only
//! if the API server does not answer, and the next attempt does the same again.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use ark_api::PodVolumeRestore;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::results::ItemAction;
use tokio::time::Instant;

use super::plan::{OwnerKey, Pod, owner_key};
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
    super::act::give_up(context, restore, WHY).await?;
    let fills = wait_for_agents(run, &uid).await?;
    hold_controllers(run, &fills).await;
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

/// Waits until no agent works for the restore any more, says what became of each volume, and
/// returns them.
async fn wait_for_agents(run: &Run<'_>, uid: &str) -> Result<Vec<PodVolumeRestore>> {
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
            return Ok(fills);
        }
        tokio::select! {
            () = run.common.stop.now.cancelled() => return Err(crate::error::Error::Stopping),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// The volumes that are back, by pod and name, and the claims; by their names in the cluster.
#[derive(Debug, Default)]
struct Back<'a> {
    volumes: HashSet<(&'a str, &'a str, &'a str)>,
    claims: HashSet<(&'a str, &'a str)>,
}

impl<'a> Back<'a> {
    fn of(fills: &'a [PodVolumeRestore]) -> Self {
        let mut back = Self::default();
        for fill in fills {
            if !super::world::ended(fill).is_some_and(|finished| finished.usable) {
                continue;
            }
            let (pod, claim) = (&fill.spec.pod, fill.spec.claim.as_ref());
            let volume = fill.spec.volume.as_str();
            back.volumes
                .insert((pod.namespace.as_str(), pod.name.as_str(), volume));
            back.claims
                .extend(claim.map(|claim| (pod.namespace.as_str(), claim.name.as_str())));
        }
        back
    }

    /// Whether a pod, restored to `namespace`, has all its volumes.
    fn has_all(&self, namespace: &str, pod: &Pod) -> bool {
        pod.missing.is_empty()
            && pod.wanted.iter().all(|wanted| {
                let volume = &wanted.volume;
                let claim = volume.claim.as_deref();
                self.volumes
                    .contains(&(namespace, pod.name.as_str(), volume.name.as_str()))
                    || claim.is_some_and(|claim| self.claims.contains(&(namespace, claim)))
            })
    }
}

/// Makes the controllers whose pods wait for volumes so that they make no pods.
async fn hold_controllers(run: &Run<'_>, fills: &[PodVolumeRestore]) {
    let back = Back::of(fills);
    let unfilled = run
        .plan
        .pods
        .iter()
        .filter(|pod| !back.has_all(run.target(&pod.namespace), pod));
    let users = run.plan.users.iter().filter(|(owner, claims)| {
        let namespace = run.target(&owner.0);
        let mut claims = claims.iter();
        !claims.all(|claim| back.claims.contains(&(namespace, claim.as_str())))
    });
    let held: BTreeSet<OwnerKey> = unfilled
        .flat_map(|pod| pod.owners.clone())
        .chain(users.map(|(owner, _)| owner.clone()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fill(pod: &str, volume: &str, claim: Option<&str>, phase: &str) -> PodVolumeRestore {
        let claim = claim.map(|name| json!({"name": name}));
        serde_json::from_value(json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "PodVolumeRestore", "metadata": {"name": "r"},
            "spec": {"pod": {"namespace": "shop", "name": pod}, "volume": volume, "claim": claim},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_back_is_known_by_pod_and_volume_and_by_claim() {
        let fills = [
            fill("small", "data", None, "Completed"),
            fill("db", "data", Some("db"), "Completed"),
            fill("large", "data", Some("large"), "Canceled"),
        ];
        let back = Back::of(&fills);
        assert!(back.volumes.contains(&("shop", "small", "data")));
        assert!(back.claims.contains(&("shop", "db")));
        assert_eq!((back.volumes.len(), back.claims.len()), (2, 1));
    }
}
