//! Backup: objects and volumes of chosen namespaces, stored at a location.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attempt::FailedAttempt;
use crate::duration::Duration;
use crate::origin::Origin;
use crate::volume::VolumeCounts;

/// What to back up, where to, and for how long.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "Backup",
    namespaced,
    shortname = "bak",
    derive = "PartialEq",
    category = "ark",
    status = "BackupStatus",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Errors", type_ = "integer", json_path = ".status.errors"),
    printcolumn(name = "Warnings", type_ = "integer", json_path = ".status.warnings"),
    printcolumn(
        name = "Unprotected",
        type_ = "integer",
        json_path = ".status.unprotectedVolumes"
    ),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTimestamp"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new(crate::origin::RULE).message(crate::origin::IMMUTABLE))]
pub struct BackupSpec {
    /// In a Schedule's template: labels and annotations of the Backups it makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BackupMetadata>,
    /// Namespaces; empty or `*` means all but Ark's own, which must be named. Globs `*`, `?`, `[a-z]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_namespaces: Vec<String>,
    /// Namespaces left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_namespaces: Vec<String>,
    /// Resources by plural, `plural.group` or short name; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_resources: Vec<String>,
    /// Resources left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_resources: Vec<String>,
    /// Cluster-scoped resources; excludes the two lists above and `includeClusterResources`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_cluster_scoped_resources: Vec<String>,
    /// Cluster-scoped resources left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_cluster_scoped_resources: Vec<String>,
    /// Namespaced resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_namespace_scoped_resources: Vec<String>,
    /// Namespaced resources left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_namespace_scoped_resources: Vec<String>,
    /// Cluster-scoped objects: true all, false none, unset those that selected objects need (all, if all namespaces are selected).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// Only objects it matches; excludes `orLabelSelectors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Only objects that one of them matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub or_label_selectors: Vec<LabelSelector>,
    /// Disk snapshots; not supported yet, `true` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_volumes: Option<bool>,
    /// Moving disk snapshots to the location; not supported yet, `true` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_move_data: Option<bool>,
    /// Data mover; not supported yet, anything but `ark` or `velero` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datamover: Option<String>,
    /// How long the backup is kept; 720h when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Name of the location; the default location when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_location: Option<String>,
    /// Snapshot locations; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_snapshot_locations: Vec<String>,
    /// Commands around the backup of pods; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Opt-out mode: the files of every volume are taken unless it is excluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_volumes_to_fs_backup: Option<bool>,
    /// Old name of `defaultVolumesToFsBackup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_volumes_to_restic: Option<bool>,
    /// Resource to a list of `namespace/name` to be taken first; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ordered_resources: BTreeMap<String, String>,
    /// Deadline of a disk snapshot; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csi_snapshot_timeout: Option<Duration>,
    /// Deadline of each volume of this backup, from the moment its agent begins with it; 4h when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_operation_timeout: Option<Duration>,
    /// How long a volume of this backup may wait for its agent to begin with it; 24h when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_queue_timeout: Option<Duration>,
    /// Set to true to cancel the backup. What is finished by then is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Volume policies; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_policy: Option<ConfigMapReference>,
    /// Settings of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploader_config: Option<UploaderConfig>,
    /// Group snapshots; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_group_snapshot_label_key: Option<String>,
    /// Where the object came from, when it was not created here; see [`Origin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Labels and annotations a Schedule gives the Backups it makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Commands around the backup of selected pods. Accepted by the schema; a backup that asks for them
/// is refused until they are supported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Hooks by what they apply to, as Velero writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::backup::free_form_list")]
    pub resources: Vec<serde_json::Value>,
}

/// Schema of a list of objects whose shape later versions fix.
pub(crate) fn free_form_list(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true }
    })
}

/// A ConfigMap in Ark's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapReference {
    /// Always `configmap`.
    pub kind: String,
    /// Name of the ConfigMap.
    pub name: String,
    /// Unused; kept for manifests written for Velero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
}

/// Settings of the engine for one backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploaderConfig {
    /// Workers that read and store files; not supported yet, refused when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_files_upload: Option<i32>,
}

/// Where a backup stands. Terminal: the last five.
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
pub enum BackupPhase {
    /// Not looked at yet.
    #[default]
    New,
    /// Waiting for its turn.
    Queued,
    /// Next in turn.
    ReadyToStart,
    /// Objects and volumes are being taken.
    InProgress,
    /// Velero only; read, never written.
    WaitingForPluginOperations,
    /// Velero only; read, never written.
    WaitingForPluginOperationsPartiallyFailed,
    /// Artefacts are being written.
    Finalizing,
    /// Velero only; read, never written.
    FinalizingPartiallyFailed,
    /// It is being cancelled.
    Canceling,
    /// Its data is being deleted.
    Deleting,
    /// The spec makes no sense; nothing was done.
    FailedValidation,
    /// Every row is taken, or left out by the user.
    Completed,
    /// It can be restored, but some rows or objects are missing.
    PartiallyFailed,
    /// It cannot be restored.
    Failed,
    /// It was cancelled. What was finished by then can be restored, if the reason says that it was stored.
    Canceled,
    /// The object is a copy of one that was executed; nothing is done. See [`crate::run_stamp`].
    Copy,
}

impl BackupPhase {
    /// Whether no controller will work on the backup any more.
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

    /// Whether a restore may read the backup.
    pub fn is_restorable(self) -> bool {
        matches!(self, Self::Completed | Self::PartiallyFailed)
    }
}

/// The newest backup, by its start, that a restore may take without being told its name. `PartiallyFailed`
/// ones lack something, so they count only where the user asks for them.
pub fn newest_restorable(backups: &[Backup], partially_failed: bool) -> Option<&Backup> {
    let phase = |backup: &Backup| backup.status.as_ref().and_then(|status| status.phase);
    let started = |backup: &Backup| {
        let status = backup.status.as_ref();
        let start = status.and_then(|status| status.start_timestamp.clone());
        let start = start.or_else(|| backup.metadata.creation_timestamp.clone());
        start.map(|time| time.0)
    };
    backups
        .iter()
        .filter(|backup| backup.metadata.deletion_timestamp.is_none())
        .filter(|backup| match phase(backup) {
            Some(BackupPhase::Completed) => true,
            Some(BackupPhase::PartiallyFailed) => partially_failed,
            _ => false,
        })
        .max_by(|a, b| {
            let by_start = started(a).cmp(&started(b));
            by_start.then_with(|| a.metadata.name.cmp(&b.metadata.name))
        })
}

/// What became of a backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// Conditions; types and reasons in [`crate::condition`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Version of the status, 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// Version of the bundle's layout, `1.1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format_version: Option<String>,
    /// Number of the present attempt, counted before it begins; more than 1 after a restart of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Earlier attempts, and why each ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_attempts: Vec<FailedAttempt>,
    /// Place among the backups that wait for their turn, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i32>,
    /// When the backup may be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<Time>,
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
    pub progress: Option<ItemProgress>,
    /// Volume rows by class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<VolumeCounts>,
    /// Volumes that hold data which no method covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unprotected_volumes: Option<i32>,
    /// Bytes of file content in all volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Bytes added to repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_bytes: Option<i64>,
    /// Identity of the cluster (uid of its `kube-system` namespace).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// Items of a backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemProgress {
    /// Items known so far.
    #[serde(default)]
    pub total_items: i32,
    /// Items in the bundle.
    #[serde(default)]
    pub items_backed_up: i32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn backup(name: &str, phase: &str, start: &str) -> Backup {
        serde_json::from_value(json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Backup", "metadata": {"name": name},
            "spec": {}, "status": {"phase": phase, "startTimestamp": start},
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_backup_of_a_schedule_is_a_completed_one_unless_asked_otherwise() {
        let mut backups = vec![
            backup("old", "Completed", "2026-01-01T00:00:00Z"),
            backup("new", "Completed", "2026-01-02T00:00:00Z"),
            backup("partial", "PartiallyFailed", "2026-01-03T00:00:00Z"),
            backup("failed", "Failed", "2026-01-04T00:00:00Z"),
            backup("copy", "Copy", "2026-01-05T00:00:00Z"),
        ];
        let name = |backups: &[Backup], partially_failed| {
            let newest = newest_restorable(backups, partially_failed);
            newest.and_then(|backup| backup.metadata.name.clone())
        };
        assert_eq!(name(&backups, false).as_deref(), Some("new"));
        assert_eq!(name(&backups, true).as_deref(), Some("partial"));
        backups[1].metadata.deletion_timestamp =
            Some(Time("2026-01-06T00:00:00Z".parse().unwrap()));
        assert_eq!(name(&backups, false).as_deref(), Some("old"));
        assert_eq!(name(&backups[3..], true), None);
    }
}
