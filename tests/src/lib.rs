//! Whole-system tests of Ark: what several of them share.
//!
//! - [`node`]: a node that exists only on paper, with a real agent.

pub mod node;
