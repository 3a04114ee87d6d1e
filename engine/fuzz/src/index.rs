//! The part of the index that reads no files.

#[path = "../../src/index/builder.rs"]
pub(crate) mod builder;
#[path = "../../src/index/compact.rs"]
pub(crate) mod compact;
