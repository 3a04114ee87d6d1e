//! `ark restic repo prune` and `ark restic repo check`: maintenance out of turn.
//!
//! The command writes an annotation; the operator then makes a Job. What runs in the cluster goes on when this
//! command is interrupted.

use std::time::Duration;

use ark_api::maintenance::{MaintenanceResult, Wanted};
use ark_api::{ResticRepository, annotation};
use clap::Args;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Context;
use super::wait::{WaitOptions, until};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::Cluster;
use crate::print;

/// Names of repositories, and how long to wait.
#[derive(Clone, Debug, Args)]
pub(crate) struct RepositoryMaintain {
    /// Names of repositories, as `ark restic repo get` shows them
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    wait: WaitOptions,
}

/// Asks for it, and waits for the end if that is wanted.
pub(crate) async fn run(
    context: &Context,
    args: RepositoryMaintain,
    wanted: Wanted,
) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let request = wanted.request(&jiff::Timestamp::now().as_millisecond().to_string());
    for name in &args.names {
        ask(&cluster, name, &request).await?;
    }
    if !args.wait.wait {
        for name in &args.names {
            context.printer.note(&format!(
                "The {} of repository {name} was asked for. `ark restic repo describe {name}` shows how it ended.",
                wanted.as_str()
            ));
        }
        return Ok(Exit::Done);
    }
    let mut exit = Exit::Done;
    for name in &args.names {
        let limit = args.wait.limit().unwrap_or(Duration::MAX);
        let ended = until::<ResticRepository, _>(&cluster, name, limit, |repository| {
            let status = repository.status.as_ref()?;
            (status.maintenance_request.as_ref() == Some(&request)).then(|| repository.clone())
        });
        let Some(repository) = ended.await? else {
            return Err(Error::Timeout {
                message: format!("the {} of repository {name} has not ended", wanted.as_str()),
                hint: format!(
                    "it goes on in the cluster; `ark restic repo describe {name}` shows how it ends"
                ),
            });
        };
        context
            .printer
            .out(&print::repository::outcome(&repository))?;
        if !went_well(&repository) {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

async fn ask(cluster: &Cluster, name: &str, request: &str) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {annotation::MAINTENANCE_REQUEST: request}}});
    cluster
        .api::<ResticRepository>()
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(|error| cluster.failed::<ResticRepository>("change", name, &error))?;
    Ok(())
}

/// Whether the last run succeeded and found nothing wrong.
fn went_well(repository: &ResticRepository) -> bool {
    let status = repository.status.clone().unwrap_or_default();
    let succeeded = status
        .recent_maintenance
        .last()
        .is_some_and(|run| run.result == MaintenanceResult::Succeeded);
    succeeded && status.verification.unwrap_or_default().defects == 0
}
