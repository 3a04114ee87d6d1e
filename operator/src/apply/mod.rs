//! Putting objects back: in which order, in which form, and what to do about those that exist.
//!
//! [`filter`], [`order`], [`transform`], [`conflict`], [`managers`], [`node_ports`] and [`volumes`] are pure;
//! [`discover`], [`run`] and [`wire`] talk to the API server.

pub(crate) mod causes;
pub(crate) mod conflict;
pub(crate) mod discover;
pub(crate) mod filter;
mod managers;
mod node_ports;
pub(crate) mod order;
pub(crate) mod run;
pub(crate) mod transform;
mod tries;
pub(crate) mod volumes;
mod wire;
