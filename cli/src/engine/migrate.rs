//! `ark engine migrate`.

use ark_engine::maintain;
use clap::Args;
use serde_json::json;

use super::{EngineExit, Run};
use crate::error::Result;

/// Make a repository of format version 1 one of version 2, which can hold compressed data.
///
/// It is checked first, and must not be damaged. What is there stays as it is; prune --repack-uncompressed compresses it.
/// Programs that know version 1 only cannot open it afterwards.
#[derive(Clone, Debug, Args)]
pub(super) struct Migrate {}

pub(super) fn run(run: &Run, _: &Migrate) -> Result<EngineExit> {
    let repo = run.repo.open(run)?;
    let migrated = maintain::migrate(&repo, &run.cancel)?;
    if run.repo.json {
        run.json(&json!({"message_type": "summary", "migrated": migrated}))?;
    }
    run.say(if migrated {
        "the repository has format version 2 now"
    } else {
        "the repository had format version 2 already"
    })?;
    Ok(EngineExit::Done)
}
