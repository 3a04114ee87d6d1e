//! Restores on a real API server, with the operator's real program and the chart's roles.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod application;
mod disks;
mod fidelity;
mod gates;
mod lacks;
mod objects;
mod refusals;
mod volumes;
mod words;
mod world;
