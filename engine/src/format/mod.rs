//! The repository format: documents as bytes, nothing else.
//!
//! Does: encode and decode keys, configuration, locks, snapshots, indexes and trees. Does not: do
//! I/O or decide anything. Every decoder is bounded by a limit, returns an error on any input it
//! does not understand, and never panics.

pub(crate) mod compressed;
pub(crate) mod config;
pub(crate) mod hexid;
pub(crate) mod index;
pub(crate) mod key;
pub(crate) mod lock;
pub(crate) mod name;
pub(crate) mod node;
pub(crate) mod nodes;
pub(crate) mod pack;
pub(crate) mod root;
mod scan;
pub(crate) mod snapshot;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod tree;
pub(crate) mod unpacked;

/// Why bytes are not a valid document. The text names no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Invalid(pub(crate) String);

impl Invalid {
    pub(crate) fn new(message: impl std::fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// Lets a list be absent or `null`, as Go writes an empty one.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
