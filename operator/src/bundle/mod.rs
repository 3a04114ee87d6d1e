//! Bundles: the tarball of a backup's items.

pub(crate) mod file_name;
pub(crate) mod read;
pub(crate) mod write;
