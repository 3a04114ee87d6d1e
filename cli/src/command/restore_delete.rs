//! `ark restore delete`: asks the operator to delete restores with their logs and results.

use ark_api::{Restore, annotation};
use clap::Args;
use kube::ResourceExt;
use serde_json::json;

use super::Context;
use super::confirm::Doomed;
use crate::error::Result;
use crate::exit::Exit;

/// Delete restores with their logs and results. What they restored stays as it is.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ark restore delete shop-1-20260102030405 --confirm
  ark restore delete --all --confirm")]
pub(crate) struct RestoreDelete {
    #[command(flatten)]
    doomed: Doomed,
    /// Delete the object even when its log and results cannot be deleted
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: RestoreDelete) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let consequence = "What they restored stays; their logs and results go.";
    let restores: Vec<Restore> = args.doomed.objects(context, &cluster, consequence).await?;
    for restore in restores {
        let name = restore.name_any();
        let value = if args.force {
            annotation::DELETE_FORCE
        } else {
            "true"
        };
        let patch =
            json!({"metadata": {"uid": restore.uid(), "annotations": {annotation::DELETE: value}}});
        cluster.patch::<Restore>(&name, &patch).await?;
        context.printer.out(&format!(
            "Request to delete restore {name:?} submitted successfully.\n"
        ))?;
    }
    Ok(Exit::Done)
}
