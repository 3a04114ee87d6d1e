//! The node agent of Ark: backs up and restores the files of volumes on its node.
//!
//! ```text
//!   controller ──► task ──► backup, restore ──► location ──► repositories ──► engine (on threads
//!   (watches)      (one      (what a volume       (store, key,  (open ones,       of its own)
//!                  object)    object orders)       handshake)    shared)
//!                    │            │
//!         queue, reporter      volume, gate (the kubelet's directories)
//! ```
//!
//! Does: whatever `PodVolumeBackup` and `PodVolumeRestore` objects of its node order, a few at a
//! time; answer the handshake of `local` locations; health and metrics. Does not: decide what is
//! backed up, talk to the operator, or start a process.
//!
//! On SIGTERM it takes no more work, cancels what runs, lets it put away its locks, and leaves the
//! objects as they are for the next start.

mod backup;
mod context;
mod controller;
mod error;
mod gate;
mod gate_state;
mod handshake;
mod http;
mod liveness;
mod location;
mod maintain;
mod metrics;
mod object;
mod pods;
mod queue;
mod report;
mod reporter;
mod repositories;
mod restore;
mod settings;
mod task;
mod telemetry;
mod thread;
mod volume;
mod writes;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ark_api::{PodVolumeBackup, PodVolumeRestore};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::metrics::Metrics;
use crate::pods::Pods;
use crate::settings::Settings;

/// Threads that drive requests. File data moves on threads of its own.
const WORKERS: usize = 2;
/// How long running work may take to put away its locks; less than a pod's usual grace period.
const PATIENCE: Duration = Duration::from_secs(25);

fn main() -> ExitCode {
    let not_replaced = ark_engine::memory::give_back_large_pieces();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    let result = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| {
            let result = runtime.block_on(run(not_replaced));
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        });
    match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn run(not_replaced: Option<std::io::Error>) -> anyhow::Result<ExitCode> {
    telemetry::init(env)?;
    if let Some(error) = not_replaced {
        tracing::warn!(%error, "the memory allocator keeps its default settings; more memory than needed stays in use");
    }
    let settings = Settings::read(env).map_err(anyhow::Error::msg)?;
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider was installed before");
    }
    let client = kube::Client::try_default()
        .await
        .context("cannot find the API server")?;
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        None => Box::pin(watch(client, settings)).await,
        Some(maintain::COMMAND) => Box::pin(maintain::run(client, settings, args)).await,
        Some(other) => anyhow::bail!("{other:?} is no command of the agent"),
    }
}

/// Works on the volume objects of this node until the process is asked to end.
async fn watch(client: kube::Client, settings: Settings) -> anyhow::Result<ExitCode> {
    let metrics = Arc::new(Metrics::default());
    let (pods, watch_pods) = Pods::start(client.clone(), &settings.node, Arc::clone(&metrics));
    let shutdown = CancellationToken::new();
    let ctx = Arc::new(Context::new(
        client,
        settings,
        pods,
        metrics,
        shutdown.clone(),
    ));
    let listener = http::bind(ctx.settings.http)
        .await
        .with_context(|| format!("cannot listen on {}", ctx.settings.http))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = ctx.settings.node,
        namespace = ctx.settings.namespace,
        pods_dir = %ctx.settings.pods_dir.display(),
        concurrency = ctx.settings.concurrency,
        http = %listener.local_addr()?,
        "agent started"
    );
    let work = async {
        tokio::select! {
            () = watch_pods => anyhow::bail!("the watch of this node's pods ended"),
            () = controller::run::<PodVolumeBackup>(Arc::clone(&ctx)) => anyhow::bail!("the watch of backups ended"),
            () = controller::run::<PodVolumeRestore>(Arc::clone(&ctx)) => anyhow::bail!("the watch of restores ended"),
            () = handshake::run(Arc::clone(&ctx)) => anyhow::bail!("the watch of locations ended"),
            () = tell_readiness(Arc::clone(&ctx)) => anyhow::bail!("the watch of this node's pods ended"),
            served = http::serve(listener, Arc::clone(&ctx)) => served.context("the HTTP server ended"),
        }
    };
    let result = tokio::select! {
        result = work => result,
        signal = stop_signal() => signal,
    };
    tracing::info!("stopping; unfinished volumes are taken up at the next start");
    shutdown.cancel();
    ctx.tracker.close();
    let end = async {
        ctx.tracker.wait().await;
        ctx.repositories.close().await;
    };
    if tokio::time::timeout(PATIENCE, end).await.is_err() {
        tracing::warn!("some work did not stop in time; its locks go away by themselves");
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Returns when the process is asked to end.
async fn stop_signal() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Says in the log whether the kubelet's directory is the right one, whenever that changes.
async fn tell_readiness(ctx: Arc<Context>) {
    let mut changes = ctx.pods.changes();
    let mut last: Option<String> = None;
    if !ctx.pods.ready().await {
        return;
    }
    loop {
        let now = match ctx.check_kubelet() {
            Ok(()) => String::new(),
            Err(error) => error.told(),
        };
        if last.as_ref() != Some(&now) {
            if now.is_empty() {
                tracing::info!("ready: the kubelet's pods directory is where it should be");
            } else {
                tracing::error!("not ready, every volume is refused: {now}");
            }
            last = Some(now);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
