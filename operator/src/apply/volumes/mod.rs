//! Which volumes of which restored pods are filled from the backup, and how pods are held until
//! then. Pure.
//!
//! - [`stock`]: what the backup holds, from its volume rows or its `PodVolumeBackup`s.
//! - [`disks`]: which disk a restored claim gets.
//! - [`share`]: pods that mount one claim wait for one restore of it.
//! - [`users`]: which claims the pods of a controller mount.
//! - [`gate`]: what is added to a pod so that it waits, and how a controller is held back.
//!
//! The rule behind it all: no application ever gets an empty volume because something went wrong.

pub(crate) mod disks;
pub(crate) mod gate;
pub(crate) mod share;
pub(crate) mod stock;
pub(crate) mod users;

use serde_json::Value;

use super::transform::{list, text};

/// A volume of a pod that can hold files of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodVolume {
    /// Its name in the pod.
    pub(crate) name: String,
    /// Claim behind it.
    pub(crate) claim: Option<String>,
    /// The claim belongs to the pod and is made anew with it.
    pub(crate) ephemeral: bool,
}

/// Volumes of `pod` that can hold files of their own, in its order.
pub(crate) fn of_pod(pod: &Value) -> Vec<PodVolume> {
    let pod_name = text(pod, "/metadata/name").unwrap_or_default();
    list(pod, "/spec/volumes")
        .iter()
        .filter_map(|volume| {
            let name = text(volume, "/name")?.to_owned();
            let foreign = [
                "secret",
                "configMap",
                "projected",
                "downwardAPI",
                "image",
                "hostPath",
            ];
            if foreign.iter().any(|kind| volume.get(kind).is_some()) {
                return None;
            }
            let ephemeral = volume.get("ephemeral").is_some();
            let claim = if ephemeral {
                Some(format!("{pod_name}-{name}"))
            } else {
                text(volume, "/persistentVolumeClaim/claimName").map(str::to_owned)
            };
            Some(PodVolume {
                name,
                claim,
                ephemeral,
            })
        })
        .collect()
}
