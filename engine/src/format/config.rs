//! The configuration file of a repository: version, id, chunker polynomial.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// What this engine needs of the configuration. Fields of other programs are kept.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) chunker_polynomial: String,
    /// Fields of other programs.
    #[serde(flatten)]
    pub(crate) others: serde_json::Map<String, serde_json::Value>,
}

impl Config {
    pub(crate) fn decode(json: &[u8]) -> Result<Self, Invalid> {
        serde_json::from_slice(json)
            .map_err(|error| Invalid(format!("it is no configuration: {error}")))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Invalid> {
        serde_json::to_vec(self).map_err(Invalid::new)
    }
}
