//! The commands: what can be typed, and which function runs it. One file a verb.
//!
//! Nouns come first (`ark backup create`), verbs may as well (`ark create backup`); both mean the
//! same. A command returns the exit code it ends with, or the error that ended it.

mod artefact;
mod backup_create;
mod backup_delete;
mod backup_describe;
mod backup_download;
mod backup_get;
mod cancel;
mod completion;
mod confirm;
mod filters;
mod generate_docs;
mod key_export;
mod key_warning;
mod location_create;
mod location_delete;
mod location_get;
mod location_set;
mod logs;
mod output;
mod repository_describe;
mod repository_get;
mod repository_maintain;
mod restore_create;
mod restore_delete;
mod restore_describe;
mod restore_get;
mod schedule_create;
mod schedule_delete;
mod schedule_describe;
mod schedule_get;
mod schedule_pause;
mod version;
mod wait;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use ark_api::maintenance::Wanted;
use clap::{Args, Parser, Subcommand};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::Cluster;
use crate::print::Printer;

/// Backs up Kubernetes applications, their objects and the files in their volumes, and brings
/// them back.
#[derive(Debug, Parser)]
#[command(
    name = "ark",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The command line of the engine, which needs no cluster, if it is one.
    #[expect(clippy::result_large_err, reason = "both are what was given")]
    pub(crate) fn into_engine(self) -> std::result::Result<Box<Engine>, Self> {
        match self.command {
            Command::Engine(engine) => Ok(engine),
            command => Err(Self { command, ..self }),
        }
    }
}

/// Whether a command line that makes no sense was meant for the engine, which has exit codes of its own.
pub(crate) fn is_engine(args: impl Iterator<Item = OsString>) -> bool {
    let mut words = args
        .skip(1)
        .filter(|arg| !arg.to_string_lossy().starts_with('-'));
    words.next().is_some_and(|word| word == "engine")
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Namespace Ark is installed in
    #[arg(short, long, global = true, env = ark_api::env::NAMESPACE, hide_env_values = true, default_value = ark_api::DEFAULT_NAMESPACE)]
    pub(crate) namespace: String,
    /// Kubeconfig file; KUBECONFIG or the usual place when left out
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig; its current one when left out
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub(crate) kubecontext: Option<String>,
    /// Address of the operator's artefact port, for an operator that runs outside the cluster and
    /// cannot be reached by a port-forward
    #[arg(long, global = true, hide = true, env = ark_api::env::ARTEFACT_ADDRESS)]
    pub(crate) artefact_address: Option<SocketAddr>,
}

/// What every command gets.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Options of every command.
    pub(crate) globals: Globals,
    /// Where words go.
    pub(crate) printer: Printer,
}

impl Context {
    /// The cluster that the options name.
    pub(crate) async fn cluster(&self) -> Result<Cluster> {
        let Globals {
            namespace,
            kubeconfig,
            kubecontext,
            artefact_address: _,
        } = &self.globals;
        Cluster::connect(kubeconfig.as_ref(), kubecontext.as_ref(), namespace).await
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Work with backups
    #[command(subcommand, alias = "backups")]
    Backup(BackupVerb),
    /// Work with restores
    #[command(subcommand, alias = "restores")]
    Restore(RestoreVerb),
    /// Work with schedules, which make backups by the clock
    #[command(subcommand, alias = "schedules")]
    Schedule(ScheduleVerb),
    /// Work with backup storage locations
    #[command(subcommand, aliases = ["backup-locations", "bsl"])]
    BackupLocation(LocationVerb),
    /// Work with the restic repositories that hold the files of volumes
    #[command(subcommand)]
    Restic(ResticNoun),
    /// The same as `ark restic repo`
    #[command(subcommand, alias = "repos", hide = true)]
    Repo(RepoVerb),
    /// Work with restic repositories directly, without a cluster
    Engine(Box<Engine>),
    /// The same as `ark <NOUN> create`
    #[command(subcommand)]
    Create(CreateNoun),
    /// The same as `ark <NOUN> get`
    #[command(subcommand)]
    Get(GetNoun),
    /// The same as `ark <NOUN> describe`
    #[command(subcommand)]
    Describe(DescribeNoun),
    /// The same as `ark <NOUN> delete`
    #[command(subcommand)]
    Delete(DeleteNoun),
    /// The same as `ark schedule pause`
    #[command(subcommand)]
    Pause(PauseNoun),
    /// The same as `ark schedule unpause`
    #[command(subcommand)]
    Unpause(UnpauseNoun),
    /// Show the versions of this command and of the operator
    Version(version::Version),
    /// Print a script that completes commands in a shell
    Completion(completion::Completion),
    /// Print the reference of all commands
    #[command(hide = true)]
    GenerateDocs,
}

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Create a backup
    Create(Box<backup_create::BackupCreate>),
    /// List backups
    Get(output::Get),
    /// Show all about backups
    Describe(backup_describe::BackupDescribe),
    /// Show the log of a backup
    Logs(logs::Logs),
    /// Download the objects in a backup: a tarball
    Download(backup_download::BackupDownload),
    /// Cancel backups that wait or run; what is finished by then is kept
    Cancel(cancel::Cancel),
    /// Delete backups with all they stored
    Delete(backup_delete::BackupDelete),
}

/// What can be done with restores.
#[derive(Debug, Subcommand)]
pub(crate) enum RestoreVerb {
    /// Restore a backup
    Create(Box<restore_create::RestoreCreate>),
    /// List restores
    Get(output::Get),
    /// Show all about restores
    Describe(restore_describe::RestoreDescribe),
    /// Show the log of a restore
    Logs(logs::Logs),
    /// Cancel restores that wait or run; what is restored by then stays
    Cancel(cancel::Cancel),
    /// Delete restores with their logs and results
    Delete(restore_delete::RestoreDelete),
}

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleVerb {
    /// Create a schedule
    Create(Box<schedule_create::ScheduleCreate>),
    /// List schedules
    Get(output::Get),
    /// Show all about schedules
    Describe(schedule_describe::ScheduleDescribe),
    /// Have schedules make no more backups until they are unpaused
    Pause(schedule_pause::SchedulePause),
    /// Have paused schedules make backups again
    Unpause(schedule_pause::ScheduleUnpause),
    /// Delete schedules; the backups they made stay
    Delete(schedule_delete::ScheduleDelete),
}

/// What can be done with locations.
#[derive(Debug, Subcommand)]
pub(crate) enum LocationVerb {
    /// Create a backup storage location
    Create(Box<location_create::LocationCreate>),
    /// List backup storage locations
    Get(output::Get),
    /// Change a backup storage location: what may be done there, how often it is read, whether it is the default
    Set(Box<location_set::LocationSet>),
    /// Delete backup storage locations; what is stored there stays
    Delete(location_delete::LocationDelete),
}

/// What belongs to restic.
#[derive(Debug, Subcommand)]
pub(crate) enum ResticNoun {
    /// Work with repositories
    #[command(subcommand, alias = "repos")]
    Repo(RepoVerb),
}

/// What can be done with repositories.
#[derive(Debug, Subcommand)]
pub(crate) enum RepoVerb {
    /// List repositories
    Get(output::Get),
    /// Show all about repositories: what maintenance freed, and what checks found
    Describe(output::Get),
    /// Free the space of what no snapshot needs now, and check the repository; backups may go on meanwhile
    Prune(repository_maintain::RepositoryMaintain),
    /// Check a repository now, and read and verify all its data
    Check(repository_maintain::RepositoryMaintain),
    /// Work with the key of a location's repositories
    #[command(subcommand)]
    Key(KeyVerb),
}

/// What can be done with repository keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Write a location's repository password to a file or to standard output
    Export(key_export::KeyExport),
}

/// What can be created.
#[derive(Debug, Subcommand)]
pub(crate) enum CreateNoun {
    /// Create a backup
    #[command(alias = "backups")]
    Backup(Box<backup_create::BackupCreate>),
    /// Restore a backup
    #[command(alias = "restores")]
    Restore(Box<restore_create::RestoreCreate>),
    /// Create a schedule
    #[command(alias = "schedules")]
    Schedule(Box<schedule_create::ScheduleCreate>),
    /// Create a backup storage location
    #[command(aliases = ["backup-locations", "bsl"])]
    BackupLocation(Box<location_create::LocationCreate>),
}

/// What can be deleted.
#[derive(Debug, Subcommand)]
pub(crate) enum DeleteNoun {
    /// Delete backups with all they stored
    #[command(alias = "backups")]
    Backup(backup_delete::BackupDelete),
    /// Delete restores with their logs and results
    #[command(alias = "restores")]
    Restore(restore_delete::RestoreDelete),
    /// Delete schedules; the backups they made stay
    #[command(alias = "schedules")]
    Schedule(schedule_delete::ScheduleDelete),
    /// Delete backup storage locations; what is stored there stays
    #[command(aliases = ["backup-locations", "bsl"])]
    BackupLocation(location_delete::LocationDelete),
}

/// What can be paused.
#[derive(Debug, Subcommand)]
pub(crate) enum PauseNoun {
    /// Have schedules make no more backups until they are unpaused
    #[command(alias = "schedules")]
    Schedule(schedule_pause::SchedulePause),
}

/// What can be unpaused.
#[derive(Debug, Subcommand)]
pub(crate) enum UnpauseNoun {
    /// Have paused schedules make backups again
    #[command(alias = "schedules")]
    Schedule(schedule_pause::ScheduleUnpause),
}

/// What can be listed.
#[derive(Debug, Subcommand)]
pub(crate) enum GetNoun {
    /// List backups
    #[command(alias = "backup")]
    Backups(output::Get),
    /// List restores
    #[command(alias = "restore")]
    Restores(output::Get),
    /// List schedules
    #[command(alias = "schedule")]
    Schedules(output::Get),
    /// List backup storage locations
    #[command(aliases = ["backup-location", "bsl"])]
    BackupLocations(output::Get),
    /// List repositories
    #[command(alias = "repo")]
    Repos(output::Get),
}

/// What can be described.
#[derive(Debug, Subcommand)]
pub(crate) enum DescribeNoun {
    /// Show all about backups
    #[command(alias = "backup")]
    Backups(backup_describe::BackupDescribe),
    /// Show all about restores
    #[command(alias = "restore")]
    Restores(restore_describe::RestoreDescribe),
    /// Show all about schedules
    #[command(alias = "schedule")]
    Schedules(schedule_describe::ScheduleDescribe),
}

/// Runs a command.
pub(crate) async fn run(cli: Cli, printer: Printer) -> Result<Exit> {
    let context = Context {
        globals: cli.globals,
        printer,
    };
    let context = &context;
    match cli.command {
        Command::Backup(BackupVerb::Create(args)) | Command::Create(CreateNoun::Backup(args)) => {
            backup_create::run(context, *args).await
        }
        Command::Backup(BackupVerb::Get(args)) | Command::Get(GetNoun::Backups(args)) => {
            backup_get::run(context, args).await
        }
        Command::Backup(BackupVerb::Describe(args))
        | Command::Describe(DescribeNoun::Backups(args)) => {
            Box::pin(backup_describe::run(context, args)).await
        }
        Command::Backup(BackupVerb::Logs(args)) => logs::backup(context, args).await,
        Command::Backup(BackupVerb::Download(args)) => backup_download::run(context, args).await,
        Command::Backup(BackupVerb::Cancel(args)) => cancel::backup(context, args).await,
        Command::Restore(RestoreVerb::Cancel(args)) => cancel::restore(context, args).await,
        Command::Restore(RestoreVerb::Create(args))
        | Command::Create(CreateNoun::Restore(args)) => restore_create::run(context, *args).await,
        Command::Restore(RestoreVerb::Get(args)) | Command::Get(GetNoun::Restores(args)) => {
            restore_get::run(context, args).await
        }
        Command::Restore(RestoreVerb::Describe(args))
        | Command::Describe(DescribeNoun::Restores(args)) => {
            restore_describe::run(context, args).await
        }
        Command::Restore(RestoreVerb::Logs(args)) => logs::restore(context, args).await,
        Command::Backup(BackupVerb::Delete(args)) | Command::Delete(DeleteNoun::Backup(args)) => {
            backup_delete::run(context, args).await
        }
        Command::Restore(RestoreVerb::Delete(args))
        | Command::Delete(DeleteNoun::Restore(args)) => restore_delete::run(context, args).await,
        Command::Schedule(ScheduleVerb::Create(args))
        | Command::Create(CreateNoun::Schedule(args)) => schedule_create::run(context, *args).await,
        Command::Schedule(ScheduleVerb::Get(args)) | Command::Get(GetNoun::Schedules(args)) => {
            schedule_get::run(context, args).await
        }
        Command::Schedule(ScheduleVerb::Describe(args))
        | Command::Describe(DescribeNoun::Schedules(args)) => {
            schedule_describe::run(context, args).await
        }
        Command::Schedule(ScheduleVerb::Pause(args))
        | Command::Pause(PauseNoun::Schedule(args)) => schedule_pause::pause(context, args).await,
        Command::Schedule(ScheduleVerb::Unpause(args))
        | Command::Unpause(UnpauseNoun::Schedule(args)) => {
            schedule_pause::unpause(context, args).await
        }
        Command::Schedule(ScheduleVerb::Delete(args))
        | Command::Delete(DeleteNoun::Schedule(args)) => schedule_delete::run(context, args).await,
        Command::BackupLocation(LocationVerb::Create(args))
        | Command::Create(CreateNoun::BackupLocation(args)) => {
            location_create::run(context, *args).await
        }
        Command::BackupLocation(LocationVerb::Set(args)) => location_set::run(context, *args).await,
        Command::BackupLocation(LocationVerb::Delete(args))
        | Command::Delete(DeleteNoun::BackupLocation(args)) => {
            location_delete::run(context, args).await
        }
        Command::BackupLocation(LocationVerb::Get(args))
        | Command::Get(GetNoun::BackupLocations(args)) => location_get::run(context, args).await,
        Command::Restic(ResticNoun::Repo(RepoVerb::Get(args)))
        | Command::Repo(RepoVerb::Get(args))
        | Command::Get(GetNoun::Repos(args)) => repository_get::run(context, args).await,
        Command::Restic(ResticNoun::Repo(RepoVerb::Describe(args)))
        | Command::Repo(RepoVerb::Describe(args)) => repository_describe::run(context, args).await,
        Command::Restic(ResticNoun::Repo(RepoVerb::Prune(args)))
        | Command::Repo(RepoVerb::Prune(args)) => {
            repository_maintain::run(context, args, Wanted::Maintenance).await
        }
        Command::Restic(ResticNoun::Repo(RepoVerb::Check(args)))
        | Command::Repo(RepoVerb::Check(args)) => {
            repository_maintain::run(context, args, Wanted::FullCheck).await
        }
        Command::Restic(ResticNoun::Repo(RepoVerb::Key(KeyVerb::Export(args))))
        | Command::Repo(RepoVerb::Key(KeyVerb::Export(args))) => {
            key_export::run(context, args).await
        }
        // Its operations block: whoever starts a runtime must not have got this far.
        Command::Engine(_) => Err(Error::Bug("the engine was started on a runtime".to_owned())),
        Command::Version(args) => version::run(context, args).await,
        Command::Completion(args) => completion::run(printer, &args),
        Command::GenerateDocs => generate_docs::run(printer),
    }
}

#[cfg(test)]
mod tests;
