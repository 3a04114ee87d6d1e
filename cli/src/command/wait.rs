//! `--wait`: follows a backup or restore until it has ended, by watching it and its volumes.
//!
//! Ends with the exit code of the phase; with a timeout or after Ctrl-C what runs in the cluster
//! goes on, and the message says so. A watch that breaks is taken up again.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use ark_api::condition::{self, kind};
use ark_api::pod_volume_backup::{VolumePhase, VolumeProgress};
use ark_api::{Backup, PodVolumeBackup, PodVolumeRestore, Restore, duration, label};
use clap::Args;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watch_object};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::Context;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::{Cluster, Kind};
use crate::print;
use crate::print::progress::{Progress, ProgressLine, VolumeState};

/// Options of commands that can wait.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct WaitOptions {
    /// Wait until it has ended; the exit code then says how
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// Longest time to wait, for example 10m; 0 means without limit
    #[arg(long, value_name = "DURATION", default_value = "0", requires = "wait")]
    timeout: duration::Duration,
}

impl WaitOptions {
    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<Duration> {
        (!self.timeout.0.is_zero()).then_some(self.timeout.0)
    }
}

/// Something that is waited for.
trait Waited: Kind {
    /// Its noun on the command line.
    const NOUN: &'static str;
    /// The volume objects it makes.
    type Volume: VolumeObject;
    /// Its exit code, once it has ended.
    fn ended(&self) -> Option<Exit>;
    /// How far it is.
    fn progress(&self) -> Progress;
    /// How it ended, in words.
    fn summary(&self) -> String;
    /// What its volume objects are labelled with.
    fn volume_label() -> &'static str;
}

/// A volume object.
trait VolumeObject: Kind {
    /// What of it matters for progress.
    fn state(&self) -> VolumeState;
}

fn volume_state(phase: Option<VolumePhase>, progress: Option<&VolumeProgress>) -> VolumeState {
    VolumeState {
        phase: phase.unwrap_or_default(),
        done: progress.map_or(0, |p| p.bytes_done),
        total: progress.map_or(0, |p| p.total_bytes),
    }
}

impl VolumeObject for PodVolumeBackup {
    fn state(&self) -> VolumeState {
        let status = self.status.as_ref();
        volume_state(
            status.and_then(|s| s.phase),
            status.and_then(|s| s.progress.as_ref()),
        )
    }
}

impl VolumeObject for PodVolumeRestore {
    fn state(&self) -> VolumeState {
        let status = self.status.as_ref();
        volume_state(
            status.and_then(|s| s.phase),
            status.and_then(|s| s.progress.as_ref()),
        )
    }
}

impl Waited for Backup {
    const NOUN: &'static str = "backup";
    type Volume = PodVolumeBackup;

    fn ended(&self) -> Option<Exit> {
        Exit::of_backup(print::backup::phase(self))
    }

    fn progress(&self) -> Progress {
        let status = self.status.clone().unwrap_or_default();
        let items = status.progress.unwrap_or_default();
        Progress {
            phase: format!("{:?}", print::backup::phase(self)),
            items: (items.items_backed_up, items.total_items),
            volumes: Vec::new(),
            waiting: waiting(&status.conditions),
        }
    }

    fn summary(&self) -> String {
        print::backup::summary(self)
    }

    fn volume_label() -> &'static str {
        label::BACKUP_NAME
    }
}

impl Waited for Restore {
    const NOUN: &'static str = "restore";
    type Volume = PodVolumeRestore;

    fn ended(&self) -> Option<Exit> {
        Exit::of_restore(print::restore::phase(self))
    }

    fn progress(&self) -> Progress {
        let status = self.status.clone().unwrap_or_default();
        let items = status.progress.unwrap_or_default();
        Progress {
            phase: format!("{:?}", print::restore::phase(self)),
            items: (items.items_restored, items.total_items),
            volumes: Vec::new(),
            waiting: waiting(&status.conditions),
        }
    }

    fn summary(&self) -> String {
        print::restore::summary(self)
    }

    fn volume_label() -> &'static str {
        label::RESTORE_NAME
    }
}

fn waiting(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
) -> Option<String> {
    condition::get(conditions, kind::WAITING)
        .filter(|c| c.status == "True")
        .map(|c| {
            if c.message.is_empty() {
                c.reason.clone()
            } else {
                c.message.clone()
            }
        })
}

/// Waits for a backup and prints how it ended.
pub(crate) async fn backup(
    context: &Context,
    cluster: &Cluster,
    backup: &Backup,
    limit: Option<Duration>,
) -> Result<Exit> {
    wait(context, cluster, backup, limit).await
}

/// Waits for a restore and prints how it ended.
pub(crate) async fn restore(
    context: &Context,
    cluster: &Cluster,
    restore: &Restore,
    limit: Option<Duration>,
) -> Result<Exit> {
    wait(context, cluster, restore, limit).await
}

async fn wait<W: Waited>(
    context: &Context,
    cluster: &Cluster,
    object: &W,
    limit: Option<Duration>,
) -> Result<Exit> {
    let name = object.name_any();
    // Before anything is said: who reads it may interrupt at once.
    let mut interrupts = Interrupts::listen()?;
    let mut line = ProgressLine::new(context.printer, format!("{} {name}", W::kind(&())));
    let ended = tokio::select! {
        ended = follow(cluster, object, &mut line) => ended,
        () = deadline(limit) => Err(Error::Timeout {
            message: format!(
                "{} {name:?} has not ended after {}",
                W::kind(&()),
                print::human::span(limit.unwrap_or_default())
            ),
            hint: goes_on::<W>(&name),
        }),
        () = interrupts.next() => Err(Error::Cancelled {
            message: "interrupted".to_owned(),
            hint: goes_on::<W>(&name),
        }),
    };
    line.clear();
    let (ended, exit) = ended?;
    context.printer.out(&ended.summary())?;
    Ok(exit)
}

fn goes_on<W: Waited>(name: &str) -> String {
    format!(
        "it goes on in the cluster; `ark {} describe {name}` shows how far it is",
        W::NOUN
    )
}

async fn deadline(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// The signals that end a wait: SIGINT and SIGTERM.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Takes the signals from now on; until then they end the process.
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Error::Output)?,
            terminate: signal(SignalKind::terminate()).map_err(Error::Output)?,
        })
    }

    /// Ends with the next signal.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Follows the object until it has ended.
async fn follow<W: Waited>(
    cluster: &Cluster,
    object: &W,
    line: &mut ProgressLine,
) -> Result<(W, Exit)> {
    let name = object.name_any();
    let uid = object.uid();
    let mut objects = pin!(watch_object(cluster.api::<W>(), &name).default_backoff());
    let mut volumes = volumes::<W>(cluster, &name);
    let mut seen: BTreeMap<String, VolumeState> = BTreeMap::new();
    let mut progress = object.progress();
    let mut tick = tokio::time::interval(ProgressLine::interval());
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last_news = Instant::now();
    loop {
        tokio::select! {
            news = objects.next() => {
                match news {
                    Some(Ok(Some(now))) if now.uid() == uid => {
                        last_news = Instant::now();
                        if let Some(exit) = now.ended() {
                            return Ok((now, exit));
                        }
                        progress = Progress { volumes: progress.volumes, ..now.progress() };
                    }
                    // Gone, or replaced by another object of the same name.
                    Some(Ok(_)) => return Err(Error::Cancelled {
                        message: format!("{} was deleted while it was waited for", cluster.object::<W>(&name)),
                        hint: "nothing is left to wait for".to_owned(),
                    }),
                    Some(Err(error)) => broken::<W>(cluster, &name, &error, last_news)?,
                    None => return Err(Error::Bug("the watch ended".to_owned())),
                }
            }
            Some(event) = volumes.next() => match event {
                Ok(changed) => {
                    seen.extend(changed);
                    progress.volumes = seen.values().cloned().collect();
                }
                // Volumes are only shown; without the right to see them the rest still works.
                Err(_) => continue,
            },
            _ = tick.tick() => {}
        }
        line.show(&progress);
    }
}

/// The states of the object's volumes, as they change.
fn volumes<W: Waited>(
    cluster: &Cluster,
    name: &str,
) -> BoxStream<'static, std::result::Result<Vec<(String, VolumeState)>, watcher::Error>> {
    let selector = format!("{}={}", W::volume_label(), label::value(name));
    watcher::watcher(
        cluster.api::<W::Volume>(),
        watcher::Config::default().labels(&selector),
    )
    .default_backoff()
    .map_ok(|event| match event {
        Event::InitApply(volume) | Event::Apply(volume) => {
            vec![(volume.name_any(), volume.state())]
        }
        Event::Delete(_) | Event::Init | Event::InitDone => Vec::new(),
    })
    .boxed()
}

/// How long a watch may be broken before waiting is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether a broken watch ends the wait: at once when the user may not watch, else when the
/// cluster has not answered for a while.
fn broken<W: Waited>(
    cluster: &Cluster,
    name: &str,
    error: &watcher::Error,
    last_news: Instant,
) -> Result<()> {
    use crate::error::Reason;
    let reason = match error {
        watcher::Error::InitialListFailed(e)
        | watcher::Error::WatchStartFailed(e)
        | watcher::Error::WatchFailed(e) => crate::error::reason(e),
        watcher::Error::WatchError(status) => Reason::Other(status.message.clone()),
        watcher::Error::NoResourceVersion => Reason::Other(error.to_string()),
    };
    let hopeless = matches!(
        reason,
        Reason::Forbidden(_) | Reason::Unauthorized | Reason::UnknownKind | Reason::Invalid(_)
    );
    if hopeless || last_news.elapsed() > PATIENCE {
        return Err(Error::Api {
            verb: "watch",
            object: cluster.object::<W>(name),
            reason,
        });
    }
    Ok(())
}

/// Waits until `done` gives something for the object `name`, up to `limit`.
pub(crate) async fn until<K: Kind, T>(
    cluster: &Cluster,
    name: &str,
    limit: Duration,
    done: impl Fn(&K) -> Option<T>,
) -> Result<Option<T>> {
    let watched = async {
        let mut objects = pin!(watch_object(cluster.api::<K>(), name).default_backoff());
        while let Some(news) = objects.next().await {
            match news {
                Ok(Some(object)) => {
                    if let Some(result) = done(&object) {
                        return Ok(Some(result));
                    }
                }
                Err(watcher::Error::InitialListFailed(e) | watcher::Error::WatchStartFailed(e)) => {
                    return Err(cluster.failed::<K>("watch", name, &e));
                }
                // Gone, or the watch broke and is taken up again.
                Ok(None) | Err(_) => {}
            }
        }
        Ok(None)
    };
    within(limit, watched).await.unwrap_or(Ok(None))
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
