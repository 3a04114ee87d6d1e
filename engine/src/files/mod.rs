//! The local file system, as archive and restore need it: everything relative to open directories,
//! no symbolic link followed, metadata to the nanosecond.

pub(crate) mod beneath;
pub(crate) mod depth;
pub(crate) mod filesystem;
pub(crate) mod meta;
pub(crate) mod xattr;
