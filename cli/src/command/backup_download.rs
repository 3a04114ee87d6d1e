//! `ark backup download`: the bundle of a backup's items.
//!
//! The file appears under its name when it is complete. It holds Secrets, so only its owner may
//! read it.

use std::path::{Path, PathBuf};

use ark_api::Backup;
use ark_api::backup::BackupPhase;
use ark_api::duration::Duration;
use clap::Args;
use tempfile::NamedTempFile;

use super::{Context, artefact};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::print;

/// Download the objects in a backup.
#[derive(Clone, Debug, Args)]
pub(crate) struct BackupDownload {
    /// Name of the backup
    name: String,
    /// File to write; NAME-data.tar.gz when left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
    /// Longest time to wait for the transfer to begin
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    timeout: Duration,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: BackupDownload) -> Result<Exit> {
    let BackupDownload {
        name,
        output,
        force,
        timeout,
    } = args;
    let path = output.unwrap_or_else(|| PathBuf::from(format!("{name}-data.tar.gz")));
    if !force && path.exists() {
        return Err(Error::State {
            message: format!("{} exists", path.display()),
            hint: "add --force to overwrite it, or choose another file with --output".to_owned(),
        });
    }
    let cluster = context.cluster().await?;
    let backup: Backup = cluster.get(&name).await?;
    let phase = print::backup::phase(&backup);
    if !phase.is_restorable() && phase != BackupPhase::Canceled {
        return Err(Error::State {
            message: format!("backup {name:?} is {phase:?} and has no content to download"),
            hint: format!("`ark backup describe {name}` shows more"),
        });
    }
    let mut transfer = artefact::open(
        context,
        &cluster,
        artefact::BACKUP_CONTENTS,
        &name,
        timeout.0,
    )
    .await?;
    let mut file = new_file(&path)?;
    let failed = |e: std::io::Error| file_error("write", &path, &e);
    let mut size: i64 = 0;
    while let Some(piece) = transfer.next().await? {
        std::io::Write::write_all(&mut file, &piece).map_err(failed)?;
        size += i64::try_from(piece.len()).unwrap_or(0);
    }
    file.as_file().sync_all().map_err(failed)?;
    if force {
        file.persist(&path).map_err(|e| failed(e.error))?;
    } else {
        file.persist_noclobber(&path).map_err(|e| failed(e.error))?;
    }
    context.printer.out(&format!(
        "Backup {name} has been downloaded to {} ({})\n",
        path.display(),
        print::human::bytes(size)
    ))?;
    Ok(Exit::Done)
}

/// A file beside `path` that only its owner may read, and that goes away unless it is persisted.
pub(crate) fn new_file(path: &Path) -> Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    NamedTempFile::new_in(folder).map_err(|e| file_error("create", path, &e))
}

/// An error about a file.
pub(crate) fn file_error(verb: &'static str, path: &Path, error: &std::io::Error) -> Error {
    Error::File {
        verb,
        path: path.to_owned(),
        message: error.to_string(),
    }
}
