//! Maintenance of a repository.

mod check;
mod forget;
mod packing;
mod prune;

pub use check::{CheckReport, check};
pub use forget::{
    CalendarSpan, Counts, Decision, Forget, ForgetGroup, ForgetReport, GroupBy, GroupKey, Keep,
    KeepPolicy, Kept, apply_policy, forget,
};
pub use prune::{PruneReport, PruneRequest, Unused, prune};
