//! Schedule: Backups made by the clock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup::BackupSpec;
use crate::duration::Duration;
use crate::origin::Origin;

/// When to make Backups, and what they look like.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ark.heptio.com",
    version = "v1",
    kind = "Schedule",
    namespaced,
    shortname = "sched",
    derive = "PartialEq",
    category = "ark",
    status = "ScheduleStatus",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "LastBackup", type_ = "date", json_path = ".status.lastBackup"),
    printcolumn(name = "NextRun", type_ = "string", json_path = ".status.nextRun"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused")
)]
#[x_kube(validation = Rule::new(crate::origin::RULE).message(crate::origin::IMMUTABLE))]
pub struct ScheduleSpec {
    /// Spec of the Backups it makes.
    #[serde(default)]
    pub template: BackupSpec,
    /// Five-field cron expression, `@daily` and the like, or `@every 6h`; `CRON_TZ=Europe/Berlin` may stand before it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    /// Time zone of the cron expression, by its IANA name (`Europe/Berlin`); UTC when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Over how long after the times of the cron expression this schedule and others are spread: each starts at a
    /// moment of its own within it, which stays the same. 1m when unset, 0 for none; without meaning for `@every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Duration>,
    /// The Backup objects are deleted with the schedule; what is stored of them stays until it expires or is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_owner_references_in_backup: Option<bool>,
    /// Which of its backups are kept beyond their time to live, and when the template names none, instead of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Makes no Backups while true.
    #[serde(default)]
    pub paused: bool,
    /// When a run is due at once because the schedule was just created or is no longer paused, skip that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_immediately: Option<bool>,
    /// Where the object came from, when it was not created here; see [`Origin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Which backups of a schedule are kept: for each number the newest of so many hours, days and so on that have one.
/// A backup that any of them keeps is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// One for each of so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u32>,
    /// One for each of so many days, in the schedule's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u32>,
    /// One for each of so many weeks by ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u32>,
    /// One for each of so many months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u32>,
    /// One for each of so many years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u32>,
}

/// What the retention of a schedule makes of one of its backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// Name of the Backup.
    pub backup: String,
    /// Why it is kept (`daily snapshot`); empty if no rule keeps it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Where a schedule stands.
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
pub enum SchedulePhase {
    /// Not looked at yet.
    #[default]
    New,
    /// It makes Backups.
    Enabled,
    /// The spec makes no sense.
    FailedValidation,
}

/// What a schedule has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<SchedulePhase>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the run was due for which it last made a Backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<Time>,
    /// Name of the Backup it made last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_name: Option<String>,
    /// Name of the newest of its Backups that is Completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_backup: Option<String>,
    /// When that Backup was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// When the next run is due; unset while it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Time>,
    /// How many runs were missed so far: they were due while nothing could run, and are not made up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_runs: Option<i64>,
    /// When the last of the missed runs was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<Time>,
    /// What its retention makes of its backups, the newest first; no more than 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retained: Vec<Retained>,
    /// Since when it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<Time>,
    /// When it last skipped a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_skipped: Option<Time>,
    /// All that is wrong with the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_errors: Vec<String>,
}
