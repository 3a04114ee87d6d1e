//! Hands artefacts out on a loopback port, to whoever presents the token of a request that was
//! answered.
//!
//! The request is read anew for every fetch, so that one that was deleted or has expired gives
//! nothing. A fetch says its length first: one that ends early is an error for the reader, never a
//! shorter file. Which part was wrong (request, token) is not told.

use std::sync::Arc;

use ark_api::DownloadRequest;
use ark_api::requests::RequestPhase;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{expiration, target};
use crate::context::Context;

/// Path under which a request's artefact is fetched.
pub(super) fn path(request: &str) -> String {
    format!("/v1/artefacts/{request}")
}

/// The routes.
pub(crate) fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/v1/artefacts/{request}", get(fetch))
        .with_state(context)
}

async fn fetch(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let request = match context.api::<DownloadRequest>().get_opt(&name).await {
        Ok(request) => request,
        // A name that no object can have is refused by the API server.
        Err(error) => {
            tracing::warn!(error = %crate::error::describe(&error), "cannot look up a download request");
            return refuse(
                StatusCode::BAD_GATEWAY,
                "the request cannot be looked up now",
            );
        }
    };
    let token = bearer(&headers).unwrap_or_default();
    let Some(request) = request.filter(|request| admits(request, token, context.clock.now()))
    else {
        return refuse(StatusCode::FORBIDDEN, "no such request, or not its token");
    };
    let found = match target::find(&context, &request.spec.target).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(request = name, %error, "an artefact cannot be handed out");
            return refuse(StatusCode::NOT_FOUND, &error.to_string());
        }
    };
    match found.store.stream(&found.path).await {
        Ok(pieces) => (
            [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, found.size.to_string()),
            ],
            Body::from_stream(pieces),
        )
            .into_response(),
        Err(error) => {
            tracing::warn!(request = name, %error, "an artefact cannot be read");
            refuse(StatusCode::BAD_GATEWAY, &error.to_string())
        }
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

/// Whether `token` opens `request` at this time.
fn admits(request: &DownloadRequest, token: &str, now: Timestamp) -> bool {
    let answered =
        request.status.as_ref().and_then(|status| status.phase) == Some(RequestPhase::Processed);
    let alive = expiration(request).is_some_and(|expiration| now < expiration);
    let hash = request
        .spec
        .token_hash
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    answered && alive && !token.is_empty() && same(&hex::encode(Sha256::digest(token)), &hash)
}

/// Compares in a time that does not depend on where the first difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

#[cfg(test)]
mod tests {
    use ark_api::requests::{DownloadRequestSpec, DownloadRequestStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn only_the_token_of_a_living_answered_request_opens_it() {
        let mut request = DownloadRequest::new(
            "r",
            DownloadRequestSpec {
                token_hash: Some(hex::encode(Sha256::digest("token"))),
                ..DownloadRequestSpec::default()
            },
        );
        request.metadata.creation_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
        let soon = "2026-01-01T00:09:59Z".parse().unwrap();
        assert!(!admits(&request, "token", soon), "not answered yet");
        request.status = Some(DownloadRequestStatus {
            phase: Some(RequestPhase::Processed),
            ..DownloadRequestStatus::default()
        });
        assert!(admits(&request, "token", soon));
        assert!(!admits(&request, "tokem", soon));
        assert!(!admits(&request, "", soon));
        assert!(!admits(
            &request,
            "token",
            "2026-01-01T00:10:00Z".parse().unwrap()
        ));
        request.spec.token_hash = Some(String::new());
        assert!(!admits(&request, "", soon));
    }
}
