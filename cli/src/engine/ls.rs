//! `ark engine ls`.

use std::io::Write;
use std::path::PathBuf;

use ark_engine::browse;
use clap::Args;

use super::{EngineExit, Run, open::ReadArgs, select::FilterArgs, values};
use crate::error::Result;
use crate::print::engine;

/// List the files in a snapshot.
#[derive(Clone, Debug, Args)]
pub(super) struct Ls {
    /// Id or beginning of an id, or latest
    snapshot: String,
    /// Absolute paths in the snapshot: only what is directly in them; everything when left out
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Also what is below directories in the paths
    #[arg(long)]
    recursive: bool,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    memory: values::MemoryArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub(super) fn run(run: &Run, args: &Ls) -> Result<EngineExit> {
    let repo = run.repo.open_to_read_within(run, args.read, args.memory)?;
    let snapshot = repo.select_snapshot(&args.snapshot, &args.filter.filter())?;
    if run.repo.json {
        run.json(&engine::listing_head(&snapshot))?;
    }
    let (paths, recursive) = if args.paths.is_empty() {
        (vec![PathBuf::from("/")], true)
    } else {
        (args.paths.clone(), args.recursive)
    };
    let mut out = run.printer.writer();
    let mut problems = 0;
    for path in &paths {
        browse::list(
            &repo,
            &snapshot,
            path,
            recursive,
            &run.cancel,
            &mut |entry| {
                if let Some(problem) = &entry.problem {
                    problems += 1;
                    let path = engine::shown(&entry.path);
                    run.printer.note(&format!("error: {path}: {problem}"));
                }
                let line = if run.repo.json {
                    engine::entry_json(&entry).to_string()
                } else if args.long {
                    engine::entry_long(&entry)
                } else {
                    engine::shown(&entry.path)
                };
                writeln!(out, "{line}").map_err(|source| ark_engine::Error::Output { source })
            },
        )?;
    }
    out.flush()?;
    Ok(if problems == 0 {
        EngineExit::Done
    } else {
        EngineExit::Error
    })
}
