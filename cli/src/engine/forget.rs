//! `ark engine forget`.

use ark_engine::maintain::{self, CalendarSpan, Counts, Forget as What, GroupBy, Keep, KeepPolicy};
use clap::Args;
use serde_json::Value;

use super::{EngineExit, Run, prune, select::FilterArgs, values};
use crate::error::{Error, Result};
use crate::print::engine;

/// Remove snapshots, by rules or by their ids.
///
/// Snapshots are divided into groups, and the rules decide in each group on its own; a snapshot stays if any rule
/// keeps it. The space is freed by prune.
#[derive(Clone, Debug, Args)]
pub(super) struct Forget {
    /// Ids or beginnings of ids of snapshots to remove, whatever the rules say
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// How snapshots are grouped: host, paths, tags, separated by commas, or nothing
    #[arg(short, long, value_name = "GROUP", default_value = "host,paths")]
    group_by: String,
    /// Allow that all snapshots of a group are removed
    #[arg(long)]
    unsafe_allow_remove_all: bool,
    /// Do nothing, and show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Free the space as well, if snapshots were removed
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    how: prune::HowArgs,
}

/// The rules.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rules")]
#[expect(clippy::struct_field_names, reason = "they are the options' names")]
struct KeepArgs {
    /// Keep the last N snapshots (a number, or unlimited)
    #[arg(short = 'l', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = values::keep)]
    keep_last: Keep,
    /// Keep the last snapshot of each of the last N hours that have one
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = values::keep)]
    keep_hourly: Keep,
    /// The same for days
    #[arg(short = 'd', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = values::keep)]
    keep_daily: Keep,
    /// The same for weeks
    #[arg(short = 'w', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = values::keep)]
    keep_weekly: Keep,
    /// The same for months
    #[arg(short = 'm', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = values::keep)]
    keep_monthly: Keep,
    /// The same for years
    #[arg(short = 'y', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = values::keep)]
    keep_yearly: Keep,
    /// Keep all that are no more than this older than the newest, as in 1y5m7d2h
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "",
        hide_default_value = true
    )]
    keep_within: CalendarSpan,
    /// Keep the last of each hour within this time
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "",
        hide_default_value = true
    )]
    keep_within_hourly: CalendarSpan,
    /// The same for days
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "",
        hide_default_value = true
    )]
    keep_within_daily: CalendarSpan,
    /// The same for weeks
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "",
        hide_default_value = true
    )]
    keep_within_weekly: CalendarSpan,
    /// The same for months
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "",
        hide_default_value = true
    )]
    keep_within_monthly: CalendarSpan,
    /// The same for years
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "",
        hide_default_value = true
    )]
    keep_within_yearly: CalendarSpan,
    /// Keep all with all these tags; may be given several times for alternatives
    #[arg(long, value_name = "TAG,...")]
    keep_tag: Vec<String>,
}

impl KeepArgs {
    fn policy(&self) -> KeepPolicy {
        KeepPolicy {
            counts: Counts {
                last: self.keep_last,
                hourly: self.keep_hourly,
                daily: self.keep_daily,
                weekly: self.keep_weekly,
                monthly: self.keep_monthly,
                yearly: self.keep_yearly,
            },
            within: self.keep_within,
            within_hourly: self.keep_within_hourly,
            within_daily: self.keep_within_daily,
            within_weekly: self.keep_within_weekly,
            within_monthly: self.keep_within_monthly,
            within_yearly: self.keep_within_yearly,
            tags: values::tag_lists(&self.keep_tag),
        }
    }
}

pub(super) fn run(run: &Run, args: Forget) -> Result<EngineExit> {
    let group_by: GroupBy = args.group_by.parse()?;
    let policy = args.keep.policy();
    let what = match (args.ids.is_empty(), policy.is_empty()) {
        (false, true) => What::Ids(args.ids),
        (false, false) => {
            return Err(Error::usage(
                "snapshots to remove and rules for what to keep cannot be given together",
            ));
        }
        // Rules without effect, like --keep-last 0, are none.
        (true, true) => {
            return Err(Error::State {
                message: "no rule says what to keep; nothing was removed".to_owned(),
                hint: "give rules as --keep-daily 7, or ids of snapshots to remove".to_owned(),
            });
        }
        (true, false) => What::Policy {
            policy: Box::new(policy),
            group_by,
            filter: args.filter.filter(),
            allow_remove_all: args.unsafe_allow_remove_all,
        },
    };
    let repo = run.repo.open(run)?;
    let report = maintain::forget(&repo, &what, args.dry_run, &run.cancel)?;
    if run.repo.json {
        let groups = report.groups.iter().map(engine::forget_json).collect();
        run.json(&Value::Array(groups))?;
    }
    run.say(&engine::forget(&report, args.dry_run))?;
    if args.prune && !(report.removed.is_empty() && report.removed_unreadable.is_empty()) {
        let ids = report.removed.iter().map(|snapshot| snapshot.id.clone());
        prune::prune(run, &repo, &args.how, args.dry_run, ids.collect())?;
    }
    Ok(EngineExit::Done)
}
