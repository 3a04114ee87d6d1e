//! `ark backup logs` and `ark restore logs`.

use ark_api::duration::Duration;
use ark_api::{Backup, Restore};
use clap::Args;

use super::Context;
use super::artefact::{self, Artefact};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::print;

/// Show the log.
#[derive(Clone, Debug, Args)]
pub(crate) struct Logs {
    /// Name
    name: String,
    /// Longest time to wait for the log
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    timeout: Duration,
}

/// The log of a backup.
pub(crate) async fn backup(context: &Context, args: Logs) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let backup: Backup = cluster.get(&args.name).await?;
    let phase = print::backup::phase(&backup);
    if !phase.is_terminal() {
        return Err(unfinished("backup", &args.name, &format!("{phase:?}")));
    }
    show(context, artefact::BACKUP_LOG, &args).await
}

/// The log of a restore.
pub(crate) async fn restore(context: &Context, args: Logs) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let restore: Restore = cluster.get(&args.name).await?;
    let phase = print::restore::phase(&restore);
    if !phase.is_terminal() {
        return Err(unfinished("restore", &args.name, &format!("{phase:?}")));
    }
    show(context, artefact::RESTORE_LOG, &args).await
}

fn unfinished(noun: &str, name: &str, phase: &str) -> Error {
    Error::State {
        message: format!("{noun} {name:?} is {phase}; its log is stored when it has ended"),
        hint: format!("`ark {noun} describe {name}` shows how far it is"),
    }
}

async fn show(context: &Context, artefact: Artefact, args: &Logs) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let text = artefact::unpacked(context, &cluster, artefact, &args.name, args.timeout.0).await?;
    context.printer.raw(&text)?;
    Ok(Exit::Done)
}
