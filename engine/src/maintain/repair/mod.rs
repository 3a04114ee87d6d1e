//! Repairing what damage has left.

mod index;

pub use index::{RepairIndexReport, repair_index};
