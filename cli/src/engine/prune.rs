//! `ark engine prune`.

use std::time::Duration;

use ark_engine::{
    Progress, Repository,
    maintain::{self, PruneRequest, Unused},
};
use clap::Args;

use super::{EngineExit, Run, values};
use crate::error::Result;
use crate::print::engine::{self, progress::Reporter};

/// Free the space of what no snapshot needs.
///
/// Backups may go on meanwhile; at the end it is alone for a moment, and with --retry-lock waits for that. Before anything
/// is removed, all snapshots are gone through to see that they can do without it.
#[derive(Clone, Debug, Args)]
pub(super) struct Prune {
    /// Do nothing, and show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    how: HowArgs,
}

/// How to prune.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Pruning")]
pub(super) struct HowArgs {
    /// Unused data that may stay: bytes with K, M, G or T, a share of what remains as 5%, or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%", value_parser = values::unused)]
    max_unused: Unused,
    /// The most data to write anew: bytes with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_repack_size: Option<u64>,
    /// Write nothing more anew after this time, as in 30m or 1h; the next prune goes on from there
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    max_time: Option<Duration>,
    /// Write packs anew that are much smaller than usual, even if there are few of them
    #[arg(long)]
    repack_small: bool,
    /// Write packs anew that hold data without compression
    #[arg(long)]
    repack_uncompressed: bool,
    #[command(flatten)]
    memory: values::MemoryArgs,
}

pub(super) fn run(run: &Run, args: &Prune) -> Result<EngineExit> {
    let repo = run.repo.open(run)?;
    prune(run, &repo, &args.how, args.dry_run, Vec::new())?;
    Ok(EngineExit::Done)
}

/// Prunes, and shows what was done. In a dry run the forgotten snapshots, which are still there, do not count.
pub(super) fn prune(
    run: &Run,
    repo: &Repository,
    how: &HowArgs,
    dry_run: bool,
    forgotten: Vec<String>,
) -> Result<()> {
    let request = PruneRequest {
        max_unused: how.max_unused,
        max_repack: how.max_repack_size,
        repack_small: how.repack_small,
        repack_uncompressed: how.repack_uncompressed,
        max_time: how.max_time,
        memory: how.memory.bytes(),
        dry_run,
        assume_forgotten: if dry_run { forgotten } else { Vec::new() },
        ..PruneRequest::default()
    };
    let progress = Progress::new();
    let reporter = Reporter::written(run.printer, run.repo.quiet || run.repo.json, &progress);
    let done = maintain::prune(repo, &request, &progress, &run.cancel);
    reporter.stop();
    let report = done?;
    if run.repo.json {
        run.json(&engine::prune_json(&report, dry_run))?;
    }
    run.say(&engine::prune(&report, dry_run))
}
