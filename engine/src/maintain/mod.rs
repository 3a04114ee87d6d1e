//! Maintenance of a repository.

mod check;
mod forget;
mod prune;

pub use check::{
    AffectedPath, CheckReport, CheckRequest, DataShare, Finding, MEMORY as CHECK_MEMORY, Object,
    Problem, Severity, check, check_with,
};
pub use forget::{
    CalendarSpan, Counts, Decision, Forget, ForgetGroup, ForgetReport, GroupBy, GroupKey, Keep,
    KeepPolicy, Kept, apply_policy, forget,
};
pub use prune::{PruneReport, PruneRequest, Unused, prune};
