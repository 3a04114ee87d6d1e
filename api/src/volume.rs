//! Volume rows: what became of every volume of every selected pod, and of every selected claim.
//!
//! No volume is skipped silently: each has exactly one row of one class, with a reason from a fixed
//! list. Rows decide a backup's verdict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of a volume.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum VolumeClass {
    /// All its data is stored.
    Taken,
    /// A snapshot exists, but some of its files could not be read.
    Partial,
    /// It was to be taken and was not.
    Failed,
    /// The user's words exclude it.
    Chosen,
    /// It holds nothing of its own (Secret, ConfigMap, projected, downward API, image).
    NotData,
    /// It holds data that no method covers; in opt-in mode, a claim nobody annotated.
    Unprotected,
}

/// How a volume's data is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum VolumeMethod {
    /// Its files, by the agent of the pod's node.
    Files,
    /// A disk snapshot by its driver.
    DiskSnapshot,
}

/// Why a volume has its class: a fixed list, stable for scripts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum VolumeReason {
    /// All files were stored.
    Completed,
    /// Some files could not be read.
    UnreadableFiles,
    /// The agent reported an error; see the message.
    AgentError,
    /// The volume's deadline passed before the agent finished.
    Timeout,
    /// The volume backup was cancelled.
    Cancelled,
    /// The pod's node has no running agent.
    NoAgentOnNode,
    /// The repository could not be opened or created; see the message.
    RepositoryNotReady,
    /// The pod is not running, so no node has its volumes mounted.
    PodNotRunning,
    /// The annotation names a volume that the pod does not have.
    NoSuchVolume,
    /// The claim is not bound to a volume.
    ClaimNotBound,
    /// The volume is a block device, which the file method cannot read.
    BlockVolume,
    /// The volume is a directory of the node.
    HostPath,
    /// Another pod of this backup has the same claim; its row holds the data.
    TakenThroughOtherPod,
    /// A list of volumes to leave out names it.
    ExcludedByAnnotation,
    /// The claim or its namespace carries the label that excludes it.
    ExcludedByLabel,
    /// The backup's resource filters exclude claims.
    ExcludedByFilter,
    /// The kind of volume holds only what the cluster can give again.
    NoDataOfItsOwn,
    /// Opt-in mode, and no annotation names it.
    NotAnnotated,
    /// No running pod mounts the claim.
    NotMounted,
    /// The pod carries hook annotations, which this version cannot run.
    HooksUnsupported,
}

/// One volume's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRow {
    /// Namespace of the pod or claim.
    pub namespace: String,
    /// Pod; absent for a claim that no pod mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Name of the volume in the pod; absent for a claim that no pod mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Claim behind the volume, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// What became of it.
    pub class: VolumeClass,
    /// How it was, or was to be, taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<VolumeMethod>,
    /// Why it has its class.
    pub reason: VolumeReason,
    /// Details for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `PodVolumeBackup` that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_volume_backup: Option<String>,
    /// Snapshot holding its data: 64 hexadecimal digits.
    #[serde(
        default,
        rename = "snapshotID",
        skip_serializing_if = "Option::is_none"
    )]
    pub snapshot_id: Option<String>,
    /// Bytes of file content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Bytes added to the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_bytes: Option<i64>,
    /// Regular files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,
}

/// Rows counted by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeCounts {
    /// Rows of class taken.
    #[serde(default)]
    pub taken: i32,
    /// Rows of class partial.
    #[serde(default)]
    pub partial: i32,
    /// Rows of class failed.
    #[serde(default)]
    pub failed: i32,
    /// Rows of class chosen.
    #[serde(default)]
    pub chosen: i32,
    /// Rows of class not data.
    #[serde(default)]
    pub not_data: i32,
    /// Rows of class unprotected.
    #[serde(default)]
    pub unprotected: i32,
}

impl VolumeCounts {
    /// Counts `rows`.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a VolumeRow>) -> Self {
        let mut counts = Self::default();
        for row in rows {
            *match row.class {
                VolumeClass::Taken => &mut counts.taken,
                VolumeClass::Partial => &mut counts.partial,
                VolumeClass::Failed => &mut counts.failed,
                VolumeClass::Chosen => &mut counts.chosen,
                VolumeClass::NotData => &mut counts.not_data,
                VolumeClass::Unprotected => &mut counts.unprotected,
            } += 1;
        }
        counts
    }
}

/// One file or directory that could not be read or written, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileError {
    /// Path below the volume's root; bytes that are not UTF-8 are escaped.
    pub path: String,
    /// What was being done.
    pub operation: String,
    /// What went wrong.
    pub message: String,
}
