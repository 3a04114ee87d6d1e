//! One attempt at a backup.
//!
//! Order of writes: status InProgress; the claim object in the bucket; bundle on the operator's disk;
//! `PodVolumeBackup` objects; then to the bucket the bundle, names, volume rows, volume objects, results,
//! log, and the marker last; then the final status, which is the marker's. Interrupted anywhere it starts
//! again from the top as another attempt and recognises its own claim and volume objects; interrupted after
//! the marker it only copies the status.
//!
//! The attempt is counted in the status before it begins, and why the one before it ended is kept; after
//! [`attempts::MAX`] the backup fails. What is only told, like progress, never ends an attempt when it cannot be
//! written. Once volumes are stored, a store that is away is waited for as long as a volume may take.
//!
//! Cancelled by the user while it collects, it stores nothing; while volumes are taken, the
//! finished ones are stored with all items, and the backup can be restored. Deleted, it gives its
//! name in the bucket back.
//!
//! Fails: what concerns one object or volume is a row; what makes the backup useless is `Failed`
//! with the reason; a stop and an API server that does not answer are an error, and another attempt
//! follows.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ark_api::backup::{Backup, BackupPhase, BackupStatus};
use ark_api::condition::reason;
use ark_api::volume::VolumeRow;
use ark_api::{PodVolumeBackup, layout};
use ark_engine::Store;
use kube::api::ListParams;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::status;
use super::validate::Plan;
use super::volumes::Volumes;
use crate::agents;
use crate::bucket::artefact::write_json_gz;
use crate::bucket::claim::{self, Claim, Claimed};
use crate::bucket::patience::Patience;
use crate::bundle::write::Sink;
use crate::collect::run::{Collected, Collector};
use crate::context::Context;
use crate::error::{Class, Error, Result};
use crate::list;
use crate::metrics::Outcome as OutcomeLabels;
use crate::plugin_config;
use crate::run::{Stop, attempts};
use crate::run_log::{About, RunLog};
use crate::snapshot_check::wrong_snapshots;
use crate::store;
use crate::volumes::plan::{Rules, plan as plan_volumes};

/// How often progress is written.
const PROGRESS: Duration = Duration::from_secs(1);

/// What one attempt works with.
struct Run<'a> {
    context: &'a Context,
    backup: Backup,
    plan: &'a Plan,
    spool: &'a Path,
    log: RunLog,
    stop: &'a Stop,
}

/// Makes one attempt, and writes its end into the status.
pub(super) async fn act(
    context: &Context,
    backup: &Backup,
    plan: &Plan,
    stop: &Stop,
) -> Result<()> {
    let ended = begin(context, backup, plan, stop).await;
    if stop.is_deleted() {
        tracing::info!(
            backup = backup.name_any(),
            "deleted while it was running; stopped"
        );
        give_back(context, backup, plan).await;
        return Ok(());
    }
    ended
}

async fn begin(context: &Context, backup: &Backup, plan: &Plan, stop: &Stop) -> Result<()> {
    let name = backup.name_any();
    let uid = backup.uid().unwrap_or_default();
    let now = context.clock.time();
    let api = context.api::<Backup>();
    let cause = context.runs.cause(&uid);
    let before = backup.status.clone().unwrap_or_default();
    let exhausted =
        attempts::exhausted(before.attempt.unwrap_or_default(), &before.failed_attempts);
    let backup = match exhausted {
        None => {
            crate::status::update(&api, &name, &uid, |backup| {
                status::start(backup, &context.cluster, cause.as_deref(), &now);
            })
            .await?
        }
        Some(_) => backup.clone(),
    };
    if before.attempt.is_none()
        && let Some(created) = backup.creation_timestamp()
    {
        let waited = now.0.duration_since(created.0).as_secs_f64();
        context.metrics.backup_queue_wait.observe(waited.max(0.0));
    }
    if backup.spec.cancel == Some(true) {
        stop.wish.cancel();
    }
    let spool = tempfile::Builder::new()
        .prefix("ark-backup-")
        .tempdir_in(&context.settings.spool)
        .map_err(Error::io("make a spool directory"))?;
    let log = RunLog::create(
        &format!("backup/{name}"),
        spool.path(),
        context.clock.clone(),
    )?;
    let run = Run {
        context,
        plan,
        spool: spool.path(),
        log,
        stop,
        backup,
    };
    if let Some(why) = exhausted {
        return run.fail(&why, true).await;
    }
    match run.attempt().await {
        Ok(finished) => run.end(finished).await,
        Err(_) if stop.now.is_cancelled() => Err(Error::Stopping),
        Err(Error::Cancelled) => run.cancel().await,
        Err(error) if run.worth_another_attempt(&error) => {
            run.interrupt(&error).await;
            Err(error)
        }
        Err(error) => run.fail(&error.sentence(), true).await,
    }
}

impl Run<'_> {
    fn name(&self) -> String {
        self.backup.name_any()
    }

    fn ours(&self) -> Claim {
        Claim {
            cluster: self.context.cluster.clone(),
            backup_uid: self.backup.uid().unwrap_or_default(),
        }
    }

    /// An API server that does not answer will again; everything else was tried often enough.
    fn worth_another_attempt(&self, error: &Error) -> bool {
        matches!(error, Error::Kube { .. })
            && error.class() == Class::Transient
            && self.number() < attempts::MAX
    }

    /// Says in the status why the attempt ends; the next one says it if that cannot be written now.
    async fn interrupt(&self, error: &Error) {
        let (cause, now) = (error.sentence(), self.context.clock.time());
        let told = self.update(|backup| {
            status::interrupt(backup, error.reason(), &cause, &now);
        });
        if let Err(error) = told.await {
            tracing::warn!(backup = self.name(), %error, "why an attempt ended cannot be written");
        }
    }

    /// Number of this attempt.
    fn number(&self) -> i32 {
        let status = self.backup.status.as_ref();
        status.and_then(|status| status.attempt).unwrap_or(1)
    }

    /// How long a store is waited for once volumes are stored. Whoever cancels does not want to
    /// wait.
    fn end_patience(&self) -> Patience {
        if self.stop.wish.is_cancelled() {
            Patience::short()
        } else {
            Patience::until(self.deadline())
        }
    }

    /// Until when a store that is away is waited for, once there is something to lose.
    fn deadline(&self) -> Instant {
        Instant::now() + self.plan.volume_timeout
    }

    /// The backup as it ended.
    async fn attempt(&self) -> Result<Backup> {
        let name = self.name();
        let attempt = self.number();
        self.log.info(format!(
            "backup {name} to location {}, attempt {attempt}, cluster {}, ark {}",
            self.plan.location,
            self.context.cluster,
            env!("CARGO_PKG_VERSION")
        ));
        // An earlier attempt may have had volumes stored.
        let patience = match attempt {
            1 => Patience::short(),
            _ => Patience::until(self.deadline()),
        };
        match self
            .with_store(patience, |store| async move { self.claim(&store).await })
            .await?
        {
            Claimed::Ours => {}
            Claimed::Finished(marker) => return Ok(*marker),
            Claimed::Taken(why) => return Ok(self.refuse(&why)),
            Claimed::Abandoned(_) => {
                return Ok(self.refuse(&format!(
                    "another Backup of this cluster claims the name {name}"
                )));
            }
        }
        plugin_config::warn(self.context, &self.log, plugin_config::OF_BACKUPS).await;
        let bundle = self.spool.join("bundle.tar.gz");
        let seconds = u64::try_from(self.context.clock.now().as_second()).unwrap_or_default();
        let sink = Sink::create(&bundle, seconds)?;
        let collected = tokio::select! {
            collected = self.collect(&sink) => collected,
            () = self.stop.wish.cancelled() => Err(Error::Cancelled),
        };
        // The writer's own error is the better one.
        let bundle = sink.finish().await?;
        let collected = collected?;
        self.log
            .info(format!("{} items collected", collected.items));

        let agents = agents::ready_nodes(self.context).await?;
        let rules = Rules {
            opt_out: self.plan.opt_out,
            claims_excluded: collected.claims_excluded,
        };
        let mut volumes = plan_volumes(&collected.facts, &agents, rules);
        for (namespace, warning) in &volumes.warnings {
            self.log.warn(About::Namespace(namespace), warning);
        }
        let work = Volumes {
            context: self.context,
            backup: &self.backup,
            plan: self.plan,
            log: &self.log,
            stop: self.stop,
        };
        let objects = work.take(&mut volumes).await?;
        let (context, location, ended) = (self.context, &self.plan.location, &objects);
        let wrong = self.with_store(self.end_patience(), |store| async move {
            let wrong = wrong_snapshots(context, location, &store, ended).await?;
            if !wrong.is_empty() {
                self.holds_claim(&store).await?;
            }
            Ok(wrong)
        });
        work.settle(&mut volumes, &wrong.await?);
        let phase = if self.stop.wish.is_cancelled() {
            BackupPhase::Canceling
        } else {
            BackupPhase::Finalizing
        };
        self.tell_phase(phase).await;
        self.write(&bundle, &collected, &volumes.rows, &objects)
            .await
    }

    /// Nothing of ours is in the bucket, so nothing may be written there either.
    fn refuse(&self, why: &str) -> Backup {
        let mut backup = self.backup.clone();
        self.log.error(About::Ark, why);
        let now = self.context.clock.time();
        status::fail(
            &mut backup,
            why,
            self.log.errors(),
            self.log.warnings(),
            &now,
        );
        backup
    }

    /// Does something with the location's store, again and again while it fails in a way that may
    /// pass. Location and credentials are read anew for each try; every request ends with the run.
    async fn with_store<T, W>(&self, mut patience: Patience, work: impl Fn(Store) -> W) -> Result<T>
    where
        W: Future<Output = Result<T>>,
    {
        // Whoever cancels does not want to wait for the store, unless the end of a cancelled run is
        // written.
        let cancelled = self.stop.wish.is_cancelled();
        let mut told = false;
        loop {
            let tried = async {
                let location = store::connect(self.context, &self.plan.location).await?;
                work(location.store.with_cancel(self.stop.now.clone())).await
            };
            let error = match tried.await {
                Ok(done) => {
                    if told {
                        self.tell_waiting(None).await;
                    }
                    return Ok(done);
                }
                Err(_) if self.stop.now.is_cancelled() => return Err(Error::Stopping),
                Err(error) => error,
            };
            let Some(wait) = patience.wait(&error) else {
                return Err(error);
            };
            self.log.info(format!(
                "tried again in {} s: {}",
                wait.as_secs(),
                error.sentence()
            ));
            self.tell_waiting(Some(&error)).await;
            told = true;
            tokio::select! {
                () = self.stop.now.cancelled() => return Err(Error::Stopping),
                () = self.stop.wish.cancelled(), if !cancelled => return Err(Error::Cancelled),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether the store holds what this run wrote there first. A mount point without its file
    /// system holds nothing, and what is absent there is no verdict about anything.
    async fn holds_claim(&self, store: &Store) -> Result<()> {
        if claim::read(store, &self.name()).await?.as_ref() == Some(&self.ours()) {
            return Ok(());
        }
        Err(Error::Store {
            message: format!(
                "{} no longer holds what this backup wrote when it began",
                store.location()
            ),
            hint: "see whether the file system or the bucket of the location is the one it was; \
                   the backup goes on once it is back"
                .to_owned(),
            class: Class::Waiting,
            reason: reason::LOCATION_UNAVAILABLE,
        })
    }

    async fn claim(&self, store: &Store) -> Result<Claimed> {
        let (name, ours) = (self.name(), self.ours());
        let claimed = claim::acquire(store, &name, &ours).await?;
        let Claimed::Abandoned(old) = claimed else {
            return Ok(claimed);
        };
        // A Backup that was deleted before it ended leaves its claim behind; one that is there
        // holds it.
        let api = Api::<Backup>::all(self.context.client.clone());
        let api = &api;
        let page = |params| async move { api.list_metadata(&params).await };
        let backups = list::pages(&ListParams::default(), "Backups", page).await?;
        if backups
            .iter()
            .any(|b| b.uid().as_deref() == Some(old.backup_uid.as_str()))
        {
            return Ok(Claimed::Abandoned(old));
        }
        self.log.info(format!(
            "the claim of deleted Backup {} is given up",
            old.backup_uid
        ));
        claim::release(store, &name, &old).await?;
        claim::acquire(store, &name, &ours).await
    }

    /// Collects, and writes the number of items now and then.
    async fn collect(&self, sink: &Sink) -> Result<Collected> {
        let items = AtomicUsize::new(0);
        let note = |count: usize| items.store(count, Ordering::Relaxed);
        let collector = Collector {
            client: &self.context.client,
            spec: &self.backup.spec,
            sink,
            log: &self.log,
            stop: &self.stop.now,
            progress: &note,
        };
        let mut collecting = std::pin::pin!(collector.run(&self.context.namespace));
        let mut tick = tokio::time::interval(PROGRESS);
        tick.tick().await;
        loop {
            tokio::select! {
                collected = &mut collecting => return collected,
                _ = tick.tick() => {
                    let items = items.load(Ordering::Relaxed);
                    let told = self.update(|backup| {
                        status::progress(backup.status.get_or_insert_default(), items, false);
                    });
                    if let Err(error) = told.await {
                        tracing::warn!(backup = self.name(), %error, "progress cannot be written");
                    }
                }
            }
        }
    }

    /// Writes a phase. It is only told: nothing depends on it.
    async fn tell_phase(&self, phase: BackupPhase) {
        let told = self.update(|backup| backup.status.get_or_insert_default().phase = Some(phase));
        if let Err(error) = told.await {
            tracing::warn!(backup = self.name(), %error, ?phase, "a phase cannot be written");
        }
    }

    /// Writes what is waited for. It is only told: nothing depends on it.
    async fn tell_waiting(&self, error: Option<&Error>) {
        let now = self.context.clock.time();
        let what = error.map(|error| (error.reason(), error.sentence()));
        let told = self.update(|backup| {
            let what = what.as_ref().map(|(reason, text)| (*reason, text.as_str()));
            status::wait(backup, what, &now);
        });
        if let Err(error) = told.await {
            tracing::warn!(backup = self.name(), %error, "what is waited for cannot be written");
        }
    }

    async fn update(&self, change: impl FnMut(&mut Backup)) -> Result<()> {
        let uid = self.backup.uid().unwrap_or_default();
        crate::status::update(&self.context.api(), &self.name(), &uid, change)
            .await
            .map(drop)
    }

    /// Writes all artefacts, the marker last.
    async fn write(
        &self,
        bundle: &Path,
        collected: &Collected,
        rows: &[VolumeRow],
        objects: &[PodVolumeBackup],
    ) -> Result<Backup> {
        let name = self.name();
        let cancelled = self.stop.wish.is_cancelled();
        let (at, names) = (&name, &collected.resource_list);
        self.with_store(self.end_patience(), |store| async move {
            store.write_file(&layout::bundle(at), bundle).await?;
            write_json_gz(&store, &layout::resource_list(at), names).await?;
            write_json_gz(&store, &layout::volume_rows(at), &rows).await?;
            write_json_gz(&store, &layout::pod_volume_backups(at), &objects).await
        })
        .await?;

        let mut backup = self.backup.clone();
        let outcome = status::Outcome {
            items: collected.items,
            rows,
            errors: self.log.errors(),
            warnings: self.log.warnings(),
            cancelled,
        };
        status::finish(&mut backup, self.plan, &outcome, &self.context.clock.time());
        self.context.metrics.count_volumes(rows);
        let phase = backup
            .status
            .as_ref()
            .and_then(|s| s.phase)
            .unwrap_or_default();
        self.log.info(format!(
            "backup {name} ends as {phase:?}: {} items, {} errors, {} warnings",
            outcome.items, outcome.errors, outcome.warnings
        ));
        let (marker, path) = (marker(&backup)?, layout::marker(&name));
        let (marker, path) = (&marker, &path);
        self.with_store(self.end_patience(), |store| async move {
            self.write_log(&store).await?;
            Ok(store.write(path, marker.clone().into()).await?)
        })
        .await?;
        Ok(backup)
    }

    /// Results and log.
    async fn write_log(&self, store: &Store) -> Result<()> {
        let (name, results) = (self.name(), self.log.results());
        write_json_gz(store, &layout::backup_results(&name), &results).await?;
        let log = self.log.finish()?;
        store.write_file(&layout::backup_logs(&name), &log).await?;
        Ok(())
    }

    /// Ends as Canceled before anything that can be restored is stored; the name is given back.
    async fn cancel(&self) -> Result<()> {
        give_back(self.context, &self.backup, self.plan).await;
        let what = "cancelled before its items were stored; it cannot be restored";
        self.log.info(what);
        let now = self.context.clock.time();
        let mut ended = self.backup.clone();
        self.update(|backup| {
            status::cancel(backup, what, &now);
            ended = backup.clone();
        })
        .await?;
        self.tell(&ended.status.unwrap_or_default()).await;
        Ok(())
    }

    /// Writes the end into the status.
    async fn end(&self, finished: Backup) -> Result<()> {
        let ended = finished.status.unwrap_or_default();
        self.tell(&ended).await;
        self.update(|backup| backup.status = Some(ended.clone()))
            .await
    }

    /// Ends as Failed. `stored`: the name is ours, so log and results may be written.
    async fn fail(&self, why: &str, stored: bool) -> Result<()> {
        self.log
            .error(About::Ark, format!("the backup failed: {why}"));
        if stored {
            let kept = async {
                // Tried once: the run has put up with the store for long enough.
                let location = store::connect(self.context, &self.plan.location).await?;
                let store = location.store.with_cancel(self.stop.now.clone());
                if claim::read(&store, &self.name()).await?.as_ref() == Some(&self.ours()) {
                    self.write_log(&store).await?;
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = kept.await {
                tracing::warn!(backup = self.name(), %error, "the log of a failed backup cannot be stored");
            }
        }
        let now = self.context.clock.time();
        let (errors, warnings) = (self.log.errors(), self.log.warnings());
        let mut ended = self.backup.clone();
        self.update(|backup| {
            status::fail(backup, why, errors, warnings, &now);
            ended = backup.clone();
        })
        .await?;
        self.tell(&ended.status.unwrap_or_default()).await;
        Ok(())
    }

    /// Counts the end and puts an event on the Backup.
    async fn tell(&self, status: &BackupStatus) {
        let ended = status.phase.unwrap_or_default();
        let metrics = &self.context.metrics;
        let phase = format!("{ended:?}").to_lowercase();
        metrics
            .backups
            .get_or_create(&OutcomeLabels { phase })
            .inc();
        if let (Some(start), Some(end)) = (&status.start_timestamp, &status.completion_timestamp) {
            metrics
                .backup_seconds
                .observe(end.0.duration_since(start.0).as_secs_f64());
        }
        let kind = if ended == BackupPhase::Completed {
            EventType::Normal
        } else {
            EventType::Warning
        };
        let note = status.failure_reason.clone().unwrap_or_else(|| {
            let items = status
                .progress
                .as_ref()
                .map_or(0, |progress| progress.items_backed_up);
            let (errors, warnings) = (
                status.errors.unwrap_or_default(),
                status.warnings.unwrap_or_default(),
            );
            format!("{items} items stored, {errors} errors, {warnings} warnings")
        });
        self.context
            .event(&self.backup, kind, &format!("{ended:?}"), &note)
            .await;
    }
}

/// Removes what a run that stored nothing left in the bucket, so that the name can be used again.
/// Snapshots stay in the repository; nothing points to them, and maintenance removes them.
async fn give_back(context: &Context, backup: &Backup, plan: &Plan) {
    let claim = Claim {
        cluster: context.cluster.clone(),
        backup_uid: backup.uid().unwrap_or_default(),
    };
    let work = async {
        let location = store::connect(context, &plan.location).await?;
        claim::release(&location.store, &backup.name_any(), &claim).await
    };
    if let Err(error) = work.await {
        tracing::warn!(backup = backup.name_any(), %error, "what the backup wrote could not be removed");
    }
}

/// The marker: the Backup as it ended, without what only this API server can make sense of.
fn marker(backup: &Backup) -> Result<Vec<u8>> {
    let mut backup = backup.clone();
    backup.metadata.managed_fields = None;
    serde_json::to_vec(&backup).map_err(|error| Error::Bug(error.to_string()))
}
