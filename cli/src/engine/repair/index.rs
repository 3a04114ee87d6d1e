//! `ark engine repair index`.

use ark_engine::maintain::{self, RepairIndexReport};
use clap::Args;
use serde_json::json;

use super::super::{EngineExit, Run, values};
use crate::error::Result;

/// Make the index name what is there.
///
/// Packs that no index file names, or that are not as long as it says, are asked what they hold. Nobody else can work on the
/// repository meanwhile. Ends with 1 if there are packs that cannot be read, or index files that cannot be read and may be of
/// another key, which stay.
#[derive(Clone, Debug, Args)]
pub(in crate::engine) struct Index {
    /// Ask all packs what they hold, and believe no index file
    #[arg(long)]
    read_all_packs: bool,
    /// Do nothing, and show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    memory: values::MemoryArgs,
}

pub(super) fn run(run: &Run, args: &Index) -> Result<EngineExit> {
    let repo = run.repo.open_within(run, args.memory)?;
    let report = maintain::repair_index(&repo, args.read_all_packs, args.dry_run, &run.cancel)?;
    if run.repo.json {
        run.json(&json!({
            "message_type": "summary",
            "dry_run": args.dry_run,
            "packs_indexed": report.packs_indexed,
            "packs_missing": report.packs_missing,
            "packs_unreadable": report.packs_unreadable,
            "indexes_unreadable": report.indexes_unreadable,
            "indexes_kept": report.indexes_kept,
            "indexes_removed": report.indexes_removed,
        }))?;
    }
    run.say(&text(&report, args.dry_run))?;
    Ok(
        if report.packs_unreadable.is_empty() && report.indexes_kept == 0 {
            EngineExit::Done
        } else {
            EngineExit::Error
        },
    )
}

fn text(report: &RepairIndexReport, dry_run: bool) -> String {
    if report.is_clean() {
        return "the index names what is there".to_owned();
    }
    let head = dry_run.then(|| "what a repair would do:".to_owned());
    let unreadable = report
        .indexes_unreadable
        .iter()
        .chain(&report.packs_unreadable);
    let numbers = [
        format!("packs read and indexed:        {}", report.packs_indexed),
        format!("packs no longer named:         {}", report.packs_missing),
        format!(
            "packs that cannot be read:     {}",
            report.packs_unreadable.len()
        ),
        format!(
            "index files that cannot be:    {}",
            report.indexes_unreadable.len()
        ),
    ];
    let lines: Vec<String> = head
        .into_iter()
        .chain(unreadable.cloned())
        .chain(numbers)
        .collect();
    lines.join("\n")
}
