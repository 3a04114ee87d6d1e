//! `ark schedule delete`.

use ark_api::Schedule;
use clap::Args;
use kube::ResourceExt;

use super::Context;
use super::confirm::Doomed;
use crate::error::Result;
use crate::exit::Exit;

/// Delete schedules. The backups they made stay.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ark schedule delete daily --confirm
  ark backup delete -l ark.heptio.com/schedule-name=daily --confirm   # and the backups it made")]
pub(crate) struct ScheduleDelete {
    #[command(flatten)]
    doomed: Doomed,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: ScheduleDelete) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let consequence = "The backups they made stay.";
    let schedules: Vec<Schedule> = args.doomed.objects(context, &cluster, consequence).await?;
    for schedule in schedules {
        let name = schedule.name_any();
        cluster.delete::<Schedule>(&name).await?;
        context
            .printer
            .out(&format!("Schedule {name:?} deleted.\n"))?;
    }
    Ok(Exit::Done)
}
