//! ResticRepository: one repository per location and namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::maintenance::{MaintenanceRun, Verification};
use crate::origin::Origin;

/// One restic repository: the volumes of one namespace at one location.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "ResticRepository",
    namespaced,
    shortname = "repo",
    derive = "PartialEq",
    category = "ark",
    status = "ResticRepositoryStatus",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Namespace",
        type_ = "string",
        json_path = ".spec.volumeNamespace"
    ),
    printcolumn(
        name = "Location",
        type_ = "string",
        json_path = ".spec.backupStorageLocation"
    ),
    printcolumn(
        name = "Last Maintenance",
        type_ = "date",
        json_path = ".status.lastMaintenanceTime"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new(crate::origin::RULE).message(crate::origin::IMMUTABLE))]
pub struct ResticRepositorySpec {
    /// Namespace whose volumes it holds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub volume_namespace: String,
    /// Location it lies at.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backup_storage_location: String,
    /// The repository as `restic -r` wants it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restic_identifier: Option<String>,
    /// It is only opened: neither it nor a key for it is ever made. Restores and sync set this; the first backup of
    /// the namespace to this location removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_only: Option<bool>,
    /// How often it is maintained, instead of the installation's setting: at least one minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_frequency: Option<Duration>,
    /// Where the object came from, when it was not created here; see [`Origin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Whether a repository can be used.
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
pub enum RepositoryPhase {
    /// Not looked at yet.
    #[default]
    New,
    /// It can be opened.
    Ready,
    /// It cannot; the message says why.
    NotReady,
}

/// Whether a repository can be used, and why not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticRepositoryStatus {
    /// Whether it can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RepositoryPhase>,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Conditions; types and reasons in [`crate::condition`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The id in its configuration: 64 hexadecimal digits. Should it ever change, somebody replaced the repository.
    #[serde(
        rename = "repositoryID",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub repository_id: Option<String>,
    /// Version of restic's repository format, 1 or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format_version: Option<i32>,
    /// When it was last maintained with success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_maintenance_time: Option<Time>,
    /// The last runs of maintenance, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_maintenance: Vec<MaintenanceRun>,
    /// The last request for maintenance out of turn that was carried out:
    /// the value of the annotation `ark.heptio.com/maintenance-request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_request: Option<String>,
    /// Bytes of data in the repository after the last maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<i64>,
    /// Bytes of it that no snapshot needs and that the last maintenance left where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaimable_bytes: Option<i64>,
    /// What the last check read and found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// When it was last opened successfully.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checked_time: Option<Time>,
}
