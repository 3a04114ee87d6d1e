//! Controller of server status requests: answers with the operator's version, and deletes the
//! request a minute later.

use std::sync::Arc;
use std::time::Duration;

use ark_api::ServerStatusRequest;
use ark_api::requests::{RequestPhase, ServerStatusRequestStatus};
use kube::ResourceExt;
use kube::api::DeleteParams;
use kube::runtime::controller::Action;

use super::Reconciler;
use crate::context::Context;
use crate::error::{Error, Result, is_not_found};

/// How long an answer stays.
const LIFETIME: Duration = Duration::from_mins(1);

/// The controller.
#[derive(Debug, Default)]
pub(crate) struct StatusRequestReconciler;

impl Reconciler for StatusRequestReconciler {
    type Kind = ServerStatusRequest;

    async fn reconcile(
        &self,
        object: &ServerStatusRequest,
        context: &Arc<Context>,
    ) -> Result<Action> {
        let name = object.name_any();
        let api = context.api::<ServerStatusRequest>();
        let processed = object
            .status
            .as_ref()
            .and_then(|status| status.processed_timestamp.as_ref());
        if let Some(processed) = processed {
            let age = context.clock.now().duration_since(processed.0);
            let left = LIFETIME.saturating_sub(age.try_into().unwrap_or_default());
            if !left.is_zero() {
                return Ok(Action::requeue(left));
            }
            return match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => Ok(Action::await_change()),
                Err(error) if is_not_found(&error) => Ok(Action::await_change()),
                Err(error) => Err(Error::kube(format!("delete ServerStatusRequest {name}"))(
                    error,
                )),
            };
        }
        let now = context.clock.time();
        let uid = object.uid().unwrap_or_default();
        crate::status::update(&api, &name, &uid, |request| {
            request
                .status
                .get_or_insert_with(|| ServerStatusRequestStatus {
                    phase: Some(RequestPhase::Processed),
                    processed_timestamp: Some(now.clone()),
                    server_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                });
        })
        .await?;
        Ok(Action::requeue(LIFETIME))
    }
}
