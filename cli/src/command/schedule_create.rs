//! `ark schedule create`.

use ark_api::Schedule;
use ark_api::cron::Cron;
use ark_api::duration::Duration;
use ark_api::schedule::{Retention, ScheduleSpec};
use clap::Args;
use kube::ResourceExt;

use super::Context;
use super::backup_create::BackupOptions;
use super::filters::Pairs;
use super::output::{Output, checked_name};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::print::structured;

/// Create a schedule, which makes backups by the clock.
#[derive(Clone, Debug, Args)]
#[command(after_help = "When backups are made (--schedule):
  minute hour day-of-month month day-of-week, for example:
    0 1 * * *       every day at 01:00
    */15 * * * *    every quarter of an hour
    30 2 * * mon    on Mondays at 02:30
  @hourly, @daily, @weekly, @monthly, @yearly
  @every 6h         six hours after the one before

Examples:
  ark schedule create daily --schedule=\"0 1 * * *\" --timezone Europe/Berlin
  ark schedule create shop --schedule=@daily --include-namespaces shop --ttl 168h")]
pub(crate) struct ScheduleCreate {
    /// Name of the schedule
    name: String,
    /// When backups are made: a cron expression, @daily and the like, or @every DURATION
    #[arg(long, value_name = "CRON")]
    schedule: String,
    /// Time zone of the cron expression, for example Europe/Berlin; UTC when left out
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Over how long after its times this schedule and others are spread; 1m when left out
    #[arg(long, value_name = "DURATION")]
    spread: Option<Duration>,
    /// Make none until `ark schedule unpause`
    #[arg(long)]
    paused: bool,
    /// Skip a run that is due at once
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_immediately: Option<bool>,
    /// Delete the Backup objects with the schedule
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_owner_references_in_backup: Option<bool>,
    #[command(flatten)]
    keep: KeepOptions,
    /// Labels of the schedule and of its backups
    #[arg(long, value_name = "KEY=VALUE,...")]
    labels: Option<Pairs>,
    /// Annotations of the schedule and of its backups
    #[arg(long, value_name = "KEY=VALUE,...")]
    annotations: Option<Pairs>,
    /// Print the object in this form and create nothing (table: create it)
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    options: BackupOptions,
}

/// Which backups are kept beyond their time to live.
#[derive(Clone, Copy, Debug, Args)]
#[expect(
    clippy::struct_field_names,
    reason = "the names of the fields are those of the options"
)]
#[command(next_help_heading = "What to keep beyond --ttl")]
pub(crate) struct KeepOptions {
    /// Keep the newest so many backups
    #[arg(long, value_name = "NUMBER")]
    keep_last: Option<u32>,
    /// Keep one backup for each of so many hours
    #[arg(long, value_name = "NUMBER")]
    keep_hourly: Option<u32>,
    /// Keep one backup for each of so many days
    #[arg(long, value_name = "NUMBER")]
    keep_daily: Option<u32>,
    /// Keep one backup for each of so many weeks
    #[arg(long, value_name = "NUMBER")]
    keep_weekly: Option<u32>,
    /// Keep one backup for each of so many months
    #[arg(long, value_name = "NUMBER")]
    keep_monthly: Option<u32>,
    /// Keep one backup for each of so many years
    #[arg(long, value_name = "NUMBER")]
    keep_yearly: Option<u32>,
}

impl KeepOptions {
    /// The rules, if there are any.
    fn retention(self) -> Option<Retention> {
        let Self {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
        } = self;
        let rules = Retention {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
        };
        (rules != Retention::default()).then_some(rules)
    }
}

impl ScheduleCreate {
    /// The object.
    pub(crate) fn object(self) -> Schedule {
        let Self {
            name,
            schedule,
            timezone,
            spread,
            paused,
            skip_immediately,
            use_owner_references_in_backup,
            keep,
            labels,
            annotations,
            output: _,
            options,
        } = self;
        let mut object = Schedule::new(
            &name,
            ScheduleSpec {
                template: options.spec(),
                schedule,
                timezone,
                spread,
                paused,
                skip_immediately,
                use_owner_references_in_backup,
                retention: keep.retention(),
                ..ScheduleSpec::default()
            },
        );
        if let Some(labels) = labels {
            object.labels_mut().extend(labels.0);
        }
        if let Some(annotations) = annotations {
            object.annotations_mut().extend(annotations.0);
        }
        object
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: ScheduleCreate) -> Result<Exit> {
    checked_name(&args.name)?;
    let output = args.output;
    let mut schedule = args.object();
    Cron::parse(&schedule.spec.schedule, schedule.spec.timezone.as_deref())
        .map_err(|error| Error::usage(error.to_string()))?;
    schedule.metadata.namespace = Some(context.globals.namespace.clone());
    if let Some(form) = output.form() {
        context.printer.out(&structured::object(&schedule, form)?)?;
        return Ok(Exit::Done);
    }
    let cluster = context.cluster().await?;
    let schedule = cluster.create(&schedule).await?;
    let name = schedule.name_any();
    context.printer.out(&format!(
        "Schedule {name:?} created successfully.\n\
         Run `ark schedule describe {name}` to see when it makes its next backup.\n"
    ))?;
    Ok(Exit::Done)
}
