//! `ark engine find`.

use ark_engine::browse::{self, EntryKind, FindNames, FindRequest, FindWhat};
use clap::Args;
use jiff::Timestamp;

use super::{EngineExit, Run, open::ReadArgs, select::FilterArgs, values};
use crate::error::Result;
use crate::print::engine::find::Finder;

/// Find entries in all snapshots.
///
/// A pattern is a name with *, ? and [a-z], or several with / between them; ** stands for any number of directories. One that
/// begins with / is held against whole paths, any other against any part of them. What is below a match is found, too.
#[derive(Clone, Debug, Args)]
pub(super) struct Find {
    /// Patterns; ids, or their first 8 digits and more, with --blob, --tree and --pack
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
    /// Only in this snapshot: its id, the beginning of it, or latest; may be given several times
    #[arg(short, long, value_name = "SNAPSHOT")]
    snapshot: Vec<String>,
    /// Upper and lower case are the same
    #[arg(short, long)]
    ignore_case: bool,
    /// Only what was modified at this time or later, as in 2026-01-31 or "2026-01-31 23:59"
    #[arg(short = 'O', long, value_name = "TIME", value_parser = values::time)]
    oldest: Option<Timestamp>,
    /// Only what was modified at this time or before
    #[arg(short = 'N', long, value_name = "TIME", value_parser = values::time)]
    newest: Option<Timestamp>,
    /// Only files (f), directories (d) or symbolic links (l); may be given several times
    #[arg(long = "type", value_name = "KIND", value_parser = kind)]
    kinds: Vec<EntryKind>,
    /// Find files that contain these blobs
    #[arg(long, group = "objects")]
    blob: bool,
    /// Find directories with these ids
    #[arg(long, group = "objects")]
    tree: bool,
    /// Find files and directories with blobs in these packs
    #[arg(long, group = "objects")]
    pack: bool,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Oldest snapshot first
    #[arg(short = 'R', long)]
    reverse: bool,
    #[command(flatten)]
    memory: values::MemoryArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    read: ReadArgs,
}

fn kind(letter: &str) -> std::result::Result<EntryKind, String> {
    match letter {
        "f" => Ok(EntryKind::File),
        "d" => Ok(EntryKind::Dir),
        "l" => Ok(EntryKind::Symlink),
        _ => Err("there are f, d and l".to_owned()),
    }
}

pub(super) fn run(run: &Run, args: &Find) -> Result<EngineExit> {
    let texts = args.patterns.clone();
    let what = if args.blob {
        FindWhat::Blobs(texts)
    } else if args.tree {
        FindWhat::Trees(texts)
    } else if args.pack {
        FindWhat::Packs(texts)
    } else {
        FindWhat::Names(FindNames {
            patterns: texts,
            ignore_case: args.ignore_case,
            oldest: args.oldest,
            newest: args.newest,
            kinds: args.kinds.clone(),
        })
    };
    let request = FindRequest {
        what,
        snapshots: args.snapshot.clone(),
        filter: args.filter.filter(),
        reverse: args.reverse,
        stored: run.repo.json,
        memory: args.memory.bytes(),
    };
    let repo = run.repo.open_to_read(run, args.read)?;
    let mut finder = Finder::new(run.printer, run.repo.json, args.long);
    let report = browse::find(&repo, &request, &run.cancel, &mut |snapshot, found| {
        finder
            .found(snapshot, &found)
            .map_err(|source| ark_engine::Error::Output { source })
    })?;
    finder.finish()?;
    Ok(if report.problems == 0 {
        EngineExit::Done
    } else {
        EngineExit::Error
    })
}
