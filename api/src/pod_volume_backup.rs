//! PodVolumeBackup: the files of one volume of one pod, stored.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::origin::Origin;
use crate::volume::FileError;

/// One volume of one running pod, to be stored by the agent of its node.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "PodVolumeBackup",
    namespaced,
    shortname = "pvb",
    derive = "PartialEq",
    category = "ark",
    status = "PodVolumeBackupStatus",
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
        name = "New Bytes",
        type_ = "integer",
        json_path = ".status.incrementalBytes",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new(crate::origin::RULE).message(crate::origin::IMMUTABLE))]
pub struct PodVolumeBackupSpec {
    /// Node the pod runs on; only its agent acts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The pod.
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
    /// The repository as `restic -r` wants it; for people and for objects written for Velero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_identifier: Option<String>,
    /// Always `restic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploader_type: Option<String>,
    /// Tags of the snapshot, keys in [`crate::naming::tag`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Path shown in the snapshot, see [`crate::naming::snapshot_path`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub snapshot_path: String,
    /// Claim behind the volume, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimReference>,
    /// Settings of the engine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uploader_settings: BTreeMap<String, String>,
    /// Set to true to stop it.
    #[serde(default)]
    pub cancel: bool,
    /// Where the object came from, when it was not created here; see [`Origin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A pod, down to its uid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodReference {
    /// Always `Pod`; kept for manifests written for Velero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// A claim behind a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReference {
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// PersistentVolume it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
}

/// Where the backup or restore of a volume stands. Terminal: the last four.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum VolumePhase {
    /// Not looked at by the agent yet.
    #[default]
    New,
    /// The agent knows of it and waits for a free slot.
    Accepted,
    /// Velero only; read, never written.
    Prepared,
    /// Files are being transferred.
    InProgress,
    /// It is being cancelled.
    Canceling,
    /// It was cancelled; nothing was kept.
    Canceled,
    /// All files are stored or restored.
    Completed,
    /// Some files are not; they are listed.
    PartiallyFailed,
    /// Nothing is; the message says why.
    Failed,
}

impl VolumePhase {
    /// Whether the agent will work on it no more.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Canceled | Self::Completed | Self::PartiallyFailed | Self::Failed
        )
    }
}

/// Bytes of one volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeProgress {
    /// Bytes of file content, as known so far.
    #[serde(default)]
    pub total_bytes: i64,
    /// Bytes dealt with.
    #[serde(default)]
    pub bytes_done: i64,
    /// Files dealt with.
    #[serde(default)]
    pub files_done: i64,
}

/// What became of the backup of a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodVolumeBackupStatus {
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
    /// Directory it was read from, as the agent saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Snapshot, 64 hexadecimal digits, written the moment it exists.
    #[serde(
        rename = "snapshotID",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub snapshot_id: Option<String>,
    /// Snapshot it was compared with.
    #[serde(
        rename = "parentSnapshotID",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub parent_snapshot_id: Option<String>,
    /// Bytes added to the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental_bytes: Option<i64>,
    /// Regular files in the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,
}
