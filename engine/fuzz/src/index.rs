//! The part of the index that reads no files.

#[path = "../../src/index/compact.rs"]
pub(crate) mod compact;
