//! Repairing what damage has left.

mod index;
mod snapshots;

pub(in crate::maintain) use snapshots::TAG;

pub use index::{RepairIndexReport, repair_index};
pub use snapshots::{
    Loss, LostPath, Mending, RepairSnapshotsReport, RepairSnapshotsRequest, RepairedSnapshot,
    UnreadableSnapshot, repair_snapshots,
};
