//! Requests: small objects that ask the operator for something and are deleted afterwards.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A backup to be deleted with its data and its restores.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "DeleteBackupRequest",
    namespaced,
    shortname = "dbr",
    derive = "PartialEq",
    category = "ark",
    status = "DeleteBackupRequestStatus",
    printcolumn(name = "BackupName", type_ = "string", json_path = ".spec.backupName"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Waiting", type_ = "string", json_path = ".status.waitingFor")
)]
pub struct DeleteBackupRequestSpec {
    /// Backup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backup_name: String,
    /// Go on where something cannot be deleted, and delete the Backup object whatever is left; the operator's log and an
    /// event say what that is. A backup whose data is left is found again when its location is read the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// Where a request stands.
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
pub enum RequestPhase {
    /// Not looked at yet.
    #[default]
    New,
    /// Being worked on.
    InProgress,
    /// Done; see the rest of the status.
    Processed,
    /// Refused; the message says why.
    Failed,
}

/// What became of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteBackupRequestStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RequestPhase>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What the deletion waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// When the request was refused; it goes away a day later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_timestamp: Option<Time>,
}

/// An artefact somebody wants to read. Kubernetes decides who may create one; the token it is fetched with proves that the reader is who created it.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "DownloadRequest",
    namespaced,
    shortname = "dreq",
    derive = "PartialEq",
    category = "ark",
    status = "DownloadRequestStatus",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.target.kind"),
    printcolumn(name = "Name", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
pub struct DownloadRequestSpec {
    /// Which artefact.
    #[serde(default)]
    pub target: DownloadTarget,
    /// SHA-256 of the token the artefact is fetched with: 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_hash: Option<String>,
}

/// Which artefact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownloadTarget {
    /// Kind of artefact.
    #[serde(default)]
    pub kind: DownloadKind,
    /// Name of the Backup or Restore.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Kind of artefact, Velero's names.
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
pub enum DownloadKind {
    /// Log of a backup.
    #[default]
    BackupLog,
    /// Tarball of items.
    BackupContents,
    /// Names of all items.
    BackupResourceList,
    /// Errors and warnings.
    BackupResults,
    /// Volume rows.
    BackupVolumeInfos,
    /// `PodVolumeBackup` objects.
    BackupPodVolumeBackups,
    /// Log of a restore.
    RestoreLog,
    /// Errors, warnings and rows.
    RestoreResults,
    /// Names of all items.
    RestoreResourceList,
}

/// How to fetch the artefact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownloadRequestStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RequestPhase>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Path to fetch on the operator's loopback port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Operator pod that hands it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Presigned URL, where the store can make one.
    #[serde(
        rename = "downloadURL",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub download_url: Option<String>,
    /// When the request stops being answered; it is deleted after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<Time>,
}

/// Asks the operator who it is.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "ServerStatusRequest",
    namespaced,
    shortname = "ssr",
    derive = "PartialEq",
    category = "ark",
    status = "ServerStatusRequestStatus",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.serverVersion"
    )
)]
pub struct ServerStatusRequestSpec {}

/// Who the operator is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatusRequestStatus {
    /// Where the request stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RequestPhase>,
    /// When it was answered; it is deleted a minute later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processed_timestamp: Option<Time>,
    /// Version of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
}
