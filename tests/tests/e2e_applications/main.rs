//! Applications of the kinds people run, on a real node: each is backed up, lost, restored, and
//! then used: its controllers have synced, a rollout and its undo work, its data is as it was.
//!
//! All scenarios share one cluster and one installation of Ark, and run beside each other: most of
//! their time is waiting for controllers. Each has namespaces of its own and removes them before it
//! starts, so a cluster that an earlier run left can be used again.

mod controllers;
mod limits;
mod trial;
mod volumes;
