//! `ark schedule pause` and `ark schedule unpause`.

use ark_api::Schedule;
use clap::Args;
use kube::ResourceExt;
use serde_json::json;

use super::Context;
use super::output::objects;
use crate::error::Result;
use crate::exit::Exit;

/// Which schedules.
#[derive(Clone, Debug, Args)]
pub(crate) struct Chosen {
    /// Names
    #[arg(required_unless_present_any = ["all", "selector"])]
    names: Vec<String>,
    /// All there are
    #[arg(long, conflicts_with_all = ["names", "selector"])]
    all: bool,
    /// Those with these labels, as for `kubectl -l`
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    selector: Option<String>,
}

/// Have schedules make no more backups until they are unpaused.
#[derive(Clone, Debug, Args)]
pub(crate) struct SchedulePause {
    #[command(flatten)]
    chosen: Chosen,
}

/// Have paused schedules make backups again.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScheduleUnpause {
    #[command(flatten)]
    chosen: Chosen,
    /// Skip the run that became due meanwhile; without it one backup is made at once
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_immediately: Option<bool>,
}

/// Runs `pause`.
pub(crate) async fn pause(context: &Context, args: SchedulePause) -> Result<Exit> {
    set(context, &args.chosen, true, None).await
}

/// Runs `unpause`.
pub(crate) async fn unpause(context: &Context, args: ScheduleUnpause) -> Result<Exit> {
    set(context, &args.chosen, false, args.skip_immediately).await
}

async fn set(context: &Context, chosen: &Chosen, paused: bool, skip: Option<bool>) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let names: &[String] = if chosen.all { &[] } else { &chosen.names };
    let schedules: Vec<Schedule> = objects(&cluster, names, chosen.selector.as_deref()).await?;
    let word = if paused { "paused" } else { "unpaused" };
    if schedules.is_empty() {
        context.printer.note(&format!(
            "There is no Schedule in namespace {}.",
            cluster.namespace()
        ));
    }
    for schedule in schedules {
        let name = schedule.name_any();
        if schedule.spec.paused == paused && skip.is_none() {
            context
                .printer
                .out(&format!("Schedule {name:?} is {word} already.\n"))?;
            continue;
        }
        let mut spec = json!({"paused": paused});
        if let Some(skip) = skip {
            spec["skipImmediately"] = json!(skip);
        }
        cluster
            .patch::<Schedule>(&name, &json!({"spec": spec}))
            .await?;
        context
            .printer
            .out(&format!("Schedule {name:?} is {word}.\n"))?;
    }
    Ok(Exit::Done)
}
