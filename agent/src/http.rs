//! Health, readiness and metrics over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::context::Context;

/// Binds the address; where every address is meant and there is no IPv6, those of IPv4.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        result => result,
    }
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, ctx: Arc<Context>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(ctx);
    axum::serve(listener, router).await
}

/// Ready when the pods of the node are known and the kubelet's directory is the right one.
async fn ready(State(ctx): State<Arc<Context>>) -> (StatusCode, String) {
    if ctx.shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    if !ctx.pods.known() {
        let text = "the pods of this node are not known yet\n".to_owned();
        return (StatusCode::SERVICE_UNAVAILABLE, text);
    }
    match ctx.check_kubelet() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", error.told()),
        ),
    }
}

async fn metrics(State(ctx): State<Arc<Context>>) -> String {
    let ready = ctx.pods.known() && ctx.check_kubelet().is_ok();
    ctx.metrics
        .render(ctx.queue.running(), ctx.queue.waiting(), ready)
}
