//! Putting objects back: in which order, in which form, and what to do about those that exist.
//!
//! [`filter`], [`order`], [`transform`], [`conflict`] and [`volumes`] are pure; [`discover`] and [`run`]
//! talk to the API server.

pub(crate) mod conflict;
pub(crate) mod discover;
pub(crate) mod filter;
pub(crate) mod order;
pub(crate) mod run;
pub(crate) mod transform;
pub(crate) mod volumes;
