//! `ark engine repair snapshots`.

use ark_engine::Progress;
use ark_engine::maintain::{self, Mending, RepairSnapshotsRequest};
use clap::Args;

use super::super::{EngineExit, Run, select::FilterArgs, values};
use crate::error::Result;
use crate::print::engine;

/// Mend snapshots that lack something.
///
/// Of each snapshot that needs what is lost, one is made that does not: files keep the parts that are left, directories that cannot
/// be read become empty, and all else stays as it is. It is marked with the tag "repaired". What is lost is what no index file names:
/// run "repair index" first, and look with --dry-run before anything is changed. A backup of the same files, if there are any left,
/// may bring back what is lost: try that before. Nobody else can work on the repository meanwhile. Ends with 1 if there are snapshots
/// of which nothing is left, and they are not removed.
#[derive(Clone, Debug, Args)]
pub(in crate::engine) struct Snapshots {
    /// Ids or beginnings of ids, or latest; all when left out
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    /// Remove the damaged snapshots, once those that take their place are written; also those of which nothing is left, and,
    /// when all snapshots are meant, damaged snapshot files
    #[arg(long)]
    forget: bool,
    /// Do nothing, and show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    memory: values::MemoryArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

pub(super) fn run(run: &Run, args: &Snapshots) -> Result<EngineExit> {
    let repo = run.repo.open(run)?;
    let snapshots = args.filter.named(&repo, &args.ids)?;
    let request = RepairSnapshotsRequest {
        forget: args.forget,
        // Nothing is known of them that options could choose by.
        unreadable: args.ids.is_empty() && args.filter.filter().is_empty(),
        dry_run: args.dry_run,
        memory: args.memory.bytes(),
        ..RepairSnapshotsRequest::new(snapshots)
    };
    let report = maintain::repair_snapshots(&repo, &request, &Progress::new(), &run.cancel)?;
    if run.repo.json {
        for snapshot in &report.snapshots {
            run.json(&engine::repair::snapshot_json(snapshot))?;
        }
        run.json(&engine::repair::summary_json(&report, args.dry_run))?;
    } else {
        run.say(&engine::repair::text(&report, args.dry_run))?;
    }
    let left = |one: &maintain::RepairedSnapshot| one.mending == Mending::RootLost;
    let stays = report.unreadable.iter().any(|one| !one.removed);
    Ok(
        if stays || (!args.forget && report.snapshots.iter().any(left)) {
            EngineExit::Error
        } else {
            EngineExit::Done
        },
    )
}
