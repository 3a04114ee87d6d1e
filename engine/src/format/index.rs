//! Index files: which blob lies where in which pack.

use serde::Deserialize;

use super::{Invalid, null_as_default};

/// An index file. `packs_to_delete` is an extension other programs write: those packs may still be
/// read, and are not counted on.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct IndexFile {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) packs: Vec<Pack>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) packs_to_delete: Vec<Pack>,
}

/// One pack of an index file.
#[derive(Debug, Deserialize)]
pub(crate) struct Pack {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) blobs: Vec<Blob>,
}

/// One blob of a pack.
#[derive(Debug, Deserialize)]
pub(crate) struct Blob {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: BlobKind,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) uncompressed_length: Option<u32>,
}

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BlobKind {
    /// Part of a file.
    Data,
    /// A directory.
    Tree,
}

impl IndexFile {
    pub(crate) fn decode(json: &[u8]) -> Result<Self, Invalid> {
        let parsed = if json.first() == Some(&b'[') {
            // The oldest form of the format: a list of packs.
            serde_json::from_slice(json).map(|packs| Self {
                packs,
                packs_to_delete: Vec::new(),
            })
        } else {
            serde_json::from_slice(json)
        };
        parsed.map_err(|error| Invalid(format!("it is no index: {error}")))
    }
}
