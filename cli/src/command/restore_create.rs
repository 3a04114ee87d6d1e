//! `ark restore create`.
//!
//! The source must exist before a restore of it is created. Order: source, object, then printed
//! (`-o`) or created, then waited for (`--wait`).

use ark_api::backup::newest_restorable;
use ark_api::duration::Duration;
use ark_api::restore::{
    ExistingResourcePolicy, MissingVolumeData, NonEmptyVolumes, RestoreSpec, RestoreStatusSpec,
    RestoreUploaderConfig,
};
use ark_api::{Backup, Restore, label, naming};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::ResourceExt;

use super::Context;
use super::backup_create::config_map;
use super::filters::{Mappings, OrSelectors, Pairs, Selector};
use super::output::{Output, checked_name};
use super::wait::{self, WaitOptions};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::Cluster;
use crate::print::structured;

/// Restore a backup.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ark restore create --from-backup nginx-backup --wait
  ark restore create nginx-backup
  ark restore create --from-backup shop --namespace-mappings shop:shop-copy
  ark restore create --from-schedule daily

Without --from-backup and --from-schedule, NAME is the backup to restore, and the restore is named
after it and the time.")]
pub(crate) struct RestoreCreate {
    /// Name of the restore; made from the source's name and the time when left out
    name: Option<String>,
    /// Backup to restore
    #[arg(long, value_name = "BACKUP", conflicts_with = "from_schedule")]
    from_backup: Option<String>,
    /// Restore the newest completed backup of this schedule
    #[arg(long, value_name = "SCHEDULE")]
    from_schedule: Option<String>,
    /// With --from-schedule: also take a backup that is PartiallyFailed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", requires = "from_schedule")]
    allow_partially_failed: Option<bool>,
    /// Labels of the restore
    #[arg(long, value_name = "KEY=VALUE,...")]
    labels: Option<Pairs>,
    /// Annotations of the restore
    #[arg(long, value_name = "KEY=VALUE,...")]
    annotations: Option<Pairs>,
    /// Print the object in this form and create nothing (table: create it)
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    options: RestoreOptions,
    #[command(flatten)]
    wait: WaitOptions,
}

/// What to do with objects that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// Leave them as they are.
    None,
    /// Change them to the backup's state.
    Update,
}

/// What happens where the backup lacks volume data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Missing {
    /// They do not start, and the restore is PartiallyFailed (default).
    Hold,
    /// They start with empty or incomplete volumes.
    Accept,
}

/// What happens to volumes that hold files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NonEmpty {
    /// Nothing is written into them (default).
    Keep,
    /// The files of the backup are written into them; others stay.
    Fill,
}

/// What goes into the spec.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to restore")]
struct RestoreOptions {
    /// Namespaces, by their names in the backup; nothing means all
    #[arg(long, value_name = "NS,...", value_delimiter = ',')]
    include_namespaces: Vec<String>,
    /// Namespaces to leave out
    #[arg(long, value_name = "NS,...", value_delimiter = ',')]
    exclude_namespaces: Vec<String>,
    /// Namespaces to restore under another name
    #[arg(long, value_name = "FROM:TO,...")]
    namespace_mappings: Option<Mappings>,
    /// Resources, for example deployments.apps; nothing means all
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    include_resources: Vec<String>,
    /// Resources to leave out
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    exclude_resources: Vec<String>,
    /// Cluster-scoped objects: all, none, or (left out) those that restored objects need
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    include_cluster_resources: Option<bool>,
    /// Only objects with these labels, as for `kubectl -l`
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        conflicts_with = "or_selector"
    )]
    selector: Option<Selector>,
    /// Only objects that one of these matches: "a=b or c=d"
    #[arg(long, value_name = "SELECTORS")]
    or_selector: Option<OrSelectors>,
    /// Restore volumes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    restore_volumes: Option<bool>,
    /// Keep the node ports of Services
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    preserve_nodeports: Option<bool>,
    /// What to do with objects that exist
    #[arg(long, value_enum, value_name = "POLICY")]
    existing_resource_policy: Option<Policy>,
    /// Resources whose status is restored
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    status_include_resources: Vec<String>,
    /// Resources whose status is not restored
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    status_exclude_resources: Vec<String>,
    /// ConfigMap with changes to restored objects
    #[arg(long, value_name = "CONFIGMAP")]
    resource_modifier_configmap: Option<String>,
    /// ConfigMap with volume policies
    #[arg(long, value_name = "CONFIGMAP")]
    resource_policies_configmap: Option<String>,
    /// Leave holes for blocks of zeros
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    write_sparse_files: Option<bool>,
    /// Workers that write files, per volume
    #[arg(long, value_name = "NUMBER")]
    parallel_files_download: Option<i32>,
    /// Deadline of each volume, from the moment its agent starts to fill it
    #[arg(long, value_name = "DURATION")]
    item_operation_timeout: Option<Duration>,
    /// How long pods may take to be scheduled and claims to be bound
    #[arg(long, value_name = "DURATION")]
    volume_bind_timeout: Option<Duration>,
    /// How long a volume may wait until its agent starts to fill it
    #[arg(long, value_name = "DURATION")]
    volume_queue_timeout: Option<Duration>,
    /// What happens to applications whose volume data the backup lacks or holds in part
    #[arg(long, value_enum, value_name = "POLICY")]
    missing_volume_data: Option<Missing>,
    /// What happens to volumes that hold files already
    #[arg(long, value_enum, value_name = "POLICY")]
    non_empty_volumes: Option<NonEmpty>,
}

impl RestoreOptions {
    /// The spec without its source. Every option ends up in it: what the operator cannot do it
    /// refuses in words.
    fn spec(self) -> RestoreSpec {
        let Self {
            include_namespaces,
            exclude_namespaces,
            namespace_mappings,
            include_resources,
            exclude_resources,
            include_cluster_resources,
            selector,
            or_selector,
            restore_volumes,
            preserve_nodeports,
            existing_resource_policy,
            status_include_resources,
            status_exclude_resources,
            resource_modifier_configmap,
            resource_policies_configmap,
            write_sparse_files,
            parallel_files_download,
            item_operation_timeout,
            volume_bind_timeout,
            volume_queue_timeout,
            missing_volume_data,
            non_empty_volumes,
        } = self;
        let status = !status_include_resources.is_empty() || !status_exclude_resources.is_empty();
        let uploader = write_sparse_files.is_some() || parallel_files_download.is_some();
        RestoreSpec {
            included_namespaces: include_namespaces,
            excluded_namespaces: exclude_namespaces,
            namespace_mapping: namespace_mappings.map(|m| m.0).unwrap_or_default(),
            included_resources: include_resources,
            excluded_resources: exclude_resources,
            include_cluster_resources,
            label_selector: selector.map(|s| s.0),
            or_label_selectors: or_selector.map(|s| s.0).unwrap_or_default(),
            restore_pvs: restore_volumes,
            preserve_node_ports: preserve_nodeports,
            existing_resource_policy: existing_resource_policy.map(|p| match p {
                Policy::None => ExistingResourcePolicy::None,
                Policy::Update => ExistingResourcePolicy::Update,
            }),
            restore_status: status.then_some(RestoreStatusSpec {
                included_resources: status_include_resources,
                excluded_resources: status_exclude_resources,
            }),
            resource_modifier: resource_modifier_configmap.map(config_map),
            resource_policy: resource_policies_configmap.map(config_map),
            uploader_config: uploader.then_some(RestoreUploaderConfig {
                write_sparse_files,
                parallel_files_download,
            }),
            item_operation_timeout,
            volume_bind_timeout,
            volume_queue_timeout,
            missing_volume_data: missing_volume_data.map(|policy| match policy {
                Missing::Hold => MissingVolumeData::Hold,
                Missing::Accept => MissingVolumeData::Accept,
            }),
            non_empty_volumes: non_empty_volumes.map(|policy| match policy {
                NonEmpty::Keep => NonEmptyVolumes::Keep,
                NonEmpty::Fill => NonEmptyVolumes::Fill,
            }),
            ..RestoreSpec::default()
        }
    }
}

/// Where a restore takes its content from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This backup.
    Backup(String),
    /// The newest good backup of a schedule.
    Schedule {
        /// The schedule.
        name: String,
        /// Whether a backup that is PartiallyFailed is good enough.
        partially_failed: bool,
    },
}

/// The source, and the name if one was given. Without a source option, the name is the backup's.
fn source(
    name: Option<String>,
    backup: Option<String>,
    schedule: Option<String>,
    partially_failed: bool,
) -> Result<(Source, Option<String>)> {
    match (name, backup, schedule) {
        (name, Some(backup), _) => Ok((Source::Backup(backup), name)),
        (name, None, Some(schedule)) => Ok((
            Source::Schedule {
                name: schedule,
                partially_failed,
            },
            name,
        )),
        (Some(backup), None, None) => Ok((Source::Backup(backup), None)),
        (None, None, None) => Err(Error::usage(
            "say what to restore: `ark restore create --from-backup BACKUP`, or --from-schedule SCHEDULE",
        )),
    }
}

impl RestoreCreate {
    /// The object, without its source unless that is a backup; and the source.
    pub(crate) fn object(self, now: Timestamp) -> Result<(Restore, Source)> {
        let Self {
            name,
            from_backup,
            from_schedule,
            allow_partially_failed,
            options,
            labels,
            annotations,
            wait: _,
            output: _,
        } = self;
        let partially_failed = allow_partially_failed.unwrap_or(false);
        let (source, name) = source(name, from_backup, from_schedule, partially_failed)?;
        let stem = match &source {
            Source::Backup(name) | Source::Schedule { name, .. } => name,
        };
        let name = name.unwrap_or_else(|| naming::timestamped(stem, now));
        checked_name(&name)?;
        let mut restore = Restore::new(&name, options.spec());
        if let Source::Backup(backup) = &source {
            restore.spec.backup_name = Some(backup.clone());
        }
        restore.metadata.labels = labels.map(|l| l.0);
        restore.metadata.annotations = annotations.map(|a| a.0);
        Ok((restore, source))
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: RestoreCreate) -> Result<Exit> {
    let (output, wait) = (args.output, args.wait.clone());
    let (mut restore, source) = args.object(Timestamp::now())?;
    restore.metadata.namespace = Some(context.globals.namespace.clone());
    if let (Some(form), Source::Backup(_)) = (output.form(), &source) {
        context.printer.out(&structured::object(&restore, form)?)?;
        return Ok(Exit::Done);
    }
    let cluster = context.cluster().await?;
    resolve(&cluster, source, &mut restore).await?;
    if let Some(form) = output.form() {
        context.printer.out(&structured::object(&restore, form)?)?;
        return Ok(Exit::Done);
    }
    let restore = cluster.create(&restore).await?;
    let name = restore.name_any();
    if wait.wait {
        return wait::restore(context, &cluster, &restore, wait.limit()).await;
    }
    context.printer.out(&format!(
        "Restore request {name:?} submitted successfully.\n\
         Run `ark restore describe {name}` or `ark restore logs {name}` for more details.\n"
    ))?;
    Ok(Exit::Done)
}

/// Looks whether the source exists, and puts a schedule into the spec.
async fn resolve(cluster: &Cluster, source: Source, restore: &mut Restore) -> Result<()> {
    let (schedule, partially_failed) = match source {
        Source::Backup(name) => return cluster.get::<Backup>(&name).await.map(drop),
        Source::Schedule {
            name,
            partially_failed,
        } => (name, partially_failed),
    };
    let selector = format!("{}={}", label::SCHEDULE_NAME, label::value(&schedule));
    let backups: Vec<Backup> = cluster.list(&selector).await?;
    if newest_restorable(&backups, partially_failed).is_none() {
        return Err(Error::State {
            message: format!("no backup of schedule {schedule:?} can be restored"),
            hint: format!(
                "`ark backup get -l {selector}` shows its backups and how they ended; \
                 --allow-partially-failed takes those that are PartiallyFailed, too"
            ),
        });
    }
    restore.spec.schedule_name = Some(schedule);
    restore.spec.allow_partially_failed = partially_failed.then_some(true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_form_names_the_backup() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            source(some("b"), None, None, false).unwrap(),
            (Source::Backup("b".into()), None)
        );
        assert_eq!(
            source(some("r"), some("b"), None, false).unwrap(),
            (Source::Backup("b".into()), some("r"))
        );
        assert_eq!(
            source(None, None, some("s"), true).unwrap(),
            (
                Source::Schedule {
                    name: "s".into(),
                    partially_failed: true
                },
                None
            )
        );
        assert_eq!(
            source(None, None, None, false).unwrap_err().exit(),
            Exit::Usage
        );
    }
}
