//! Restore: a backup, or part of it, brought back.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attempt::FailedAttempt;
use crate::backup::{ConfigMapReference, Hooks};
use crate::duration::Duration;
use crate::origin::Origin;

/// Which backup to bring back, and how.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "Restore",
    namespaced,
    shortname = "rst",
    derive = "PartialEq",
    category = "ark",
    status = "RestoreStatus",
    printcolumn(name = "Backup", type_ = "string", json_path = ".status.backupName"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Errors", type_ = "integer", json_path = ".status.errors"),
    printcolumn(name = "Warnings", type_ = "integer", json_path = ".status.warnings"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new(crate::origin::RULE).message(crate::origin::IMMUTABLE))]
pub struct RestoreSpec {
    /// Backup to restore; excludes `scheduleName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_name: Option<String>,
    /// Restore the newest `Completed` backup of this schedule; see `allowPartiallyFailed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_name: Option<String>,
    /// With `scheduleName`: take the newest backup even if it is `PartiallyFailed`; otherwise only `Completed` ones count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_partially_failed: Option<bool>,
    /// Namespaces (their names in the backup); empty or `*` means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_namespaces: Vec<String>,
    /// Namespaces left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_namespaces: Vec<String>,
    /// Resources; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_resources: Vec<String>,
    /// Resources left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_resources: Vec<String>,
    /// Namespace in the backup to namespace in the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_mapping: BTreeMap<String, String>,
    /// Only objects it matches; excludes `orLabelSelectors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Only objects that one of them matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub or_label_selectors: Vec<LabelSelector>,
    /// Volumes; false is not supported yet and refused.
    #[serde(
        rename = "restorePVs",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub restore_pvs: Option<bool>,
    /// Kinds whose status is restored; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_status: Option<RestoreStatusSpec>,
    /// Keep the node ports of Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_node_ports: Option<bool>,
    /// Cluster-scoped objects: true all, false none, unset those that restored objects need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// Commands in restored pods; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// What to do with objects that exist; `none` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_resource_policy: Option<ExistingResourcePolicy>,
    /// Deadline of each volume of this restore, from the moment its agent starts to fill it; 4h when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_operation_timeout: Option<Duration>,
    /// How long a restored pod may take to be scheduled and its claims to be bound; when unset the operator's
    /// setting (10m unless the chart says otherwise), or `itemOperationTimeout` if that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_bind_timeout: Option<Duration>,
    /// How long a volume may wait until its agent starts to fill it (the gate starts, a slot is free); 24h when
    /// unset, or `itemOperationTimeout` if that is set and shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_queue_timeout: Option<Duration>,
    /// What happens to applications whose volume data the backup lacks or holds in part; `hold` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_volume_data: Option<MissingVolumeData>,
    /// What happens to volumes that hold files already; `keep` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_empty_volumes: Option<NonEmptyVolumes>,
    /// Changes to restored objects; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_modifier: Option<ConfigMapReference>,
    /// Volume policies; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_policy: Option<ConfigMapReference>,
    /// Settings of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploader_config: Option<RestoreUploaderConfig>,
    /// Where the object came from, when it was not created here; see [`Origin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Set to true to cancel the restore. What is restored by then stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
}

/// What to do with an object of the backup that exists in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExistingResourcePolicy {
    /// Leave it as it is and say so.
    #[default]
    None,
    /// Change it to the backup's state.
    Update,
}

/// What happens to an application whose volume data the backup lacks or holds in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissingVolumeData {
    /// It does not start: its pods are held or not made, its controllers make none, and each such volume is an error.
    #[default]
    Hold,
    /// It starts with empty or incomplete volumes; each such volume is a warning.
    Accept,
}

/// What happens to a volume that holds files already (apart from `lost+found`) when it is to be filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NonEmptyVolumes {
    /// Nothing is written into it. The application gets it as it is if it is the volume that the claim had when it
    /// was backed up; any other counts as failed.
    #[default]
    Keep,
    /// The files of the backup are written into it; files that the backup does not hold stay.
    Fill,
}

/// Kinds whose status is restored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatusSpec {
    /// Resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_resources: Vec<String>,
    /// Resources left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_resources: Vec<String>,
}

/// Settings of the engine for one restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreUploaderConfig {
    /// Leave holes for blocks of zeros; true when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_sparse_files: Option<bool>,
    /// Workers that write files; the engine decides when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_files_download: Option<i32>,
}

/// Where a restore stands. Terminal: the last five.
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
pub enum RestorePhase {
    /// Not looked at yet.
    #[default]
    New,
    /// Objects and volumes are being restored.
    InProgress,
    /// Velero only; read, never written.
    WaitingForPluginOperations,
    /// Artefacts are being written.
    Finalizing,
    /// It is being cancelled.
    Canceling,
    /// The spec makes no sense; nothing was done.
    FailedValidation,
    /// Everything asked for is back.
    Completed,
    /// Some objects or volumes are not back.
    PartiallyFailed,
    /// Nothing, or next to nothing, is back.
    Failed,
    /// It was cancelled; what was restored by then stays.
    Canceled,
    /// The object is a copy of one that was executed; nothing is done. See [`crate::run_stamp`].
    Copy,
}

impl RestorePhase {
    /// Whether no controller will work on the restore any more.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::FailedValidation
                | Self::Completed
                | Self::PartiallyFailed
                | Self::Failed
                | Self::Canceled
                | Self::Copy
        )
    }
}

/// What became of a restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// Conditions; types and reasons in [`crate::condition`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Backup it was resolved to, once, at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_name: Option<String>,
    /// Location of that backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_location: Option<String>,
    /// Number of the present attempt, counted before it begins; more than 1 after a restart of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Earlier attempts, and why each ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_attempts: Vec<FailedAttempt>,
    /// When work began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// When a terminal phase was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_timestamp: Option<Time>,
    /// All that is wrong with the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_errors: Vec<String>,
    /// Why it failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Number of errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<i32>,
    /// Number of warnings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<i32>,
    /// Items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<RestoreProgress>,
    /// Volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<RestoreVolumeCounts>,
}

/// Items of a restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreProgress {
    /// Items to restore.
    #[serde(default)]
    pub total_items: i32,
    /// Items dealt with.
    #[serde(default)]
    pub items_restored: i32,
}

/// Volumes of a restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreVolumeCounts {
    /// Volumes to restore.
    #[serde(default)]
    pub total: i32,
    /// Volumes that are back in full.
    #[serde(default)]
    pub completed: i32,
    /// Volumes that are not.
    #[serde(default)]
    pub failed: i32,
    /// Bytes written.
    #[serde(default)]
    pub bytes: i64,
}
