//! Maintenance of a repository.

mod check;
mod forget;
mod prune;

pub use check::{CheckReport, check};
pub use forget::{
    Forget, ForgetGroup, ForgetReport, forget,
    group::{GroupBy, GroupKey},
    policy::{Counts, Decision, Keep, KeepPolicy, Kept},
    span::CalendarSpan,
};
pub use prune::{PruneReport, PruneRequest, Unused, prune};
