//! Maintenance of a repository.

mod check;

pub use check::{CheckReport, check};
