//! What was there before a restore, or is left of an earlier attempt or restore: pods, and claims
//! whose files are back already. Such data is never written over; pods that still wait for data are
//! taken out of the way.

use std::collections::{HashMap, HashSet};

use ark_api::condition::{self, kind};
use ark_api::pod_volume_backup::PodReference;
use ark_api::results::ItemAction;
use ark_api::{PodVolumeRestore, Restore};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, ResourceExt};

use super::fill::Finished;
use super::report::about;
use super::run::Run;
use super::{gates, plan, volumes, world};
use crate::apply::transform;
use crate::apply::volumes::stock::Wanted;
use crate::error::{Error, Result, describe, is_not_found};

/// Whether a volume is to be filled; otherwise it is said why not.
pub(super) fn is_to_fill(
    run: &Run<'_>,
    pod: &plan::Pod,
    wanted: &Wanted,
    earlier: &mut Earlier,
    trouble: &mut Option<String>,
) -> bool {
    let Some(claim) = &wanted.volume.claim else {
        return true;
    };
    let target = run.target(&pod.namespace);
    if let Some((finished, said)) = earlier.get_mut(&(target.to_owned(), claim.clone())) {
        if !finished.usable {
            trouble.get_or_insert(format!("claim {claim}: {}", finished.message));
        }
        // Once, however many pods mount it.
        if !std::mem::replace(said, true) {
            run.report().live(|live| {
                live.volumes.total += 1;
                live.volumes.bytes += finished.bytes;
            });
            let reference = PodReference {
                namespace: target.to_owned(),
                name: pod.name.clone(),
                ..PodReference::default()
            };
            volumes::record(run.report(), &reference, &wanted.volume.name, finished);
        }
        return false;
    }
    if wanted.volume.ephemeral {
        return true;
    }
    let why = match run.claim(&pod.namespace, claim) {
        Some(ItemAction::Created | ItemAction::Failed) => return true,
        Some(_) if run.is_fresh(&pod.namespace, claim) => return true,
        Some(_) => "existed before, so the files of the backup were not put into it",
        None => "is not part of this restore, so its files were left as they are",
    };
    run.report().log.warn(
        about(target),
        format!("pods {target}/{}: claim {claim} {why}", pod.name),
    );
    false
}

/// Whose a pod of the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// There is none.
    None,
    /// This restore made it.
    Own,
    /// It was there before.
    Foreign,
}

/// Looks for a pod of that name. One that an earlier restore made, and whose gate never let its
/// application start, is in the way and is deleted, unless that restore (its uid in `running`)
/// still works on it.
pub(super) async fn look(
    run: &Run<'_>,
    pod: &plan::Pod,
    uid: &str,
    running: &HashSet<String>,
) -> Result<Existing> {
    let namespace = run.target(&pod.namespace);
    let api: Api<Pod> = Api::namespaced(run.applier.client.clone(), namespace);
    let found = api
        .get_opt(&pod.name)
        .await
        .map_err(Error::kube(format!("get Pod {namespace}/{}", pod.name)))?;
    let Some(found) = found else {
        return Ok(Existing::None);
    };
    // It goes away, and applying waits for that.
    if found.metadata.deletion_timestamp.is_some() {
        return Ok(Existing::None);
    }
    let object = serde_json::to_value(&found).map_err(|error| Error::Bug(error.to_string()))?;
    let maker = transform::stamped_by(&object);
    if maker == Some(uid) {
        return Ok(Existing::Own);
    }
    let left_over = maker.is_some_and(|maker| !running.contains(maker)) && gates::waits(&found);
    if !left_over {
        return Ok(Existing::Foreign);
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: found.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&pod.name, &params).await {
        Ok(_) => {
            run.report().log.info(format!(
                "pods {namespace}/{}: an earlier restore left it waiting for its volumes; it was deleted and is made again",
                pod.name
            ));
            Ok(Existing::None)
        }
        Err(error) if is_not_found(&error) => Ok(Existing::None),
        Err(error) => {
            run.report().log.warn(
                about(namespace),
                format!(
                    "pods {namespace}/{}: an earlier restore left it waiting for its volumes, and it could not be \
                     deleted ({}); delete it and restore again",
                    pod.name,
                    describe(&error)
                ),
            );
            Ok(Existing::Foreign)
        }
    }
}

/// Uids of the restores that are at work.
pub(super) async fn running(run: &Run<'_>) -> Result<HashSet<String>> {
    let restores: Vec<Restore> = run.common.context.list(&ListParams::default()).await?;
    Ok(restores
        .into_iter()
        .filter(|restore| {
            let phase = restore.status.as_ref().and_then(|status| status.phase);
            restore.spec.origin.is_none() && !phase.unwrap_or_default().is_terminal()
        })
        .filter_map(|restore| restore.uid())
        .collect())
}

/// What became of claims in an earlier attempt, by their names in the cluster, and whether that was
/// said already.
pub(super) type Earlier = HashMap<(String, String), (Finished, bool)>;

/// Claims whose data an earlier attempt has put back.
pub(super) fn finished_claims(fills: &[PodVolumeRestore]) -> Earlier {
    fills
        .iter()
        .filter_map(|fill| {
            let claim = fill.spec.claim.as_ref()?.name.clone();
            let finished = world::ended(fill)?;
            Some(((fill.spec.pod.namespace.clone(), claim), (finished, false)))
        })
        .collect()
}

/// Uids of the claims that an earlier attempt found empty and began to fill, by their names in the
/// cluster.
pub(super) fn begun_claims(fills: &[PodVolumeRestore]) -> HashMap<(String, String), String> {
    fills
        .iter()
        .filter(|fill| {
            let status = fill.status.as_ref();
            status.is_some_and(|status| condition::is_true(&status.conditions, kind::TARGET_EMPTY))
        })
        .filter_map(|fill| {
            let claim = fill.spec.claim.clone()?;
            Some(((fill.spec.pod.namespace.clone(), claim.name), claim.uid))
        })
        .collect()
}
