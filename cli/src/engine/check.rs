//! `ark engine check`.

use ark_engine::{
    Progress,
    maintain::{self, CHECK_MEMORY, CheckRequest, DataShare, Severity},
};
use clap::Args;

use super::{EngineExit, Run, open::ReadArgs, values};
use crate::error::{Error, Result};
use crate::print::engine::{self, progress::Reporter};

/// Least memory a check is given.
const LEAST_MEMORY: u64 = 96 << 20;

/// Check that a repository is whole.
///
/// Compares packs with the index, goes through all directories of all snapshots, and reads as much of the data as is asked
/// for. Says what each damage affects, and what to do.
#[derive(Clone, Debug, Args)]
pub(super) struct Check {
    /// Also read and verify all data
    #[arg(long, conflicts_with_all = ["read_data_subset", "read_data_rotate"])]
    read_data: bool,
    /// Also read and verify a part of the data: n/t for the nth of t parts (at most 256), a share as 2.5%, or about so many
    /// bytes with K, M, G or T; shares and bytes are chosen anew each time
    #[arg(long, value_name = "SUBSET", value_parser = values::data_share, conflicts_with = "read_data_rotate")]
    read_data_subset: Option<DataShare>,
    /// Also read and verify one of N parts of the data, another one each day (by UTC): who checks daily has read all after N days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    read_data_rotate: Option<u32>,
    /// The most memory to take: bytes with K, M or G
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    memory: Option<u64>,
    #[command(flatten)]
    read: ReadArgs,
}

impl Check {
    fn request(&self) -> Result<CheckRequest> {
        let data = match (self.read_data, self.read_data_subset, self.read_data_rotate) {
            (true, ..) => DataShare::All,
            (_, Some(share), _) => share,
            (.., Some(of)) => DataShare::Rotating {
                of,
                turn: DataShare::day(),
            },
            _ => DataShare::None,
        };
        let memory = self.memory.unwrap_or(CHECK_MEMORY);
        if memory < LEAST_MEMORY {
            return Err(Error::usage(format!(
                "--memory must be at least {}",
                engine::bytes(LEAST_MEMORY)
            )));
        }
        Ok(CheckRequest { data, memory })
    }
}

pub(super) fn run(run: &Run, args: &Check) -> Result<EngineExit> {
    let request = args.request()?;
    let repo = run.repo.open_to_read(run, args.read)?;
    let progress = Progress::new();
    let quiet = run.repo.quiet || run.repo.json;
    let reporter = Reporter::checking(run.printer, quiet, &progress);
    let done = maintain::check_with(&repo, &request, &progress, &run.cancel);
    reporter.stop();
    let report = done?;
    for finding in &report.findings {
        if run.repo.json {
            run.json(&engine::finding_json(finding))?;
        } else if finding.severity() == Severity::Damage {
            run.printer.note(&engine::finding(finding));
        } else if !run.repo.quiet {
            run.printer.warn(&engine::finding(finding));
        }
    }
    if run.repo.json {
        run.json(&engine::check_json(&report))?;
    }
    run.say(&engine::check(&report))?;
    Ok(if report.is_ok() {
        EngineExit::Done
    } else {
        EngineExit::Error
    })
}
