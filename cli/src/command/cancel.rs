//! `ark backup cancel` and `ark restore cancel`: asks the operator to end what waits or runs. What is finished by then
//! is kept, and the object says what that is.

use ark_api::{Backup, Restore};
use clap::Args;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Context;
use super::wait::{self, WaitOptions};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::{Cluster, Kind};
use crate::print;

/// What to cancel.
#[derive(Clone, Debug, Args)]
pub(crate) struct Cancel {
    /// Names
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    wait: WaitOptions,
}

/// Cancels backups.
pub(crate) async fn backup(context: &Context, args: Cancel) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let mut asked: Vec<Backup> = Vec::new();
    for name in &args.names {
        let backup = cluster.get(name).await?;
        let phase = print::backup::phase(&backup);
        if phase.is_terminal() {
            return Err(ended("backup", name, &format!("{phase:?}")));
        }
        asked.push(ask(&cluster, name).await?);
        said(context, "Backup", name)?;
    }
    let mut exit = Exit::Done;
    for backup in asked.iter().filter(|_| args.wait.wait) {
        let ended = wait::backup(context, &cluster, backup, args.wait.limit()).await?;
        exit = exit.worse(ended);
    }
    Ok(exit)
}

/// Cancels restores.
pub(crate) async fn restore(context: &Context, args: Cancel) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let mut asked: Vec<Restore> = Vec::new();
    for name in &args.names {
        let restore = cluster.get(name).await?;
        let phase = print::restore::phase(&restore);
        if phase.is_terminal() {
            return Err(ended("restore", name, &format!("{phase:?}")));
        }
        asked.push(ask(&cluster, name).await?);
        said(context, "Restore", name)?;
    }
    let mut exit = Exit::Done;
    for restore in asked.iter().filter(|_| args.wait.wait) {
        let ended = wait::restore(context, &cluster, restore, args.wait.limit()).await?;
        exit = exit.worse(ended);
    }
    Ok(exit)
}

async fn ask<K: Kind>(cluster: &Cluster, name: &str) -> Result<K> {
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    let params = PatchParams::default();
    let asked = cluster.api::<K>().patch(name, &params, &patch).await;
    asked.map_err(|error| cluster.failed::<K>("cancel", name, &error))
}

fn said(context: &Context, kind: &str, name: &str) -> Result<()> {
    let noun = kind.to_lowercase();
    context.printer.out(&format!(
        "{kind} {name} is asked to end. `ark {noun} describe {name}` shows what became of it.\n"
    ))
}

fn ended(noun: &str, name: &str, phase: &str) -> Error {
    Error::State {
        message: format!(
            "{noun} {name:?} has ended already ({phase}), so there is nothing to cancel"
        ),
        hint: format!("`ark {noun} describe {name}` shows what became of it"),
    }
}
