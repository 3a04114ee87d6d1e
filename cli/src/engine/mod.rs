//! `ark engine`: repositories without a cluster.
//!
//! Runs one operation of the engine on a thread of its own, with restic's options, variables, output and exit codes.
//! Does not talk to Kubernetes. Ctrl-C, SIGTERM and the end of the terminal (SIGHUP, unless it is ignored as under `nohup`)
//! end the operation, which gives its lock back; a second one, or ten seconds in which nothing happens, end the process.

mod backup;
mod check;
mod copy;
mod diff;
mod dump;
mod exit;
mod find;
mod forget;
mod holders;
mod init;
mod key;
mod ls;
mod migrate;
mod open;
mod password;
mod prune;
mod repair;
mod restore;
mod select;
mod snapshots;
mod stats;
mod textfile;
mod unlock;
mod values;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ark_engine::{Cancel, Repository};
use clap::{Args, Subcommand};
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use self::exit::EngineExit;
use self::open::RepoArgs;
use crate::error::{Error, Result};
use crate::print::{self, Printer};

/// How long an interrupted operation may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Work with restic repositories directly, without a cluster.
#[derive(Debug, Args)]
pub(crate) struct Engine {
    /// The repository.
    #[command(flatten)]
    repo: RepoArgs,
    /// Options that mean nothing here.
    #[command(flatten)]
    _cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// The options of commands on a cluster: accepted before `engine`, hidden after it.
#[derive(Debug, Args)]
struct ClusterArgs {
    #[arg(id = "namespace", long = "namespace", global = true, hide = true)]
    _namespace: Option<String>,
    #[arg(id = "kubeconfig", long = "kubeconfig", global = true, hide = true)]
    _kubeconfig: Option<PathBuf>,
    #[arg(id = "kubecontext", long = "kubecontext", global = true, hide = true)]
    _kubecontext: Option<String>,
    #[arg(
        id = "artefact_address",
        long = "artefact-address",
        global = true,
        hide = true
    )]
    _artefact_address: Option<SocketAddr>,
}

/// What can be done with a repository.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a repository
    Init(init::Init),
    /// Back up files and directories, or what a program writes
    Backup(Box<backup::Backup>),
    /// List snapshots
    Snapshots(snapshots::Snapshots),
    /// List the files in a snapshot
    Ls(ls::Ls),
    /// Find entries in all snapshots
    Find(Box<find::Find>),
    /// Show what changed from one snapshot to another
    Diff(diff::Diff),
    /// Restore a snapshot into a directory
    Restore(restore::Restore),
    /// Write a file of a snapshot to standard output, or a directory as a tar archive
    Dump(dump::Dump),
    /// Show how much is stored, for which volume and snapshot, and what forgetting would free
    Stats(stats::Stats),
    /// Check that a repository is whole
    Check(check::Check),
    /// Remove snapshots, by rules or by their ids
    Forget(Box<forget::Forget>),
    /// Free the space of what no snapshot needs
    Prune(prune::Prune),
    /// Repair what damage has left
    #[command(subcommand)]
    Repair(repair::RepairVerb),
    /// Copy snapshots from another repository
    Copy(Box<copy::Copy>),
    /// Make a repository of an older format version one of the newest
    Migrate(migrate::Migrate),
    /// Work with the passwords of a repository
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// Remove locks whose holders are gone
    Unlock(unlock::Unlock),
}

/// What every command gets.
#[derive(Clone, Debug)]
struct Run {
    repo: RepoArgs,
    printer: Printer,
    cancel: Cancel,
    handle: Handle,
    /// The repositories it opened.
    opened: Arc<Mutex<Vec<Repository>>>,
}

impl Run {
    /// Names the files of the repositories that the command did without, each once. Returns whether there are any.
    fn tell_left_out(&self) -> bool {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out: Vec<_> = opened.iter().flat_map(Repository::left_out).collect();
        left_out.sort();
        left_out.dedup();
        for (what, why) in &left_out {
            self.printer
                .warn(&format!("{what} cannot be read and was left out: {why}"));
        }
        if !left_out.is_empty() {
            self.printer.warn(
                "check names what is damaged; forget with its id removes a damaged snapshot, \
                 repair index replaces damaged index files",
            );
        }
        !left_out.is_empty()
    }

    /// Writes a line of JSON.
    fn json(&self, value: &serde_json::Value) -> Result<()> {
        self.printer.out(&value.to_string())
    }

    /// Writes words that are no result.
    fn say(&self, text: &str) -> Result<()> {
        if self.repo.quiet || self.repo.json {
            return Ok(());
        }
        self.printer.out(text)
    }
}

enum Ended {
    Done(Result<EngineExit>),
    /// It was interrupted and did not end.
    Forced,
}

/// Runs a command. Not to be called on a thread of a runtime.
pub(crate) fn main(engine: Engine, printer: Printer) -> EngineExit {
    let json = engine.repo.json;
    let ended = match Runtime::new() {
        Ok(runtime) => {
            let ended = watched(engine, printer, &runtime);
            // What may still be going on in the background is of no use any more.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(exit) => exit,
        Err(error) if error.is_broken_pipe() => EngineExit::CutOff,
        Err(error) => {
            let exit = EngineExit::of(&error);
            if json {
                print::engine::json_error(&error, exit as u8);
            } else {
                print::error(&error);
            }
            exit
        }
    }
}

fn watched(engine: Engine, printer: Printer, runtime: &Runtime) -> Result<EngineExit> {
    let cancel = Cancel::new();
    let (sender, ended) = mpsc::channel();
    // Before the operation begins: what it says may make somebody interrupt it at once.
    let entered = runtime.enter();
    let signals = Signals::listen()?;
    drop(entered);
    runtime.spawn(watch(signals, cancel.clone(), sender.clone()));
    let run = Run {
        repo: engine.repo,
        printer,
        cancel,
        handle: runtime.handle().clone(),
        opened: Arc::default(),
    };
    let verb = engine.verb;
    std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || {
            let (is_backup, is_repair) = (
                matches!(verb, Verb::Backup(_)),
                matches!(verb, Verb::Repair(_)),
            );
            let done = told(|| dispatch(verb, &run));
            // A repair tells by itself what it found.
            let lacks = !is_repair && run.tell_left_out();
            let done = match done {
                // A backup is whole without them; what others say of a repository, or take from it, may not be.
                Ok(EngineExit::Done) if lacks && !is_backup => Ok(EngineExit::Error),
                done => done,
            };
            // With it goes the record of this process, before the process does.
            drop(run);
            // Nobody listens any more only when the process ends.
            drop(sender.send(Ended::Done(done)));
        })?;
    match ended.recv() {
        Ok(Ended::Done(done)) => done,
        Ok(Ended::Forced) => Err(ark_engine::Error::Cancelled.into()),
        Err(_) => Err(no_result()),
    }
}

fn no_result() -> Error {
    Error::Bug("the operation ended without a result".to_owned())
}

/// What an operation says, also if it panics: then the panic's own message has told more. Without this its end would
/// be waited for.
fn told(operation: impl FnOnce() -> Result<EngineExit>) -> Result<EngineExit> {
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|_| Err(no_result()))
}

/// The signals that end an operation.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None`: whoever started the process wants it to outlive the terminal.
    hang_up: Option<Signal>,
}

impl Signals {
    fn listen() -> Result<Self> {
        let hang_up = (!is_hang_up_ignored()).then(|| signal(SignalKind::hangup()));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: hang_up.transpose()?,
        })
    }

    async fn next(&mut self) {
        let Self {
            interrupt,
            terminate,
            hang_up,
        } = self;
        let hang_up = async {
            match hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// Whether SIGHUP was ignored when the process began. What the system does not tell is not so.
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The bit of signal 1.
    mask.is_some_and(|mask| mask & 1 != 0)
}

/// Cancels on the first signal; ends the wait on the second, or after a while.
async fn watch(mut signals: Signals, cancel: Cancel, ended: Sender<Ended>) {
    signals.next().await;
    cancel.cancel();
    tokio::select! {
        () = signals.next() => {}
        () = tokio::time::sleep(GRACE) => {}
    }
    // If nobody listens, it has ended.
    drop(ended.send(Ended::Forced));
}

fn dispatch(verb: Verb, run: &Run) -> Result<EngineExit> {
    match verb {
        Verb::Init(args) => init::run(run, &args),
        Verb::Backup(args) => backup::run(run, &args),
        Verb::Snapshots(args) => snapshots::run(run, &args),
        Verb::Ls(args) => ls::run(run, &args),
        Verb::Find(args) => find::run(run, &args),
        Verb::Diff(args) => diff::run(run, &args),
        Verb::Stats(args) => stats::run(run, &args),
        Verb::Restore(args) => restore::run(run, args),
        Verb::Dump(args) => dump::run(run, &args),
        Verb::Check(args) => check::run(run, &args),
        Verb::Forget(args) => forget::run(run, *args),
        Verb::Prune(args) => prune::run(run, &args),
        Verb::Repair(verb) => repair::run(run, &verb),
        Verb::Copy(args) => copy::run(run, &args),
        Verb::Migrate(args) => migrate::run(run, &args),
        Verb::Key(verb) => key::run(run, &verb),
        Verb::Unlock(args) => unlock::run(run, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_that_panics_has_a_result() {
        let done = told(|| panic!("an operation that panics, on purpose"));
        assert!(matches!(done, Err(Error::Bug(_))));
        assert!(matches!(
            told(|| Ok(EngineExit::Done)),
            Ok(EngineExit::Done)
        ));
    }
}
