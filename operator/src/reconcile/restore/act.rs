//! One attempt at a restore.
//!
//! Order: spec checked, backup resolved once and fixed in the status, everything fetched and
//! checked, objects and volumes restored ([`Run`]), artefacts stored, status last. What makes no
//! sense, or names a backup that cannot be restored, ends as `FailedValidation` before anything is
//! touched.
//!
//! A restarted operator does the same again as a new attempt and recognises what earlier ones made.
//! The attempt is counted before anything is touched; after [`attempts::MAX`] the restore fails.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ark_api::restore::{RestorePhase, RestoreStatus};
use ark_api::{Backup, Restore, layout};
use kube::ResourceExt;
use kube::runtime::events::EventType;
use tokio::sync::watch;

use super::fill::Deadlines;
use super::plan::Plan;
use super::report::{Live, Report};
use super::run::Run;
use super::status::{Verdict, Writer};
use super::validate::Order;
use super::volumes::Common;
use super::{cancel, collisions, gates, plan, run, source, validate, volumes, words};
use crate::apply::causes::Causes;
use crate::apply::discover::Served;
use crate::apply::run::Applier;
use crate::apply::transform::Rules;
use crate::apply::volumes::stock::Stock;
use crate::bucket::artefact;
use crate::bucket::patience::with_patience;
use crate::bucket::restore_claim::{self, RestoreClaim};
use crate::bundle::read::Spool;
use crate::collect::discovery::{Discovered, discover};
use crate::context::Context;
use crate::copies;
use crate::error::{Class, Error, Result};
use crate::metrics::Outcome;
use crate::plugin_config;
use crate::run::{Stop, attempts};
use crate::run_log::{About, RunLog};
use crate::store::{self, OpenLocation};

/// Progress is written at most this often.
const PROGRESS: Duration = Duration::from_secs(1);

/// Makes one attempt, and writes its end into the status.
pub(super) async fn act(context: &Arc<Context>, restore: &Restore, stop: &Stop) -> Result<()> {
    let done = tokio::select! {
        verdict = restore_it(context, restore, stop) => Some(verdict),
        () = stop.now.cancelled() => None,
    };
    if stop.is_deleted() {
        tracing::info!(
            restore = restore.name_any(),
            "deleted while it was running; stopped"
        );
        let name = restore.name_any();
        let why = format!("restore {name} was deleted before the volumes were back");
        return give_up(context, restore, &why).await;
    }
    match done {
        None => Err(Error::Stopping),
        Some(Ok(verdict)) => end(context, restore, &verdict).await,
        Some(Err(error)) => {
            let status = restore.status.as_ref();
            let before = status.and_then(|status| status.attempt).unwrap_or_default();
            let writer = Writer::new(context, restore);
            let told = writer.interrupt(before, &error);
            if let Err(error) = told.await {
                tracing::warn!(restore = restore.name_any(), %error, "why an attempt ended cannot be written");
            }
            Err(error)
        }
    }
}

/// Stops the agents that work for a restore, and tells its gates why they wait in vain.
pub(super) async fn give_up(context: &Context, restore: &Restore, why: &str) -> Result<()> {
    let uid = restore.uid().unwrap_or_default();
    volumes::cancel_all(context, &uid).await?;
    gates::tell_all(&context.client, &uid, why).await
}

/// Writes the end.
pub(super) async fn end(context: &Context, restore: &Restore, verdict: &Verdict) -> Result<()> {
    let ended = Writer::new(context, restore).finish(verdict).await?;
    count(context, &ended);
    announce(context, &ended, verdict).await;
    Ok(())
}

fn count(context: &Context, restore: &Restore) {
    let status = restore.status.clone().unwrap_or_default();
    let phase = format!("{:?}", status.phase.unwrap_or_default()).to_lowercase();
    context
        .metrics
        .restores
        .get_or_create(&Outcome { phase })
        .inc();
    if let (Some(start), Some(end)) = (status.start_timestamp, status.completion_timestamp) {
        let seconds = end.0.duration_since(start.0).as_secs_f64();
        context.metrics.restore_seconds.observe(seconds);
    }
}

async fn announce(context: &Context, restore: &Restore, verdict: &Verdict) {
    let good = verdict.phase == RestorePhase::Completed;
    let kind = if good {
        EventType::Normal
    } else {
        EventType::Warning
    };
    let note = verdict
        .failure_reason
        .clone()
        .or_else(|| {
            (!verdict.validation_errors.is_empty()).then(|| verdict.validation_errors.join("; "))
        })
        .unwrap_or_else(|| "everything is back".to_owned());
    let reason = format!("{:?}", verdict.phase);
    context.event(restore, kind, &reason, &note).await;
}

/// One attempt, from the spec to the verdict.
async fn restore_it(context: &Arc<Context>, restore: &Restore, stop: &Stop) -> Result<Verdict> {
    let order = match validate::check(&restore.spec) {
        Ok(order) => order,
        Err(errors) => return Ok(Verdict::invalid(errors)),
    };
    let status = restore.status.clone().unwrap_or_default();
    let exhausted =
        attempts::exhausted(status.attempt.unwrap_or_default(), &status.failed_attempts);
    if let Some(why) = exhausted {
        give_up(context, restore, &why).await?;
        return Ok(Verdict::failed(why));
    }
    let (backup, location) = match find(context, &order, &status).await? {
        Ok(found) => found,
        Err(why) => return invalid_or_failed(context, restore, &status, why).await,
    };
    if let Err(why) = claim(context, restore, &location, &status).await? {
        return invalid_or_failed(context, restore, &status, why).await;
    }
    copies::stamp(&context.api(), restore).await?;
    let writer = Writer::new(context, restore);
    let backup_name = backup.name_any();
    let cause = context.runs.cause(&restore.uid().unwrap_or_default());
    let location_name = location.name();
    let started = writer.start(&backup_name, &location_name, cause.as_deref());
    let restore = started.await?;
    if restore.spec.cancel == Some(true) {
        stop.wish.cancel();
    }
    let attempt = restore.status.as_ref().and_then(|s| s.attempt).unwrap_or(1);

    let spool_dir = tempfile::tempdir_in(&context.settings.spool)
        .map_err(Error::io("make a spool directory"))?;
    let subject = format!("restore/{}", restore.name_any());
    let log = RunLog::create(&subject, spool_dir.path(), context.clock.clone())?;
    let report = Report::new(log);
    report.log.info(format!(
        "restoring backup {backup_name} from location {}, attempt {attempt}",
        location.name()
    ));
    plugin_config::warn(context, &report.log, plugin_config::OF_RESTORES).await;
    let work = async {
        let fatal = attempt_it(
            context,
            &restore,
            order,
            &backup,
            &location,
            (&report, spool_dir.path()),
            stop,
        )
        .await;
        let fatal = match fatal {
            Ok(Ok(())) | Err(Error::Cancelled) => None,
            // It makes no sense for this backup, and nothing was touched.
            Ok(Err(wrong)) => return Ok(Verdict::invalid(wrong)),
            // The API server or the disk: another attempt goes on from here.
            Err(error @ (Error::Kube { .. } | Error::Stopping))
                if error.class() != Class::Permanent =>
            {
                return Err(error);
            }
            Err(error) => {
                report.log.error(About::Ark, error.sentence());
                let why = format!(
                    "restore {} failed: {}",
                    restore.name_any(),
                    error.sentence()
                );
                give_up(context, &restore, &why).await?;
                Some(error.sentence())
            }
        };
        keep(&location, &restore.name_any(), &report, stop).await;
        Ok(if stop.wish.is_cancelled() {
            Verdict::cancelled(Some(&report), &cancel::summary(&report))
        } else {
            Verdict::of(&report, fatal)
        })
    };
    tokio::select! {
        result = work => result,
        never = show_progress(&writer, report.subscribe()) => match never {},
    }
}

/// Before anything was touched, a restore that cannot work is invalid; afterwards it failed, and
/// whoever waits for its volumes is told.
async fn invalid_or_failed(
    context: &Context,
    restore: &Restore,
    status: &RestoreStatus,
    why: String,
) -> Result<Verdict> {
    let mut verdict = Verdict::invalid(vec![why]);
    if status.phase.unwrap_or_default() != RestorePhase::New {
        verdict.phase = RestorePhase::Failed;
        verdict.failure_reason = verdict.validation_errors.pop();
        let why = verdict.failure_reason.as_deref().unwrap_or_default();
        let name = restore.name_any();
        give_up(context, restore, &format!("restore {name} failed: {why}")).await?;
    }
    Ok(verdict)
}

/// The backup and its open location. The inner error is for the user.
async fn find(
    context: &Context,
    order: &Order,
    status: &RestoreStatus,
) -> Result<Result<(Backup, OpenLocation), String>> {
    // Resolved once: a schedule's newest backup may be another one by now.
    let source = match &status.backup_name {
        Some(name) => validate::Source::Backup(name.clone()),
        None => order.source.clone(),
    };
    let backup = match source::resolve(context, &source).await? {
        Ok(backup) => backup,
        Err(why) => return Ok(Err(why)),
    };
    let name = backup
        .spec
        .storage_location
        .clone()
        .or_else(|| {
            backup
                .labels()
                .get(ark_api::label::STORAGE_LOCATION)
                .cloned()
        })
        .or_else(|| context.settings.default_location.clone())
        .unwrap_or_else(|| "default".to_owned());
    let started = status.phase.unwrap_or_default() != RestorePhase::New;
    let location = match store::open_available(context, &name).await {
        Ok(location) => location,
        // Once started, it waits for the location; before, the user is told at once.
        Err(error @ Error::Location { .. }) if !started => return Ok(Err(error.sentence())),
        Err(error) => return Err(error),
    };
    match source::check_marker(&location.store, &backup).await {
        Ok(Ok(())) => Ok(Ok((backup, location))),
        Ok(Err(why)) => Ok(Err(why)),
        Err(error) if started => Err(error),
        Err(error) => Ok(Err(error.sentence())),
    }
}

/// Claims the restore's name in the bucket, where its artefacts go. The inner error is for the
/// user.
async fn claim(
    context: &Context,
    restore: &Restore,
    location: &OpenLocation,
    status: &RestoreStatus,
) -> Result<Result<(), String>> {
    if location.read_only() {
        return Ok(Ok(()));
    }
    let ours = RestoreClaim {
        cluster: context.cluster.clone(),
        restore_uid: restore.uid().unwrap_or_default(),
    };
    match restore_claim::acquire(&location.store, &restore.name_any(), &ours).await {
        Err(error) if status.phase != Some(RestorePhase::InProgress) => Ok(Err(error.sentence())),
        result => result,
    }
}

/// Fetches and restores. The inner error is for the user: what the backup holds cannot be restored
/// as asked.
async fn attempt_it(
    context: &Arc<Context>,
    restore: &Restore,
    order: Order,
    backup: &Backup,
    location: &OpenLocation,
    (report, spool_dir): (&Report, &std::path::Path),
    stop: &Stop,
) -> Result<Result<(), Vec<String>>> {
    let name = backup.name_any();
    let (spool, stock) = with_patience(&stop.now, || async {
        futures::try_join!(
            source::bundle(&location.store, &name, spool_dir),
            source::stock(&location.store, &name)
        )
    })
    .await?;
    let applier = Applier {
        client: context.client.clone(),
        served: Served::new(context.client.clone()),
        namespaces: order.mapping.clone(),
        preserve_node_ports: order.preserve_node_ports,
        policy: order.policy,
        restore: restore.name_any(),
        uid: restore.uid().unwrap_or_default(),
        backup: name,
        causes: Causes::default(),
    };
    let cluster = discover(&context.client).await?;
    let looked = tokio::task::spawn_blocking(move || {
        let mut order = order;
        let planned = plan_it(&mut order, &spool, &stock, &cluster);
        (planned, spool, order)
    });
    let (planned, spool, order) = looked
        .await
        .map_err(|error| Error::Bug(format!("planning ended badly: {error}")))?;
    let (plan, warnings) = match planned? {
        Ok(planned) => planned,
        Err(wrong) => return Ok(Err(wrong)),
    };
    for warning in warnings {
        report.log.warn(About::Ark, warning);
    }
    if backup.status.as_ref().and_then(|s| s.phase)
        == Some(ark_api::backup::BackupPhase::PartiallyFailed)
    {
        report.log.warn(
            About::Ark,
            format!(
                "backup {} is PartiallyFailed: what it lacks cannot come back",
                backup.name_any()
            ),
        );
    }
    run::foreword(report, &spool, &plan, &order);
    let location_name = location.name();
    let run = Run {
        common: Common {
            context,
            restore,
            location: &location_name,
            deadlines: Deadlines {
                bind: order.bind_timeout.unwrap_or_else(|| {
                    context
                        .settings
                        .restore_bind_timeout
                        .min(order.volume_timeout)
                }),
                queue: order.queue_timeout,
                fill: order.volume_timeout,
            },
            stop,
            report,
        },
        order: &order,
        plan: &plan,
        spool: &spool,
        applier: &applier,
        claims: Mutex::new(HashMap::new()),
        disks: OnceLock::new(),
        before: OnceLock::new(),
        made: Mutex::default(),
        sending: tokio::sync::RwLock::default(),
    };
    register_repositories(&run, &location.store).await;
    let mut everything = std::pin::pin!(run.everything());
    tokio::select! {
        done = &mut everything => done?,
        () = stop.wish.cancelled() => {
            // What is being sent is sent to its end and has its row; nothing more is begun.
            tokio::select! {
                _ = &mut everything => {}
                _ = run.sending.write() => {}
            }
            cancel::cancelled(&run).await?;
        }
    }
    Ok(Ok(()))
}

/// Makes the objects of the repositories that the restore reads, where there are none: in a new
/// cluster, say. Agents do not need them, so one that cannot be made is only logged.
async fn register_repositories(run: &Run<'_>, store: &ark_engine::Store) {
    let wanted = run.plan.pods.iter().flat_map(|pod| &pod.wanted);
    let namespaces: std::collections::BTreeSet<&str> = wanted
        .map(|wanted| wanted.stored.namespace.as_str())
        .collect();
    for namespace in namespaces {
        let (context, location) = (run.common.context, run.common.location);
        let made = crate::repository::record(context, namespace, location, store).await;
        if let Err(error) = made {
            tracing::warn!(namespace, %error, "the object of a repository cannot be made");
        }
    }
}

/// A plan, and what the user should know about it.
type Planned = (Plan, Vec<String>);

/// Puts the words of `order` into their full form and plans. Returns the plan with warnings, or
/// what is wrong.
fn plan_it(
    order: &mut Order,
    spool: &Spool,
    stock: &Stock,
    cluster: &Discovered,
) -> Result<Result<Planned, Vec<String>>> {
    let held = words::Held::read(spool, cluster)?;
    let warnings = match words::resolve(order, &held, cluster) {
        Ok(warnings) => warnings,
        Err(wrong) => return Ok(Err(wrong)),
    };
    let plan = plan::make(spool, order, stock)?;
    let rules = Rules {
        namespaces: &order.mapping,
        preserve_node_ports: order.preserve_node_ports,
        status_is_data: false,
    };
    let collisions = collisions::find(&plan, spool, rules)?;
    Ok(if collisions.is_empty() {
        Ok((plan, warnings))
    } else {
        Err(collisions)
    })
}

/// Stores the artefacts, the log last. One that cannot be stored is an error of the restore.
async fn keep(location: &OpenLocation, restore: &str, report: &Report, stop: &Stop) {
    let stored = with_patience(&stop.now, || store_all(location, restore, report));
    let Err(error) = stored.await else {
        return;
    };
    let text = format!(
        "log and results of the restore could not be stored: {}",
        error.sentence()
    );
    if location.read_only() {
        report.log.warn(About::Ark, text);
    } else {
        report.log.error(About::Ark, text);
    }
}

async fn store_all(location: &OpenLocation, restore: &str, report: &Report) -> Result<()> {
    let store = &location.store;
    let path = layout::restore_resource_list(restore);
    artefact::write_json_gz(store, &path, &report.resource_list()).await?;
    let path = layout::restore_results(restore);
    artefact::write_json_gz(store, &path, &report.results()).await?;
    let file = report.log.finish()?;
    store
        .write_file(&layout::restore_logs(restore), &file)
        .await?;
    Ok(())
}

/// Writes what changes into the status, now and then. It is only told: nothing depends on it.
async fn show_progress(writer: &Writer<'_>, mut changes: watch::Receiver<Live>) -> Infallible {
    loop {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let live = changes.borrow_and_update().clone();
        if let Err(error) = writer.progress(&live).await {
            tracing::warn!(%error, "cannot write the progress of a restore");
        }
        tokio::time::sleep(PROGRESS).await;
    }
}
