//! Attempts at a backup or a restore that ended before the work was done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An attempt that ended before the work was done; another one goes on from where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedAttempt {
    /// Its number, from 1.
    pub attempt: i32,
    /// Why it ended, in words.
    pub message: String,
}
