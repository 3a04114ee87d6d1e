//! `ark engine diff`.

use std::path::PathBuf;

use ark_engine::browse::{self, Compared, DiffRequest};
use ark_engine::{Repository, Snapshot, SnapshotFilter};
use clap::Args;

use super::{EngineExit, Run, open::ReadArgs, values};
use crate::error::Result;
use crate::print::engine::{self, diff::Differences};

/// Show what changed from one snapshot to another.
///
/// Each line begins with what happened to the path: + it is new; - it is gone; M its content is another; M? its content is another and
/// nothing else is, as when it was damaged where it lay; T it is of another kind; U only its metadata are others. A directory in a
/// snapshot is compared with ID:/path.
#[derive(Clone, Debug, Args)]
pub(super) struct Diff {
    /// The older one: its id, the beginning of it, or latest, perhaps with :/path
    #[arg(value_name = "SNAPSHOT")]
    before: String,
    /// The newer one
    #[arg(value_name = "SNAPSHOT")]
    after: String,
    /// Show also what has other metadata only
    #[arg(long)]
    metadata: bool,
    #[command(flatten)]
    memory: values::MemoryArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub(super) fn run(run: &Run, args: &Diff) -> Result<EngineExit> {
    let repo = run.repo.open_to_read(run, args.read)?;
    let request = DiffRequest {
        before: one(&repo, &args.before)?,
        after: one(&repo, &args.after)?,
        metadata: args.metadata,
        memory: args.memory.bytes(),
    };
    let mut out = Differences::new(run.printer, run.repo.json, run.repo.quiet);
    out.begin(&request.before.0, &request.after.0)?;
    let report = browse::diff(&repo, &request, &run.cancel, &mut |compared| {
        if let Compared::Problem { path, message } = &compared {
            let path = engine::shown(path);
            run.printer.note(&format!("error: {path}: {message}"));
            return Ok(());
        }
        out.changed(&compared)
            .map_err(|source| ark_engine::Error::Output { source })
    })?;
    out.finish((&args.before, &args.after), &report)?;
    Ok(if report.problems == 0 {
        EngineExit::Done
    } else {
        EngineExit::Error
    })
}

/// A snapshot, and a directory in it.
fn one(repo: &Repository, name: &str) -> Result<(Snapshot, PathBuf)> {
    let (id, path) = name.split_once(':').unwrap_or((name, ""));
    let snapshot = repo.select_snapshot(id, &SnapshotFilter::default())?;
    let path = format!("/{}", path.trim_start_matches('/'));
    Ok((snapshot, path.into()))
}
