//! `ark backup delete`: asks the operator to delete backups with their data.

use std::time::Duration;

use ark_api::requests::{DeleteBackupRequestSpec, RequestPhase};
use ark_api::{Backup, DeleteBackupRequest, label, naming};
use clap::Args;
use kube::ResourceExt;
use tokio::time::Instant;

use super::Context;
use super::confirm::Doomed;
use super::wait::WaitOptions;
use crate::error::{Error, Reason, Result};
use crate::exit::Exit;
use crate::kube::Cluster;

/// Pause between two looks while waiting.
const PAUSE: Duration = Duration::from_millis(500);

/// Delete backups with all they stored: objects, files of volumes, logs, and the restores made of them.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ark backup delete shop-1 --confirm
  ark backup delete -l ark.heptio.com/schedule-name=daily --confirm --wait")]
pub(crate) struct BackupDelete {
    #[command(flatten)]
    doomed: Doomed,
    /// Delete what can be deleted, and the Backup object whatever is left
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitOptions,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: BackupDelete) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let consequence = "What they stored cannot be brought back.";
    let backups: Vec<Backup> = args.doomed.objects(context, &cluster, consequence).await?;
    for backup in &backups {
        ask(&cluster, backup, args.force).await?;
        context.printer.out(&format!(
            "Request to delete backup {:?} submitted successfully.\n",
            backup.name_any()
        ))?;
    }
    if !args.wait.wait {
        if !backups.is_empty() {
            context.printer.out(
                "A backup goes when all that belongs to it is deleted; `ark backup get` shows it as Deleting until then.\n",
            )?;
        }
        return Ok(Exit::Done);
    }
    let deadline = args.wait.limit().map(|limit| Instant::now() + limit);
    for backup in &backups {
        follow(context, &cluster, backup, deadline).await?;
    }
    Ok(Exit::Done)
}

/// Makes the request. One that was answered with a refusal is made anew.
async fn ask(cluster: &Cluster, backup: &Backup, force: bool) -> Result<()> {
    let name = backup.name_any();
    let uid = backup.uid().unwrap_or_default();
    let mut request = DeleteBackupRequest::new(
        &naming::delete_request(&name, &uid),
        DeleteBackupRequestSpec {
            backup_name: name,
            force: force.then_some(true),
        },
    );
    // Not for another backup that has the name by the time the request is read.
    request
        .labels_mut()
        .insert(label::BACKUP_UID.to_owned(), uid);
    let request_name = request.name_any();
    match cluster.create(&request).await {
        Err(Error::Api {
            reason: Reason::Exists,
            ..
        }) => {}
        other => return other.map(drop),
    }
    let there: Option<DeleteBackupRequest> = cluster.find(&request_name).await?;
    match there {
        Some(there)
            if phase(&there) != RequestPhase::Processed
                && (!force || there.spec.force == Some(true)) =>
        {
            Ok(())
        }
        Some(_) => {
            cluster.delete::<DeleteBackupRequest>(&request_name).await?;
            cluster.create(&request).await.map(drop)
        }
        None => cluster.create(&request).await.map(drop),
    }
}

fn phase(request: &DeleteBackupRequest) -> RequestPhase {
    request
        .status
        .as_ref()
        .and_then(|status| status.phase)
        .unwrap_or_default()
}

/// Waits until a backup is gone, or its deletion was refused.
async fn follow(
    context: &Context,
    cluster: &Cluster,
    backup: &Backup,
    deadline: Option<Instant>,
) -> Result<()> {
    let name = backup.name_any();
    let request = naming::delete_request(&name, &backup.uid().unwrap_or_default());
    let mut said = String::new();
    loop {
        let there: Option<Backup> = cluster.find(&name).await?;
        if there.and_then(|there| there.uid()) != backup.uid() {
            return context
                .printer
                .out(&format!("Backup {name:?} is deleted.\n"));
        }
        let status = cluster
            .find::<DeleteBackupRequest>(&request)
            .await?
            .and_then(|request| request.status)
            .unwrap_or_default();
        if status.phase == Some(RequestPhase::Processed) {
            return Err(Error::Cancelled {
                message: format!(
                    "backup {name:?} is not deleted: {}",
                    status.errors.join("; ")
                ),
                hint: "mend the cause and ask again".to_owned(),
            });
        }
        if let Some(waits) = status.waiting_for.filter(|waits| *waits != said) {
            context.printer.note(&format!("{name}: waits: {waits}"));
            said = waits;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::Timeout {
                message: format!("backup {name:?} is not deleted yet"),
                hint: "the deletion goes on in the cluster; `ark backup get` shows it".to_owned(),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
