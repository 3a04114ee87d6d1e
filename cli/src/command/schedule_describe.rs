//! `ark schedule describe`.

use ark_api::{Backup, Schedule, label};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;

use super::Context;
use super::backup_describe::DescribeOutput;
use super::output::objects;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::print;
use crate::print::schedule::ScheduleReport;
use crate::print::structured::{self, Form};

/// Show all about schedules.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScheduleDescribe {
    /// Names; all when left out
    names: Vec<String>,
    /// Only schedules with these labels, as for `kubectl -l`
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    selector: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: DescribeOutput,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: ScheduleDescribe) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let schedules: Vec<Schedule> = objects(&cluster, &args.names, args.selector.as_deref()).await?;
    if args.output == DescribeOutput::Json && schedules.len() > 1 {
        return Err(Error::usage("-o json describes one object; give its name"));
    }
    if schedules.is_empty() {
        context.printer.note(&format!(
            "There is no Schedule in namespace {}.",
            cluster.namespace()
        ));
    }
    for (index, mut schedule) in schedules.into_iter().enumerate() {
        let selector = format!(
            "{}={}",
            label::SCHEDULE_NAME,
            label::value(&schedule.name_any())
        );
        schedule.metadata.managed_fields = None;
        let mut backups: Vec<Backup> = cluster.list(&selector).await?;
        for backup in &mut backups {
            backup.metadata.managed_fields = None;
        }
        let report = ScheduleReport { schedule, backups };
        let text = match args.output {
            DescribeOutput::Json => structured::value(&report, Form::Json)?,
            DescribeOutput::Plaintext => {
                let text = print::schedule::describe(&report, Timestamp::now());
                if index == 0 {
                    text
                } else {
                    format!("\n\n{text}")
                }
            }
        };
        context.printer.out(&text)?;
    }
    Ok(Exit::Done)
}
