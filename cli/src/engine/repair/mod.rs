//! `ark engine repair`.

mod index;
mod snapshots;

use clap::Subcommand;

use super::{EngineExit, Run};
use crate::error::Result;

/// What can be repaired.
#[derive(Debug, Subcommand)]
pub(super) enum RepairVerb {
    /// Make the index name what is there
    Index(index::Index),
    /// Mend snapshots that lack something
    Snapshots(snapshots::Snapshots),
}

pub(super) fn run(run: &Run, verb: &RepairVerb) -> Result<EngineExit> {
    match verb {
        RepairVerb::Index(args) => index::run(run, args),
        RepairVerb::Snapshots(args) => snapshots::run(run, args),
    }
}
