//! `ark engine snapshots`.

use clap::Args;

use super::{EngineExit, Run, open::ReadArgs, select::FilterArgs};
use crate::error::Result;
use crate::print::engine;

/// List snapshots.
#[derive(Clone, Debug, Args)]
pub(super) struct Snapshots {
    /// Ids or beginnings of ids, or latest; all when left out
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub(super) fn run(run: &Run, args: &Snapshots) -> Result<EngineExit> {
    let repo = run.repo.open_to_read(run, args.read)?;
    let filter = args.filter.filter();
    let snapshots = if args.ids.is_empty() {
        let mut snapshots = repo.snapshots()?;
        snapshots.retain(|snapshot| filter.matches(snapshot));
        snapshots
    } else {
        let find = |id: &String| repo.select_snapshot(id, &filter);
        args.ids
            .iter()
            .map(find)
            .collect::<ark_engine::Result<_>>()?
    };
    if run.repo.json {
        let list = snapshots.iter().map(engine::snapshot_json).collect();
        run.json(&serde_json::Value::Array(list))?;
    } else {
        run.printer.out(&engine::snapshots(&snapshots))?;
    }
    Ok(EngineExit::Done)
}
