//! PodVolumeRestore: the files of one volume, put back into a restored pod.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::origin::Origin;
use crate::pod_volume_backup::{ClaimReference, PodReference, VolumePhase, VolumeProgress};
use crate::volume::FileError;

/// One volume of one restored pod, to be filled by the agent of its node.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "PodVolumeRestore",
    namespaced,
    shortname = "pvr",
    derive = "PartialEq",
    category = "ark",
    status = "PodVolumeRestoreStatus",
    selectable = ".spec.node",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(
        name = "Namespace",
        type_ = "string",
        json_path = ".spec.pod.namespace"
    ),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod.name"),
    printcolumn(name = "Volume", type_ = "string", json_path = ".spec.volume"),
    printcolumn(
        name = "Bytes Done",
        type_ = "integer",
        json_path = ".status.progress.bytesDone"
    ),
    printcolumn(
        name = "Total Bytes",
        type_ = "integer",
        json_path = ".status.progress.totalBytes"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new(crate::origin::RULE).message(crate::origin::IMMUTABLE))]
pub struct PodVolumeRestoreSpec {
    /// Node the pod is scheduled to; only its agent acts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The restored pod, held by its gate.
    #[serde(default)]
    pub pod: PodReference,
    /// Name of the volume in the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub volume: String,
    /// Location.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backup_storage_location: String,
    /// Name of the `ResticRepository`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The repository as `restic -r` wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_identifier: Option<String>,
    /// Always `restic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploader_type: Option<String>,
    /// Snapshot to restore: full id or its first eight digits or more.
    #[serde(
        rename = "snapshotID",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub snapshot_id: String,
    /// Namespace the volume was backed up from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_namespace: String,
    /// Claim behind the volume, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimReference>,
    /// Other restored pods held by a gate that wait for this volume too (a claim shared by pods on this node).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<PodReference>,
    /// Settings of the engine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uploader_settings: BTreeMap<String, String>,
    /// What the agent does if the volume holds files already (apart from `lost+found`).
    #[serde(default)]
    pub when_not_empty: WhenNotEmpty,
    /// Set to true to stop it.
    #[serde(default)]
    pub cancel: bool,
    /// Where the object came from, when it was not created here; see [`Origin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What the agent does with a volume that holds files before it has written anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenNotEmpty {
    /// It writes nothing, and the volume has failed.
    #[default]
    Fail,
    /// It writes nothing, and the application gets the volume as it is.
    Keep,
    /// It writes the files of the backup into it.
    Fill,
}

/// What became of the restore of a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodVolumeRestoreStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<VolumePhase>,
    /// Conditions; types and reasons in [`crate::condition`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What went wrong or is being waited for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The same as a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the agent took it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_timestamp: Option<Time>,
    /// When the transfer began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// When a terminal phase was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_timestamp: Option<Time>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<VolumeProgress>,
    /// How often an agent started it; more than 1 after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Files that could not be dealt with, the first hundred by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_errors: Vec<FileError>,
    /// How many there are in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_error_count: Option<i64>,
}
