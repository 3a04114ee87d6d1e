//! What maintenance of a repository did and found: parts of a `ResticRepository`'s status, written by the
//! maintenance Job, and the request that asks for it out of turn.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many runs of maintenance a status remembers, the newest last.
pub const REMEMBERED_RUNS: usize = 3;
/// How many findings of a check a status holds.
pub const SHOWN_FINDINGS: usize = 10;
/// How many affected backups a status names.
pub const SHOWN_BACKUPS: usize = 50;

/// How a run of maintenance ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MaintenanceResult {
    /// All that was wanted was done.
    Succeeded,
    /// Something was not done; the message says what and why.
    #[default]
    Failed,
}

/// One run of maintenance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceRun {
    /// Name of its Job.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// When work on this repository began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_timestamp: Option<Time>,
    /// How it ended.
    #[serde(default)]
    pub result: MaintenanceResult,
    /// What was not done and why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Bytes that a prune gave back to the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_bytes: Option<i64>,
}

/// What the last check of a repository read and found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// When its structure was last checked to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// How many checks have read a share of the data. Consecutive turns read different shares.
    #[serde(default)]
    pub turn: i64,
    /// Into how many shares the data was divided at the last turn: so many turns read all of it.
    #[serde(default)]
    pub shares: i32,
    /// When a check last read all data, or the last share of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_read_time: Option<Time>,
    /// Bytes of data that the last check read.
    #[serde(default)]
    pub read_bytes: i64,
    /// How many defects it found. 0 means that the repository is whole as far as it was read.
    #[serde(default)]
    pub defects: i64,
    /// The first of them, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// Backups with a volume that cannot be restored whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected_backups: Vec<String>,
}

/// What a request for maintenance out of turn asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What is due anyway: a prune, and a check of the structure and of the next share of the data.
    Maintenance,
    /// A check of the structure and of all data, without a prune.
    FullCheck,
}

impl Wanted {
    /// The first word of the request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "prune",
            Self::FullCheck => "check",
        }
    }

    /// The value of [`crate::annotation::MAINTENANCE_REQUEST`] that asks for it; `token` makes the request
    /// different from earlier ones.
    pub fn request(self, token: &str) -> String {
        format!("{}:{token}", self.as_str())
    }

    /// What a request asks for. A value that is neither of the two forms asks for maintenance, because
    /// whoever wrote the annotation wants some.
    pub fn of_request(value: &str) -> Self {
        match value.split(':').next() {
            Some("check") => Self::FullCheck,
            _ => Self::Maintenance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_is_wanted() {
        for wanted in [Wanted::Maintenance, Wanted::FullCheck] {
            assert_eq!(Wanted::of_request(&wanted.request("17")), wanted);
        }
        assert_eq!(Wanted::of_request("now"), Wanted::Maintenance);
    }
}
