//! The data that is backed up: made from seeds, for one run only.

pub(crate) mod files;
pub(crate) mod pages;
pub(crate) mod random;
pub(crate) mod text;
pub(crate) mod tree;
