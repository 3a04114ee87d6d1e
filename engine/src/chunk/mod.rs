//! Where files are cut.
//!
//! Does: decide per file how it is cut, and find the cuts. Does not: hash, store or remember
//! anything.

pub(crate) mod fixed;
pub(crate) mod holes;
pub(crate) mod pages;
pub(crate) mod policy;
mod polynomial;
pub(crate) mod rabin;

pub(crate) use polynomial::Polynomial;
