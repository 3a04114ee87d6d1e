//! Leader election by a Lease: at most one process of an installation works at a time.
//!
//! Every write of the lease carries the resource version it was computed from, so two candidates
//! can never both win. Whether a lease has run out is judged by how long *this* process has seen it
//! unchanged, not by comparing clocks of different machines. A leader that could not renew for two
//! thirds of the lease's duration stops working, which is before anybody else may start. A holder
//! of the same name as ours is an earlier process of the same pod, so its lease is taken over at
//! once. A clean stop gives the lease back.
//!
//! Own code: the crates that offer this either overwrite an expired lease without a precondition or
//! do not support this version of the client.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, describe, is_conflict, is_not_found};
use crate::status::FIELD_MANAGER;

/// Name of the Lease in Ark's namespace.
pub(crate) const LEASE: &str = "ark-operator";
/// How long a lease is valid after it was last renewed.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops working.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two looks at the lease.
const PERIOD: Duration = Duration::from_secs(2);

/// A candidate, and later perhaps the leader.
pub(crate) struct Candidate {
    api: Api<Lease>,
    identity: String,
    /// What the lease looked like when it last changed, and when this process saw that.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate called `identity`, which must be unique among living processes.
    pub(crate) fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Waits until this process leads. Returns `false` if `stop` came first.
    pub(crate) async fn win(&mut self, stop: &CancellationToken) -> bool {
        let mut waiting_for = None;
        loop {
            match self.try_hold().await {
                Ok(None) => return true,
                Ok(Some(holder)) => {
                    if waiting_for.as_ref() != Some(&holder) {
                        tracing::info!(holder, "another process leads; standing by");
                        waiting_for = Some(holder);
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot take part in the election"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(PERIOD) => {}
            }
        }
    }

    /// Keeps the lease until `stop`, then gives it back. Returns an error when it was lost.
    pub(crate) async fn hold(&mut self, stop: &CancellationToken) -> Result<()> {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.give_back().await,
                () = sleep(PERIOD) => {}
            }
            let left = DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, self.try_hold()).await {
                Ok(Ok(None)) => renewed = Instant::now(),
                Ok(Ok(Some(holder))) => {
                    return Err(Error::Waiting(format!(
                        "the lease was taken over by {holder}"
                    )));
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease"),
                Err(_) => tracing::warn!("the API server does not answer; cannot renew the lease"),
            }
            if renewed.elapsed() >= DEADLINE {
                return Err(Error::Waiting(format!(
                    "the lease could not be renewed for {} seconds",
                    DEADLINE.as_secs()
                )));
            }
        }
    }

    /// One try to take or renew the lease: `None` if it is ours now, else its holder.
    async fn try_hold(&mut self) -> Result<Option<String>> {
        let action = || Error::kube(format!("hold Lease {LEASE}"));
        let lease = match self.api.get(LEASE).await {
            Ok(lease) => lease,
            Err(error) if is_not_found(&error) => {
                let lease = self.mine(None);
                return match self.api.create(&params(), &lease).await {
                    Ok(_) => Ok(None),
                    Err(error) if is_conflict(&error) => Ok(Some("another candidate".to_owned())),
                    Err(error) => Err(action()(error)),
                };
            }
            Err(error) => return Err(action()(error)),
        };
        if let Some(holder) = self.held_by_other(&lease) {
            return Ok(Some(holder));
        }
        let next = self.mine(Some(&lease));
        match self.api.replace(LEASE, &params(), &next).await {
            Ok(_) => Ok(None),
            Err(error) if is_conflict(&error) => Ok(Some("another candidate".to_owned())),
            Err(error) => Err(action()(error)),
        }
    }

    /// Somebody else's name, if the lease is theirs and has not run out as far as this process saw.
    fn held_by_other(&mut self, lease: &Lease) -> Option<String> {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone())
            .filter(|holder| !holder.is_empty() && *holder != self.identity)?;
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let duration = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(DURATION, Duration::from_secs);
        let expired =
            matches!(&self.seen, Some((seen, at)) if *seen == version && at.elapsed() >= duration);
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
        (!expired).then_some(holder)
    }

    /// The lease in our name, based on what it was.
    fn mine(&self, before: Option<&Lease>) -> Lease {
        let now = Some(MicroTime(jiff::Timestamp::now()));
        let spec = before
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let renewal = spec.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = spec.lease_transitions.unwrap_or_default();
        Lease {
            metadata: before.map_or_else(
                || ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    ..ObjectMeta::default()
                },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if renewal {
                    spec.acquire_time
                } else {
                    now.clone()
                },
                renew_time: now,
                lease_transitions: Some(if renewal {
                    transitions
                } else {
                    transitions + 1
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn give_back(&self) -> Result<()> {
        let mut lease = match self.api.get(LEASE).await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::warn!(error = %describe(&error), "cannot give the lease back");
                return Ok(());
            }
        };
        let Some(spec) = lease.spec.as_mut() else {
            return Ok(());
        };
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = None;
        if let Err(error) = self.api.replace(LEASE, &params(), &lease).await {
            tracing::warn!(error = %describe(&error), "cannot give the lease back");
        }
        Ok(())
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
