//! `ark engine dump`.

use std::path::PathBuf;

use ark_engine::{Progress, browse};
use clap::Args;

use super::{EngineExit, Run, open::ReadArgs, select::FilterArgs, values};
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
    /// Only what is in the file from this byte on; what is beyond its end is not there
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    offset: Option<u64>,
    /// At most so many bytes of the file
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    length: Option<u64>,
    #[command(flatten)]
    memory: values::MemoryArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub(super) fn run(run: &Run, args: &Dump) -> Result<EngineExit> {
    let repo = run.repo.open_to_read_within(run, args.read, args.memory)?;
    let snapshot = repo.select_snapshot(&args.snapshot, &args.filter.filter())?;
    let mut out = run.printer.writer();
    let progress = Progress::new();
    if args.offset.is_some() || args.length.is_some() {
        let range = (args.offset.unwrap_or(0), args.length.unwrap_or(u64::MAX));
        browse::dump_range(
            &repo,
            &snapshot,
            &args.file,
            range,
            &mut out,
            &progress,
            &run.cancel,
        )?;
        return Ok(EngineExit::Done);
    }
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
