//! `ark engine dump`.

use std::path::PathBuf;

use ark_engine::{Progress, browse};
use clap::Args;

use super::{EngineExit, Run, open::ReadArgs, select::FilterArgs};
use crate::error::Result;

/// Write a file of a snapshot to standard output, or a directory as a tar archive.
///
/// Every piece is verified before it is written. Hard links become files of their own, and sockets are left out.
#[derive(Clone, Debug, Args)]
pub(super) struct Dump {
    /// Id or beginning of an id, or latest
    snapshot: String,
    /// Absolute path of a file or directory in the snapshot
    #[arg(value_name = "PATH")]
    file: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub(super) fn run(run: &Run, args: &Dump) -> Result<EngineExit> {
    let repo = run.repo.open_to_read(run, args.read)?;
    let snapshot = repo.select_snapshot(&args.snapshot, &args.filter.filter())?;
    let mut out = run.printer.writer();
    let progress = Progress::new();
    browse::dump(
        &repo,
        &snapshot,
        &args.file,
        &mut out,
        &progress,
        &run.cancel,
    )?;
    Ok(EngineExit::Done)
}
