//! Bundles: the tarball of a backup's items.

pub(crate) mod read;
pub(crate) mod write;
