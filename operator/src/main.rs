//! The operator of Ark: coordinates backups and restores.
//!
//! Order of start: allocator settings, settings, logging, HTTP, client, cluster identity, ready,
//! election, controllers. It stops on SIGTERM and SIGINT, or with an error when it loses its lease:
//! work in progress stops at the next safe point and is taken up again by the next leader.

mod agents;
mod apply;
mod bucket;
mod bundle;
mod causes_once;
mod clock;
mod collect;
mod context;
mod copies;
mod error;
mod holder;
mod http;
mod json;
mod leader;
mod list;
mod maintain;
mod metrics;
mod plugin_config;
mod reconcile;
mod repository;
mod repository_key;
mod requests;
mod run;
mod run_log;
mod settings;
mod snapshot_check;
mod status;
mod store;
mod telemetry;
mod volumes;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// How long work in progress may take to reach a safe point when the process stops.
const GRACE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|arg| arg == "--version")
    {
        return telemetry::version();
    }
    let not_replaced = ark_engine::memory::give_back_large_pieces();
    let settings = match Settings::read(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(wrong) => {
            telemetry::start(None, settings::LogFormat::Text);
            for problem in wrong {
                tracing::error!("{problem}");
            }
            return ExitCode::FAILURE;
        }
    };
    telemetry::start(settings.log.as_deref(), settings.log_format);
    if let Some(error) = not_replaced {
        tracing::warn!(%error, "the memory allocator keeps its default settings; more memory than needed stays in use");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(settings));
    // Blocking work that does not end by itself must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator stops");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = settings.namespace,
        pod = settings.pod,
        "starting"
    );
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM received; stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT received; stopping"),
        }
        stopper.cancel();
    });

    let metrics = Metrics::new();
    let ready = http::Ready::default();
    let listener = http::listen(settings.http_address).await?;
    tracing::info!(http = http::address(&listener), "answering");
    tokio::spawn(http::serve(
        listener,
        http::router(ready.clone(), metrics.clone()),
        stop.clone(),
    ));

    let client = json::client::connect(&metrics)
        .await
        .context("find out how to reach the cluster")?;
    let mut candidate = leader::Candidate::new(client.clone(), &settings.namespace, &settings.pod);
    let shutdown = CancellationToken::new();
    let context = connect(client, settings, metrics, &shutdown, &stop).await?;
    let Some(context) = context else {
        return Ok(());
    };
    ready.set();
    if !candidate.win(&stop).await {
        return Ok(());
    }
    tracing::info!("this process leads");
    let listener = http::listen(context.settings.artefact_address).await?;
    tracing::info!(
        artefacts = http::address(&listener),
        "handing out artefacts"
    );
    tokio::spawn(http::serve(
        listener,
        reconcile::download::server::router(context.clone()),
        stop.clone(),
    ));
    context.metrics.leader.set(1.0);

    let mut controllers = controllers(&context);
    // `hold` returns when the process is asked to stop or the lease is lost. Controllers stop before
    // the lease is given back, so that nobody else starts while they still work.
    let holding = CancellationToken::new();
    let lost = tokio::select! {
        () = stop.cancelled() => None,
        result = candidate.hold(&holding) => result.err(),
        ended = controllers.join_next() => {
            shutdown.cancel();
            anyhow::bail!("a controller ended by itself: {ended:?}");
        }
    };
    shutdown.cancel();
    if let Some(error) = lost {
        anyhow::bail!("no longer the leader: {error}");
    }
    let finished = async {
        while controllers.join_next().await.is_some() {}
        context.runs.drained().await;
    };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("some work did not reach a safe point in time; it is taken up again");
    }
    controllers.abort_all();
    holding.cancel();
    candidate.hold(&holding).await?;
    Ok(())
}

/// Tries until the cluster answers, or the process is asked to stop.
async fn connect(
    client: kube::Client,
    settings: Settings,
    metrics: Metrics,
    shutdown: &CancellationToken,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Arc<Context>>> {
    loop {
        let context = Context::new(
            client.clone(),
            settings.clone(),
            clock::of_process(),
            metrics.clone(),
            shutdown.clone(),
        );
        match context.await {
            Ok(context) => return Ok(Some(Arc::new(context))),
            Err(error) => {
                tracing::warn!(%error, hint = error.hint(), "the cluster does not answer yet");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}

/// Starts all controllers.
fn controllers(context: &Arc<Context>) -> JoinSet<()> {
    use reconcile::unattended::{Agents, UnattendedReconciler};
    use reconcile::unsupported;

    let mut set = JoinSet::new();
    let shared = || context.clone();
    set.spawn(reconcile::run(
        reconcile::location::LocationReconciler::default(),
        shared(),
    ));
    set.spawn(reconcile::run(
        reconcile::repository::RepositoryReconciler::default(),
        shared(),
    ));
    set.spawn(maintain::run(shared()));
    set.spawn(reconcile::run(
        reconcile::backup::BackupReconciler::default(),
        shared(),
    ));
    set.spawn(reconcile::run(
        reconcile::restore::RestoreReconciler::default(),
        shared(),
    ));
    set.spawn(reconcile::restore::sweep_gates(shared()));
    set.spawn(run::watch::watch::<ark_api::Backup>(shared()));
    set.spawn(run::watch::watch::<ark_api::Restore>(shared()));
    set.spawn(reconcile::run(
        reconcile::download::DownloadReconciler,
        shared(),
    ));
    set.spawn(reconcile::run(
        reconcile::status_request::StatusRequestReconciler,
        shared(),
    ));
    let agents = Arc::<Agents>::default();
    set.spawn(reconcile::run(
        UnattendedReconciler::<ark_api::PodVolumeBackup>::new(Arc::clone(&agents)),
        shared(),
    ));
    set.spawn(reconcile::run(
        UnattendedReconciler::<ark_api::PodVolumeRestore>::new(agents),
        shared(),
    ));
    set.spawn(reconcile::run(
        reconcile::expiry::ExpiryReconciler::default(),
        shared(),
    ));
    set.spawn(reconcile::run(
        reconcile::sync::SyncReconciler::default(),
        shared(),
    ));
    set.spawn(reconcile::run(
        reconcile::deletion::RestoreDeletionReconciler,
        shared(),
    ));
    set.spawn(reconcile::run(
        reconcile::deletion::DeletionReconciler::default(),
        shared(),
    ));
    set.spawn(reconcile::run(
        reconcile::schedule::ScheduleReconciler::default(),
        shared(),
    ));
    set.spawn(reconcile::run(
        unsupported::SnapshotLocationReconciler,
        shared(),
    ));
    set
}
