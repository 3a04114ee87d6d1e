//! `ark backup create`.
//!
//! Order: the object is made from the options (or a schedule's template), then printed (`-o`) or
//! created, then waited for (`--wait`). Nothing is created when the options make no sense.

use ark_api::backup::{BackupSpec, ConfigMapReference, UploaderConfig};
use ark_api::duration::Duration;
use ark_api::{Backup, Schedule, naming, template};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;

use super::filters::{OrSelectors, Ordered, Pairs, Selector};
use super::output::{Output, checked_name};
use super::wait::{self, WaitOptions};
use super::{Context, key_warning};
use crate::error::Result;
use crate::exit::Exit;
use crate::print::structured;

/// Create a backup.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ark backup create nginx-backup --selector app=nginx --wait
  ark backup create shop --include-namespaces shop,shop-db --ttl 168h
  ark backup create --from-schedule daily")]
pub(crate) struct BackupCreate {
    /// Name of the backup; with --from-schedule it is made from the schedule's
    #[arg(required_unless_present = "from_schedule")]
    name: Option<String>,
    /// Take everything from this schedule's template
    #[arg(long, value_name = "SCHEDULE", conflicts_with = "BackupOptions")]
    from_schedule: Option<String>,
    /// Labels of the backup
    #[arg(long, value_name = "KEY=VALUE,...")]
    labels: Option<Pairs>,
    /// Annotations of the backup
    #[arg(long, value_name = "KEY=VALUE,...")]
    annotations: Option<Pairs>,
    /// Print the object in this form and create nothing (table: create it)
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    options: BackupOptions,
    #[command(flatten)]
    wait: WaitOptions,
}

/// What goes into the spec.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to back up")]
pub(crate) struct BackupOptions {
    /// Namespaces; `*` or nothing means all but Ark's own
    #[arg(long, value_name = "NS,...", value_delimiter = ',')]
    include_namespaces: Vec<String>,
    /// Namespaces to leave out
    #[arg(long, value_name = "NS,...", value_delimiter = ',')]
    exclude_namespaces: Vec<String>,
    /// Resources, for example deployments.apps; nothing means all
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    include_resources: Vec<String>,
    /// Resources to leave out
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    exclude_resources: Vec<String>,
    /// Cluster-scoped resources
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    include_cluster_scoped_resources: Vec<String>,
    /// Cluster-scoped resources to leave out
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    exclude_cluster_scoped_resources: Vec<String>,
    /// Namespaced resources
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    include_namespace_scoped_resources: Vec<String>,
    /// Namespaced resources to leave out
    #[arg(long, value_name = "RESOURCE,...", value_delimiter = ',')]
    exclude_namespace_scoped_resources: Vec<String>,
    /// Cluster-scoped objects: all, none, or (left out) those that selected objects need
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
    /// Objects to take first: "pods=ns1/p1,ns1/p2;persistentvolumeclaims=ns1/c1"
    #[arg(long, value_name = "ORDER")]
    ordered_resources: Option<Ordered>,
    /// How long the backup is kept, for example 720h
    #[arg(long, value_name = "DURATION")]
    ttl: Option<Duration>,
    /// Location to store it at; the default location when left out
    #[arg(long, value_name = "LOCATION")]
    storage_location: Option<String>,
    /// Locations of disk snapshots
    #[arg(long, value_name = "LOCATION,...", value_delimiter = ',')]
    volume_snapshot_locations: Vec<String>,
    /// Take disk snapshots
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    snapshot_volumes: Option<bool>,
    /// Move disk snapshots to the location
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    snapshot_move_data: Option<bool>,
    /// Data mover
    #[arg(long, value_name = "NAME")]
    data_mover: Option<String>,
    /// Take the files of every volume that is not excluded, not only of those that pods name
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", alias = "default-volumes-to-restic")]
    default_volumes_to_fs_backup: Option<bool>,
    /// ConfigMap with volume policies
    #[arg(long, value_name = "CONFIGMAP")]
    resource_policies_configmap: Option<String>,
    /// Workers that read and store files, per volume
    #[arg(long, value_name = "NUMBER")]
    parallel_files_upload: Option<i32>,
    /// Deadline of a disk snapshot
    #[arg(long, value_name = "DURATION")]
    csi_snapshot_timeout: Option<Duration>,
    /// Deadline of each volume
    #[arg(long, value_name = "DURATION")]
    item_operation_timeout: Option<Duration>,
}

impl BackupOptions {
    /// The spec. Every option ends up in it: what the operator cannot do it refuses in words.
    pub(crate) fn spec(self) -> BackupSpec {
        let Self {
            include_namespaces,
            exclude_namespaces,
            include_resources,
            exclude_resources,
            include_cluster_scoped_resources,
            exclude_cluster_scoped_resources,
            include_namespace_scoped_resources,
            exclude_namespace_scoped_resources,
            include_cluster_resources,
            selector,
            or_selector,
            ordered_resources,
            ttl,
            storage_location,
            volume_snapshot_locations,
            snapshot_volumes,
            snapshot_move_data,
            data_mover,
            default_volumes_to_fs_backup,
            resource_policies_configmap,
            parallel_files_upload,
            csi_snapshot_timeout,
            item_operation_timeout,
        } = self;
        BackupSpec {
            included_namespaces: include_namespaces,
            excluded_namespaces: exclude_namespaces,
            included_resources: include_resources,
            excluded_resources: exclude_resources,
            included_cluster_scoped_resources: include_cluster_scoped_resources,
            excluded_cluster_scoped_resources: exclude_cluster_scoped_resources,
            included_namespace_scoped_resources: include_namespace_scoped_resources,
            excluded_namespace_scoped_resources: exclude_namespace_scoped_resources,
            include_cluster_resources,
            label_selector: selector.map(|s| s.0),
            or_label_selectors: or_selector.map(|s| s.0).unwrap_or_default(),
            ordered_resources: ordered_resources.map(|o| o.0).unwrap_or_default(),
            ttl,
            storage_location,
            volume_snapshot_locations,
            snapshot_volumes,
            snapshot_move_data,
            datamover: data_mover,
            default_volumes_to_fs_backup,
            resource_policy: resource_policies_configmap.map(config_map),
            uploader_config: parallel_files_upload.map(|n| UploaderConfig {
                parallel_files_upload: Some(n),
            }),
            csi_snapshot_timeout,
            item_operation_timeout,
            ..BackupSpec::default()
        }
    }
}

/// A reference to a ConfigMap.
pub(crate) fn config_map(name: String) -> ConfigMapReference {
    ConfigMapReference {
        kind: "configmap".to_owned(),
        name,
        api_group: None,
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: BackupCreate) -> Result<Exit> {
    let (output, wait) = (args.output, args.wait.clone());
    let schedule = match &args.from_schedule {
        Some(name) => Some(context.cluster().await?.get::<Schedule>(name).await?),
        None => None,
    };
    let mut backup = args.object(schedule.as_ref(), Timestamp::now());
    checked_name(&backup.name_any())?;
    backup.metadata.namespace = Some(context.globals.namespace.clone());
    if let Some(form) = output.form() {
        context.printer.out(&structured::object(&backup, form)?)?;
        return Ok(Exit::Done);
    }
    let cluster = context.cluster().await?;
    let backup = cluster.create(&backup).await?;
    let name = backup.name_any();
    if wait.wait {
        let ended = wait::backup(context, &cluster, &backup, wait.limit()).await;
        // Only now: the first backup of a location may just have made its key.
        key_warning::for_backups(context, &cluster, std::slice::from_ref(&backup)).await;
        return ended;
    }
    key_warning::for_backups(context, &cluster, std::slice::from_ref(&backup)).await;
    context.printer.out(&format!(
        "Backup request {name:?} submitted successfully.\n\
         Run `ark backup describe {name}` or `ark backup logs {name}` for more details.\n"
    ))?;
    Ok(Exit::Done)
}

impl BackupCreate {
    /// The object, made from the options or from the schedule that they name.
    pub(crate) fn object(self, schedule: Option<&Schedule>, now: Timestamp) -> Backup {
        let Self {
            name,
            from_schedule: _,
            options,
            labels,
            annotations,
            wait: _,
            output: _,
        } = self;
        let mut backup = match schedule {
            Some(schedule) => from_template(schedule, name, now),
            None => Backup::new(&name.unwrap_or_default(), options.spec()),
        };
        if let Some(labels) = labels {
            backup.labels_mut().extend(labels.0);
        }
        if let Some(annotations) = annotations {
            backup.annotations_mut().extend(annotations.0);
        }
        backup
    }
}

/// The backup that a schedule would make now.
fn from_template(schedule: &Schedule, name: Option<String>, now: Timestamp) -> Backup {
    let name = name.unwrap_or_else(|| naming::timestamped(&schedule.name_any(), now));
    template::backup(schedule, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_becomes_a_backup() {
        let schedule: Schedule = serde_json::from_value(serde_json::json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Schedule",
            "metadata": {"name": "daily", "labels": {"team": "a"}},
            "spec": {"schedule": "@daily", "template": {
                "includedNamespaces": ["shop"],
                "metadata": {"annotations": {"x": "y"}},
            }},
        }))
        .unwrap();
        let backup = from_template(&schedule, None, "2026-01-02T03:04:05Z".parse().unwrap());
        insta::assert_snapshot!(structured::object(&backup, structured::Form::Yaml).unwrap());
    }
}
