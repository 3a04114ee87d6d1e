//! What was there before a restore, or is left of an earlier attempt of it: pods, and claims whose files
//! are back already. Such data is never written over.

use std::collections::HashMap;

use ark_api::PodVolumeRestore;
use ark_api::pod_volume_backup::PodReference;
use ark_api::results::ItemAction;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

use super::fill::Finished;
use super::report::about;
use super::run::Run;
use super::{plan, volumes, world};
use crate::apply::volumes::stock::Wanted;
use crate::error::{Error, Result};

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

pub(super) async fn look(run: &Run<'_>, pod: &plan::Pod, uid: &str) -> Result<Existing> {
    let namespace = run.target(&pod.namespace);
    let api: Api<Pod> = Api::namespaced(run.applier.client.clone(), namespace);
    let found = api
        .get_opt(&pod.name)
        .await
        .map_err(Error::kube(format!("get Pod {namespace}/{}", pod.name)))?;
    Ok(match found {
        None => Existing::None,
        // It goes away, and applying waits for that.
        Some(pod) if pod.metadata.deletion_timestamp.is_some() => Existing::None,
        Some(pod)
            if pod
                .annotations()
                .get(ark_api::annotation::RESTORE_UID)
                .map(String::as_str)
                == Some(uid) =>
        {
            Existing::Own
        }
        Some(_) => Existing::Foreign,
    })
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
