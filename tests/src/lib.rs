//! Whole-system tests of Ark: what several of them share.
//!
//! - [`ark`]: an installation with a real operator.
//! - [`node`]: a node that exists only on paper, with a real agent.
//! - [`restic`]: stock restic on a repository that Ark made.
//! - [`trial`]: an application on the real cluster.

pub mod ark;
pub mod node;
pub mod restic;
pub mod trial;
