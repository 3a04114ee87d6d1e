//! Maintenance of a repository.

mod check;
mod copy;
mod forget;
mod lists;
mod migrate;
mod packing;
mod prune;
mod repair;
mod same;
mod unfinished;

pub use check::{
    AffectedPath, CheckReport, CheckRequest, DataShare, Finding, MEMORY as CHECK_MEMORY, Object,
    Problem, Severity, check, check_with,
};
pub use copy::{CopiedSnapshot, CopyReport, CopyRequest, copy};
pub use forget::{
    CalendarSpan, Counts, Decision, Forget, ForgetGroup, ForgetReport, GroupBy, GroupKey, Keep,
    KeepPolicy, Kept, apply_policy, forget,
};
pub use migrate::migrate;
pub use prune::{PruneReport, PruneRequest, STRAYS_OLDER_THAN, Unused, prune};
pub use repair::{
    Loss, LostPath, Mending, RepairIndexReport, RepairSnapshotsReport, RepairSnapshotsRequest,
    RepairedSnapshot, UnreadableSnapshot, repair_index, repair_snapshots,
};
