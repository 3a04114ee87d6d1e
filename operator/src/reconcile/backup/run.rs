//! One attempt at a backup.
//!
//! Order of writes: status InProgress; the claim object in the bucket; bundle on the operator's disk;
//! `PodVolumeBackup` objects; then to the bucket the bundle, names, volume rows, volume objects, results,
//! log, and the marker last; then the final status, which is the marker's. Interrupted anywhere it starts
//! again from the top as another attempt and recognises its own claim and volume objects; interrupted after
//! the marker it only copies the status.
//!
//! Fails: what concerns one object or volume is a row; what makes the backup useless is `Failed` with the
//! reason; a stop and an API server that does not answer are an error, and the driver comes back.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ark_api::backup::{Backup, BackupPhase, BackupStatus};
use ark_api::{PodVolumeBackup, layout};
use ark_engine::Store;
use kube::api::ListParams;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::status;
use super::validate::Plan;
use super::volumes::Volumes;
use crate::agents;
use crate::bucket::artefact::write_json_gz;
use crate::bucket::claim::{self, Claim, Claimed};
use crate::bucket::patience::with_patience;
use crate::bundle::write::Sink;
use crate::collect::run::{Collected, Collector};
use crate::context::Context;
use crate::error::{Class, Error, Result};
use crate::list;
use crate::metrics::Outcome as OutcomeLabels;
use crate::run_log::{About, RunLog};
use crate::store;
use crate::volumes::plan::{Rules, plan as plan_volumes};

/// After this many attempts a run is not tried again.
const MAX_ATTEMPTS: i32 = 10;
/// How often progress is written.
const PROGRESS: Duration = Duration::from_secs(1);

/// What one attempt works with.
struct Run<'a> {
    context: &'a Context,
    backup: Backup,
    plan: &'a Plan,
    spool: &'a Path,
    log: RunLog,
    stop: &'a CancellationToken,
}

/// Makes one attempt, and writes its end into the status.
pub(super) async fn run(
    context: &Context,
    backup: &Backup,
    plan: &Plan,
    stop: &CancellationToken,
) -> Result<()> {
    let name = backup.name_any();
    let uid = backup.uid().unwrap_or_default();
    let now = context.clock.time();
    let api = context.api::<Backup>();
    let backup = crate::status::update(&api, &name, &uid, |backup| {
        status::start(backup, &context.cluster, &now);
    })
    .await?;
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
    match run.attempt().await {
        Ok(finished) => run.end(finished).await,
        Err(Error::Stopping) => Err(Error::Stopping),
        Err(_) if stop.is_cancelled() => Err(Error::Stopping),
        Err(error) if run.worth_another_attempt(&error) => Err(error),
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
        let attempt = self
            .backup
            .status
            .as_ref()
            .and_then(|s| s.attempt)
            .unwrap_or_default();
        matches!(error, Error::Kube { .. })
            && error.class() == Class::Transient
            && attempt < MAX_ATTEMPTS
    }

    /// The backup as it ended.
    async fn attempt(&self) -> Result<Backup> {
        let name = self.name();
        let attempt = self
            .backup
            .status
            .as_ref()
            .and_then(|s| s.attempt)
            .unwrap_or(1);
        self.log.info(format!(
            "backup {name} to location {}, attempt {attempt}, cluster {}, ark {}",
            self.plan.location,
            self.context.cluster,
            env!("CARGO_PKG_VERSION")
        ));
        let store = self.store().await?;
        match self.claim(&store).await? {
            Claimed::Ours => {}
            Claimed::Finished(marker) => return Ok(*marker),
            Claimed::Taken(why) => return Ok(self.refuse(&why)),
            Claimed::Abandoned(_) => {
                return Ok(self.refuse(&format!(
                    "another Backup of this cluster claims the name {name}"
                )));
            }
        }
        let bundle = self.spool.join("bundle.tar.gz");
        let seconds = u64::try_from(self.context.clock.now().as_second()).unwrap_or_default();
        let sink = Sink::create(&bundle, seconds)?;
        let collected = self.collect(&sink).await;
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
        let objects = Volumes {
            context: self.context,
            backup: &self.backup,
            location: &self.plan.location,
            store: &store,
            timeout: self.plan.volume_timeout,
            log: &self.log,
            stop: self.stop,
        }
        .take(&mut volumes)
        .await?;
        self.phase(BackupPhase::Finalizing).await?;
        self.write(&store, &bundle, &collected, &volumes.rows, &objects)
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

    /// The location's store; every request to it ends with the run.
    async fn store(&self) -> Result<Store> {
        let open = || store::connect(self.context, &self.plan.location);
        let location = with_patience(self.stop, open).await?;
        Ok(location.store.with_cancel(self.stop.clone()))
    }

    async fn claim(&self, store: &Store) -> Result<Claimed> {
        let (name, ours) = (self.name(), self.ours());
        let claimed = with_patience(self.stop, || claim::acquire(store, &name, &ours)).await?;
        let Claimed::Abandoned(old) = claimed else {
            return Ok(claimed);
        };
        // A Backup that was deleted before it ended leaves its claim behind; one that is there holds it.
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
        with_patience(self.stop, || claim::release(store, &name, &old)).await?;
        with_patience(self.stop, || claim::acquire(store, &name, &ours)).await
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
            stop: self.stop,
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
                    self.update(|backup| {
                        status::progress(backup.status.get_or_insert_default(), items, false);
                    })
                    .await?;
                }
            }
        }
    }

    async fn phase(&self, phase: BackupPhase) -> Result<()> {
        self.update(|backup| backup.status.get_or_insert_default().phase = Some(phase))
            .await
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
        store: &Store,
        bundle: &Path,
        collected: &Collected,
        rows: &[ark_api::volume::VolumeRow],
        objects: &[PodVolumeBackup],
    ) -> Result<Backup> {
        let (name, stop) = (self.name(), self.stop);
        with_patience(stop, || async {
            Ok(store.write_file(&layout::bundle(&name), bundle).await?)
        })
        .await?;
        let path = layout::resource_list(&name);
        with_patience(stop, || {
            write_json_gz(store, &path, &collected.resource_list)
        })
        .await?;
        let path = layout::volume_rows(&name);
        with_patience(stop, || write_json_gz(store, &path, &rows)).await?;
        let path = layout::pod_volume_backups(&name);
        with_patience(stop, || write_json_gz(store, &path, &objects)).await?;

        let mut backup = self.backup.clone();
        let outcome = status::Outcome {
            items: collected.items,
            rows,
            errors: self.log.errors(),
            warnings: self.log.warnings(),
        };
        status::finish(&mut backup, self.plan, &outcome, &self.context.clock.time());
        let phase = backup
            .status
            .as_ref()
            .and_then(|s| s.phase)
            .unwrap_or_default();
        self.log.info(format!(
            "backup {name} ends as {phase:?}: {} items, {} errors, {} warnings",
            outcome.items, outcome.errors, outcome.warnings
        ));
        self.write_log(store).await?;
        let marker = marker(&backup)?;
        let path = layout::marker(&name);
        with_patience(stop, || async {
            Ok(store.write(&path, marker.clone().into()).await?)
        })
        .await?;
        Ok(backup)
    }

    /// Results and log.
    async fn write_log(&self, store: &Store) -> Result<()> {
        let (name, results) = (self.name(), self.log.results());
        let path = layout::backup_results(&name);
        with_patience(self.stop, || write_json_gz(store, &path, &results)).await?;
        let log = self.log.finish()?;
        let path = layout::backup_logs(&name);
        with_patience(self.stop, || async {
            Ok(store.write_file(&path, &log).await?)
        })
        .await
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
                let store = location.store.with_cancel(self.stop.clone());
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

/// The marker: the Backup as it ended, without what only this API server can make sense of.
fn marker(backup: &Backup) -> Result<Vec<u8>> {
    let mut backup = backup.clone();
    backup.metadata.managed_fields = None;
    serde_json::to_vec(&backup).map_err(|error| Error::Bug(error.to_string()))
}
