//! The client of the API server: every request is counted, and its body is escaped as Go's encoder
//! would, whoever sends it.
//!
//! The API server keeps some values as the bytes they came in (`ControllerRevision.data`), and
//! controllers compare them with what Go makes.

use axum::http::Request;
use futures::FutureExt as _;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::util::MapRequestLayer;

use crate::metrics::Metrics;

/// A client as the environment describes it.
pub(crate) async fn connect(metrics: &Metrics) -> kube::Result<Client> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    let metrics = metrics.clone();
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&MapRequestLayer::new(move |request: Request<Body>| {
            crate::requests::seen(&request, &metrics);
            escaped(request)
        }))
        .build())
}

/// Bodies that are streams are no objects and stay as they are.
fn escaped(request: Request<Body>) -> Request<Body> {
    request.map(|body| {
        let whole = body
            .try_clone()
            .and_then(|copy| copy.collect_bytes().now_or_never());
        match whole {
            Some(Ok(bytes)) => Body::from(super::escape(&bytes)),
            _ => body,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_are_escaped() {
        let request = Request::post("/x").body(Body::from(b"{\"a\":\"<\"}".to_vec()));
        let body = escaped(request.unwrap()).into_body();
        let bytes = body.collect_bytes().await.unwrap();
        assert_eq!(&bytes[..], br#"{"a":"\u003c"}"#);
        let empty = escaped(Request::get("/x").body(Body::empty()).unwrap());
        assert!(empty.into_body().collect_bytes().await.unwrap().is_empty());
    }
}
