//! Lock files: who works on the repository, and whether alone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Invalid, null_as_default, time};

/// A lock as stored.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) time: String,
    #[serde(default)]
    pub(crate) exclusive: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) hostname: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) pid: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) gid: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Lock {
    pub(crate) fn decode(json: &[u8]) -> Result<Self, Invalid> {
        serde_json::from_slice(json).map_err(|error| Invalid(format!("it is no lock: {error}")))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Invalid> {
        serde_json::to_vec(self).map_err(Invalid::new)
    }

    pub(crate) fn at(mut self, now: Timestamp) -> Self {
        self.time = time::format(now);
        self
    }

    /// `user@host (pid)`, with control characters escaped.
    pub(crate) fn holder(&self) -> String {
        format!(
            "{}@{} (pid {})",
            self.username.escape_debug(),
            self.hostname.escape_debug(),
            self.pid
        )
    }
}
