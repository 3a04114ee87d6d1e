//! `ark engine unlock`.

use clap::Args;
use serde_json::json;

use super::{EngineExit, Run};
use crate::error::Result;

/// Remove locks whose holders are gone.
///
/// A lock goes that was not refreshed for half an hour, by the clock of the store, or whose process on this machine has
/// ended since the machine was started.
#[derive(Clone, Debug, Args)]
pub(super) struct Unlock {
    /// Remove all locks. Only for who knows that nobody works on the repository: data can be lost otherwise
    #[arg(long)]
    remove_all: bool,
}

pub(super) fn run(run: &Run, args: &Unlock) -> Result<EngineExit> {
    let repo = run.repo.open(run)?;
    let removed = repo.unlock(args.remove_all, &run.cancel)?;
    if run.repo.json {
        run.json(&json!({"message_type": "summary", "locks_removed": removed}))?;
    }
    run.say(&match removed {
        0 => "there were no locks to remove".to_owned(),
        1 => "removed 1 lock".to_owned(),
        more => format!("removed {more} locks"),
    })?;
    Ok(EngineExit::Done)
}
