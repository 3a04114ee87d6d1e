//! Restores on a real API server, with the operator's real program and the chart's roles.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod application;
mod fidelity;
mod objects;
mod refusals;
mod volumes;
mod words;
mod world;
