//! `ark engine stats`.

use ark_engine::maintain::GroupBy;
use ark_engine::stats::{self, StatsMode, StatsRequest};
use clap::{Args, ValueEnum};

use super::{EngineExit, Run, open::ReadArgs, select::FilterArgs, values};
use crate::error::Result;
use crate::print::engine::stats as print;

/// Show how much is stored, for which volume and snapshot, and what forgetting would free.
///
/// With --mode, count as restic does instead.
#[derive(Clone, Debug, Args)]
pub(super) struct Stats {
    /// Ids or beginnings of ids, or latest; all when left out
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    /// Count in one of restic's modes
    #[arg(long, value_name = "MODE", value_enum)]
    mode: Option<Mode>,
    /// What makes a volume: host, paths, tags, separated by commas, or nothing
    #[arg(short, long, value_name = "GROUP", default_value = "host,paths")]
    group_by: GroupBy,
    #[command(flatten)]
    memory: values::MemoryArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// What restoring each snapshot would make
    RestoreSize,
    /// Files that differ in content
    FilesByContents,
    /// Blobs of files that differ in content, by path
    BlobsPerFile,
    /// Blobs in the repository
    RawData,
}

impl Mode {
    fn engine(self) -> StatsMode {
        match self {
            Self::RestoreSize => StatsMode::RestoreSize,
            Self::FilesByContents => StatsMode::FilesByContents,
            Self::BlobsPerFile => StatsMode::BlobsPerFile,
            Self::RawData => StatsMode::RawData,
        }
    }
}

pub(super) fn run(run: &Run, args: &Stats) -> Result<EngineExit> {
    let repo = run.repo.open_to_read(run, args.read)?;
    let request = StatsRequest {
        snapshots: args.ids.clone(),
        filter: args.filter.filter(),
        memory: args.memory.bytes(),
    };
    let (problems, dropped) = if let Some(mode) = args.mode {
        let totals = stats::count(&repo, &request, mode.engine(), &run.cancel)?;
        if run.repo.json {
            run.json(&print::totals_json(&totals))?;
        } else {
            run.printer.out(&print::totals(&totals))?;
        }
        (totals.problems, totals.problems_dropped)
    } else {
        let report = stats::stats(&repo, &request, args.group_by, &run.cancel)?;
        if run.repo.json {
            run.json(&print::report_json(&report))?;
        } else {
            run.printer.out(&print::report(&report))?;
        }
        (report.problems, report.problems_dropped)
    };
    print::problems(run.printer, &problems, dropped);
    Ok(if problems.is_empty() {
        EngineExit::Done
    } else {
        EngineExit::Error
    })
}
