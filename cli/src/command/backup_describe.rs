//! `ark backup describe`.
//!
//! The object is always shown. What else there is to know lies with the backup's artefacts: what
//! cannot be fetched is named, with the reason, under `Not shown`.

use std::time::Duration;

use ark_api::backup::BackupPhase;
use ark_api::{Backup, PodVolumeBackup, duration, label};
use clap::{Args, ValueEnum};
use kube::ResourceExt;

use super::artefact;
use super::output::objects;
use super::{Context, key_warning};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::{Cluster, Kind};
use crate::print::backup::{BackupReport, describe, phase};
use crate::print::structured::{self, Form};

/// Form of a description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DescribeOutput {
    /// Text.
    #[default]
    #[value(alias = "table")]
    Plaintext,
    /// JSON; of one object only.
    Json,
}

/// Options of every `describe`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DescribeOptions {
    /// Names; all when left out
    pub(crate) names: Vec<String>,
    /// Only objects with these labels, as for `kubectl -l`
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    pub(crate) selector: Option<String>,
    /// Show every item
    #[arg(long)]
    pub(crate) details: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: DescribeOutput,
    /// Longest time to wait for each artefact
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub(crate) timeout: duration::Duration,
}

impl DescribeOptions {
    /// The objects that the options name; at least one.
    pub(crate) async fn objects<K: Kind>(&self, cluster: &Cluster) -> Result<Vec<K>> {
        let objects: Vec<K> = objects(cluster, &self.names, self.selector.as_deref()).await?;
        if self.output == DescribeOutput::Json && objects.len() > 1 {
            return Err(Error::usage("-o json describes one object; give its name"));
        }
        Ok(objects)
    }
}

/// Show all about backups.
#[derive(Clone, Debug, Args)]
pub(crate) struct BackupDescribe {
    #[command(flatten)]
    options: DescribeOptions,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: BackupDescribe) -> Result<Exit> {
    let options = args.options;
    let cluster = context.cluster().await?;
    let backups: Vec<Backup> = options.objects(&cluster).await?;
    for (index, backup) in backups.iter().enumerate() {
        let report = Box::pin(report(context, &cluster, backup, &options)).await?;
        let text = match options.output {
            DescribeOutput::Json => structured::value(&report, Form::Json)?,
            DescribeOutput::Plaintext => {
                let text = describe(&report, options.details, context.printer.colour);
                if index == 0 {
                    text
                } else {
                    format!("\n\n{text}")
                }
            }
        };
        context.printer.out(&text)?;
    }
    if backups.is_empty() {
        context.printer.note(&format!(
            "There is no Backup in namespace {}.",
            cluster.namespace()
        ));
    }
    key_warning::for_backups(context, &cluster, &backups).await;
    Ok(Exit::Done)
}

async fn report(
    context: &Context,
    cluster: &Cluster,
    backup: &Backup,
    options: &DescribeOptions,
) -> Result<BackupReport> {
    let name = backup.name_any();
    let limit: Duration = options.timeout.0;
    let selector = format!("{}={}", label::BACKUP_NAME, label::value(&name));
    let mut missing = Missing::default();
    let pod_volume_backups: Vec<PodVolumeBackup> = missing
        .or("volume backups", cluster.list(&selector).await)
        .unwrap_or_default();
    let mut backup = backup.clone();
    backup.metadata.managed_fields = None;
    let mut report = BackupReport {
        results: None,
        volumes: None,
        pod_volume_backups,
        items: None,
        missing: Vec::new(),
        backup,
    };
    // Artefacts are written at the end; without a validated spec there never are any.
    if phase(&report.backup).is_restorable()
        || matches!(
            phase(&report.backup),
            BackupPhase::Failed | BackupPhase::Canceled
        )
    {
        let (results, volumes) = tokio::join!(
            artefact::json(context, cluster, artefact::BACKUP_RESULTS, &name, limit),
            artefact::json(context, cluster, artefact::BACKUP_VOLUMES, &name, limit),
        );
        report.results = missing.or("errors and warnings", results);
        report.volumes = missing.or("volume rows", volumes);
        if options.details {
            let items =
                artefact::json(context, cluster, artefact::BACKUP_ITEMS, &name, limit).await;
            report.items = missing.or("resource list", items);
        }
    }
    report.missing = missing.0;
    Ok(report)
}

/// What a description lacks, and why.
#[derive(Debug, Default)]
pub(crate) struct Missing(pub(crate) Vec<String>);

impl Missing {
    /// The value, or a note that and why it is missing.
    pub(crate) fn or<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.push(format!("{what}: {error}"));
                None
            }
        }
    }
}
