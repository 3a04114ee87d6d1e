//! Controller of download requests: check → answer with pod, path and expiry → delete when expired.
//!
//! The data itself is handed out by [`server`] on a loopback port. Kubernetes decides who may
//! create a request; the token whose hash the request carries proves that the reader is who created
//! it.

pub(crate) mod server;
pub(crate) mod target;

use std::sync::Arc;
use std::time::Duration;

use ark_api::DownloadRequest;
use ark_api::requests::{DownloadRequestStatus, RequestPhase};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
use kube::runtime::controller::Action;

use super::Reconciler;
use crate::context::Context;
use crate::error::{Class, Error, Result, is_conflict, is_not_found};

/// How long a request is answered.
const LIFETIME: Duration = Duration::from_mins(10);

/// The controller.
#[derive(Debug, Default)]
pub(crate) struct DownloadReconciler;

impl Reconciler for DownloadReconciler {
    type Kind = DownloadRequest;

    async fn reconcile(&self, object: &DownloadRequest, context: &Arc<Context>) -> Result<Action> {
        let name = object.name_any();
        let api = context.api::<DownloadRequest>();
        let found = api
            .get_opt(&name)
            .await
            .map_err(Error::kube(format!("get DownloadRequest {name}")))?;
        let Some(request) = found else {
            return Ok(Action::await_change());
        };
        let now = context.clock.now();
        if let Some(expiration) = expiration(&request) {
            let left = Duration::try_from(expiration.duration_since(now)).unwrap_or_default();
            if left.is_zero() {
                return delete(context, &request).await;
            }
            let ended = request.status.as_ref().and_then(|status| status.phase);
            if matches!(ended, Some(RequestPhase::Processed | RequestPhase::Failed)) {
                return Ok(Action::requeue(left));
            }
        }
        let answer = answer(context, &request, now).await?;
        let uid = request.uid().unwrap_or_default();
        crate::status::update(&api, &name, &uid, |request| {
            request.status = Some(answer.clone());
        })
        .await?;
        Ok(Action::requeue(LIFETIME))
    }
}

/// When the request stops being answered: as its status says, at most its lifetime after creation.
fn expiration(request: &DownloadRequest) -> Option<Timestamp> {
    let created = request.creation_timestamp()?.0;
    let latest = created
        .checked_add(jiff::SignedDuration::try_from(LIFETIME).ok()?)
        .ok()?;
    let said = request
        .status
        .as_ref()
        .and_then(|status| status.expiration.as_ref());
    Some(said.map_or(latest, |said| said.0.min(latest)))
}

async fn answer(
    context: &Context,
    request: &DownloadRequest,
    now: Timestamp,
) -> Result<DownloadRequestStatus> {
    let mut status = DownloadRequestStatus {
        expiration: Some(Time(expiration(request).unwrap_or(now))),
        ..DownloadRequestStatus::default()
    };
    let found = match problem(request) {
        Some(problem) => Err(problem),
        None => match target::find(context, &request.spec.target).await {
            Ok(_) => Ok(()),
            Err(error) if error.class() == Class::Transient => return Err(error),
            Err(error) => Err(error.to_string()),
        },
    };
    match found {
        Ok(()) => {
            status.phase = Some(RequestPhase::Processed);
            status.path = Some(server::path(&request.name_any()));
            status.pod = Some(context.settings.pod.clone());
        }
        Err(message) => {
            status.phase = Some(RequestPhase::Failed);
            status.message = Some(message);
        }
    }
    Ok(status)
}

/// What is wrong with the request itself.
fn problem(request: &DownloadRequest) -> Option<String> {
    if request.spec.target.name.is_empty() {
        return Some("spec.target.name is empty".to_owned());
    }
    let hash = request.spec.token_hash.as_deref().unwrap_or_default();
    if hash.is_empty() {
        return Some(
            "spec.tokenHash is missing: this version hands artefacts out through the operator only, \
             and makes no presigned URLs"
                .to_owned(),
        );
    }
    (hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| "spec.tokenHash is not a SHA-256 in 64 hexadecimal digits".to_owned())
}

async fn delete(context: &Context, request: &DownloadRequest) -> Result<Action> {
    let name = request.name_any();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: request.uid(),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    match context
        .api::<DownloadRequest>()
        .delete(&name, &params)
        .await
    {
        Ok(_) => Ok(Action::await_change()),
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Action::await_change()),
        Err(error) => Err(Error::kube(format!("delete DownloadRequest {name}"))(error)),
    }
}

#[cfg(test)]
mod tests {
    use ark_api::requests::{DownloadKind, DownloadRequestSpec, DownloadTarget};

    use super::*;

    fn request(name: &str, hash: Option<&str>) -> DownloadRequest {
        let mut request = DownloadRequest::new(
            "r",
            DownloadRequestSpec {
                target: DownloadTarget {
                    kind: DownloadKind::BackupLog,
                    name: name.to_owned(),
                },
                token_hash: hash.map(str::to_owned),
            },
        );
        request.metadata.creation_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
        request
    }

    #[test]
    fn requests_need_a_name_and_a_hash() {
        assert!(problem(&request("b", Some(&"a".repeat(64)))).is_none());
        assert!(
            problem(&request("", Some(&"a".repeat(64))))
                .unwrap()
                .contains("name")
        );
        assert!(problem(&request("b", None)).unwrap().contains("tokenHash"));
        assert!(problem(&request("b", Some("xyz"))).is_some());
    }

    #[test]
    fn nobody_can_make_a_request_live_longer() {
        let mut r = request("b", None);
        let latest = expiration(&r).unwrap();
        assert_eq!(latest.to_string(), "2026-01-01T00:10:00Z");
        r.status = Some(DownloadRequestStatus {
            expiration: Some(Time("2099-01-01T00:00:00Z".parse().unwrap())),
            ..DownloadRequestStatus::default()
        });
        assert_eq!(expiration(&r).unwrap(), latest);
    }
}
