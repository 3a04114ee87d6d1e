//! `ark engine restore`.

use std::path::PathBuf;

use ark_engine::{Outcome, Progress, RestoreRequest};
use clap::Args;

use super::{EngineExit, Run, open::ReadArgs, select::FilterArgs, values};
use crate::error::{Error, Result};
use crate::print::engine::{self, progress::Reporter};

/// Restore a snapshot into a directory.
///
/// Files that are right already are left alone. What else is in the directory stays, unless --delete is given.
#[derive(Clone, Debug, Args)]
pub(super) struct Restore {
    /// Id or beginning of an id, or latest
    snapshot: String,
    /// The directory; it is made if it is not there
    #[arg(short, long, value_name = "DIRECTORY")]
    target: PathBuf,
    /// Restore only this absolute path in the snapshot, with all below it; may be given several times
    #[arg(short, long, value_name = "PATH")]
    include: Vec<PathBuf>,
    /// Delete what is in restored directories and not in the snapshot. Only where the backup read all of a directory; what lies
    /// beside the backed-up paths, and what its patterns left out, stays
    #[arg(long)]
    delete: bool,
    /// With --delete: take it that the backup read all of each directory, if the snapshot does not say. Those of other programs
    /// do not
    #[arg(long, requires = "delete")]
    unsafe_assume_whole: bool,
    /// With --delete: allow / as the target without --include
    #[arg(long, requires = "delete")]
    unsafe_delete_in_root: bool,
    /// Write zeros instead of leaving holes
    #[arg(long)]
    no_sparse: bool,
    /// Leave owners as they come; they are restored only by root
    #[arg(long)]
    no_owner: bool,
    /// Do nothing, and show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// The most memory to take: bytes with K, M or G; without it what the index needs, 40 bytes for each blob of the
    /// repository, and some 130M
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    memory: Option<u64>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub(super) fn run(run: &Run, args: Restore) -> Result<EngineExit> {
    let repo = run.repo.open_to_read(run, args.read)?;
    let snapshot = repo.select_snapshot(&args.snapshot, &args.filter.filter())?;
    let (target, _stand_in) = target(&args)?;
    let request = RestoreRequest {
        snapshot: snapshot.id.clone(),
        target,
        sparse: !args.no_sparse,
        restore_owner: !args.no_owner && is_root(),
        select: args.include,
        delete_extra: args.delete,
        assume_whole: args.unsafe_assume_whole,
        delete_in_root: args.unsafe_delete_in_root,
        across_mounts: true,
        through_links: true,
        dry_run: args.dry_run,
        ceiling: args.memory,
        ..RestoreRequest::default()
    };
    let progress = Progress::new();
    let reporter = Reporter::moving(run.printer, run.repo.quiet, run.repo.json, &progress);
    let done = ark_engine::restore(&repo, &request, &progress, &run.cancel);
    reporter.stop();
    let report = done?;
    for row in &report.errors {
        engine::row(run.printer, run.repo.json, "restore", row);
    }
    engine::rows_dropped(run.printer, report.errors_dropped);
    if run.repo.json {
        run.json(&engine::restore_json(&report, request.dry_run))?;
    } else {
        for note in &report.notes {
            run.say(&format!("note: {note}"))?;
        }
    }
    run.say(&engine::restore(&report, request.dry_run))?;
    Ok(match report.outcome() {
        Outcome::Complete => EngineExit::Done,
        Outcome::Partial => EngineExit::Error,
    })
}

/// The directory to restore into, which is made if it is not there. A dry run that would make it has an empty one stand in
/// for it, which is removed afterwards.
fn target(args: &Restore) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let failed = |error: std::io::Error| Error::File {
        verb: "create",
        path: args.target.clone(),
        message: error.to_string(),
    };
    if args.dry_run && !args.target.try_exists().map_err(failed)? {
        let stand_in = tempfile::tempdir().map_err(failed)?;
        return Ok((stand_in.path().to_owned(), Some(stand_in)));
    }
    std::fs::create_dir_all(&args.target).map_err(failed)?;
    Ok((args.target.clone(), None))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
