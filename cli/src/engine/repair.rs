//! `ark engine repair`.

use ark_engine::maintain::{self, RepairIndexReport};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{EngineExit, Run};
use crate::error::Result;

/// What can be repaired.
#[derive(Debug, Subcommand)]
pub(super) enum RepairVerb {
    /// Make the index name what is there
    Index(Index),
}

/// Make the index name what is there.
///
/// Packs that no index file names, or that are not as long as it says, are asked what they hold. Nobody else can work on the
/// repository meanwhile. Ends with 1 if there are packs that cannot be read.
#[derive(Clone, Debug, Args)]
pub(super) struct Index {
    /// Ask all packs what they hold, and believe no index file
    #[arg(long)]
    read_all_packs: bool,
    /// Do nothing, and show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(super) fn run(run: &Run, verb: &RepairVerb) -> Result<EngineExit> {
    let RepairVerb::Index(args) = verb;
    let repo = run.repo.open(run)?;
    let report = maintain::repair_index(&repo, args.read_all_packs, args.dry_run, &run.cancel)?;
    if run.repo.json {
        run.json(&json!({
            "message_type": "summary",
            "dry_run": args.dry_run,
            "packs_indexed": report.packs_indexed,
            "packs_missing": report.packs_missing,
            "packs_unreadable": report.packs_unreadable,
            "indexes_unreadable": report.indexes_unreadable,
            "indexes_removed": report.indexes_removed,
        }))?;
    }
    run.say(&text(&report, args.dry_run))?;
    Ok(if report.packs_unreadable.is_empty() {
        EngineExit::Done
    } else {
        EngineExit::Error
    })
}

fn text(report: &RepairIndexReport, dry_run: bool) -> String {
    if report.is_clean() {
        return "the index names what is there".to_owned();
    }
    let mut text = if dry_run {
        "what a repair would do:\n".to_owned()
    } else {
        String::new()
    };
    for why in report
        .indexes_unreadable
        .iter()
        .chain(&report.packs_unreadable)
    {
        text += &format!("{why}\n");
    }
    text += &format!("packs read and indexed:        {}\n", report.packs_indexed);
    text += &format!("packs no longer named:         {}\n", report.packs_missing);
    text += &format!(
        "packs that cannot be read:     {}\n",
        report.packs_unreadable.len()
    );
    text += &format!(
        "index files that cannot be:    {}",
        report.indexes_unreadable.len()
    );
    text
}
