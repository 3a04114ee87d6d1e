//! Putting objects back: in which order, in which form, and what to do about those that exist.
//!
//! [`order`], [`transform`], [`conflict`] and [`volumes`] are pure; [`run`] talks to the API server.

pub(crate) mod conflict;
pub(crate) mod order;
pub(crate) mod transform;
