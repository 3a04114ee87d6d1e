//! Runs: the long work on a Backup or a Restore, outside the reconcile that decides to start it.
//!
//! - [`registry`]: which runs there are; the one way to start, watch, cancel and count them;
//! - [`stop`]: how a run learns that it is to end;
//! - [`queue`]: whose turn it is (pure);
//! - [`watch`]: tells runs that their object was deleted or is to be cancelled.
//!
//! A run writes each decision before it acts on it, so that the next process finds it: its attempt
//! is counted in the status before the attempt begins. What is kept here is memory only, and is
//! rebuilt by reconciling.

pub(crate) mod attempts;
pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod stop;
pub(crate) mod watch;

pub(crate) use self::registry::{Activity, Registry, Subject};
pub(crate) use self::stop::Stop;
