//! `ark restore describe`.
//!
//! The object is always shown. What cannot be fetched besides is named, with the reason, under
//! `Not shown`.

use ark_api::restore::RestorePhase;
use ark_api::{PodVolumeRestore, Restore, label};
use clap::Args;
use kube::ResourceExt;

use super::backup_describe::{DescribeOptions, DescribeOutput, Missing};
use super::{Context, artefact};
use crate::error::Result;
use crate::exit::Exit;
use crate::kube::Cluster;
use crate::print::restore::{RestoreReport, describe, phase};
use crate::print::structured::{self, Form};

/// Show all about restores.
#[derive(Clone, Debug, Args)]
pub(crate) struct RestoreDescribe {
    #[command(flatten)]
    options: DescribeOptions,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: RestoreDescribe) -> Result<Exit> {
    let options = args.options;
    let cluster = context.cluster().await?;
    let restores: Vec<Restore> = options.objects(&cluster).await?;
    for (index, restore) in restores.iter().enumerate() {
        let report = report(context, &cluster, restore, &options).await?;
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
    if restores.is_empty() {
        context.printer.note(&format!(
            "There is no Restore in namespace {}.",
            cluster.namespace()
        ));
    }
    Ok(Exit::Done)
}

async fn report(
    context: &Context,
    cluster: &Cluster,
    restore: &Restore,
    options: &DescribeOptions,
) -> Result<RestoreReport> {
    let name = restore.name_any();
    let selector = format!("{}={}", label::RESTORE_NAME, label::value(&name));
    let mut missing = Missing::default();
    let pod_volume_restores: Vec<PodVolumeRestore> = missing
        .or("volume restores", cluster.list(&selector).await)
        .unwrap_or_default();
    let mut restore = restore.clone();
    restore.metadata.managed_fields = None;
    let ended = matches!(
        phase(&restore),
        RestorePhase::Completed
            | RestorePhase::PartiallyFailed
            | RestorePhase::Failed
            | RestorePhase::Canceled
    );
    let mut results = None;
    if ended {
        let fetched = artefact::json(
            context,
            cluster,
            artefact::RESTORE_RESULTS,
            &name,
            options.timeout.0,
        );
        results = missing.or("errors, warnings and objects", fetched.await);
    }
    Ok(RestoreReport {
        restore,
        results,
        pod_volume_restores,
        missing: missing.0,
    })
}
