//! `ark engine check`.

use clap::Args;
use serde_json::json;

use super::{EngineExit, Run};
use crate::error::Result;

/// Check that a repository is whole.
///
/// Compares packs with the index and reads all directories of all snapshots.
#[derive(Clone, Debug, Args)]
pub(super) struct Check {
    /// Also read and verify all data
    #[arg(long)]
    read_data: bool,
}

pub(super) fn run(run: &Run, args: &Check) -> Result<EngineExit> {
    let repo = run.repo.open(run)?;
    let report = ark_engine::check(&repo, args.read_data, &run.cancel)?;
    for warning in &report.warnings {
        run.printer.warn(warning);
    }
    for error in &report.errors {
        run.printer.note(&format!("error: {error}"));
    }
    if run.repo.json {
        run.json(&json!({
            "message_type": "summary",
            "num_errors": report.errors.len(),
            "num_warnings": report.warnings.len(),
        }))?;
    }
    if report.is_ok() {
        run.say("no errors were found")?;
        return Ok(EngineExit::Done);
    }
    run.say(&format!("{} errors were found", report.errors.len()))?;
    Ok(EngineExit::Error)
}
