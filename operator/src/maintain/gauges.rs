//! What the repositories' status says, as gauges.

use ark_api::ResticRepository;
use ark_api::condition::{self, kind};
use jiff::Timestamp;

use crate::metrics::Metrics;

/// Sets the gauges about all repositories.
pub(super) fn set(metrics: &Metrics, repositories: &[ResticRepository], now: Timestamp) {
    let status = || repositories.iter().filter_map(|one| one.status.as_ref());
    let sum = |part: &dyn Fn(&ark_api::repository::ResticRepositoryStatus) -> Option<i64>| {
        status().filter_map(part).sum::<i64>()
    };
    metrics
        .repository_stored_bytes
        .set(sum(&|status| status.stored_bytes));
    metrics
        .repository_reclaimable_bytes
        .set(sum(&|status| status.reclaimable_bytes));
    let unhealthy = status()
        .filter_map(|status| condition::get(&status.conditions, kind::HEALTHY))
        .filter(|condition| condition.status == "False")
        .count();
    metrics
        .repositories_unhealthy
        .set(i64::try_from(unhealthy).unwrap_or(i64::MAX));
    let oldest = status()
        .filter_map(|status| status.verification.as_ref()?.last_time.as_ref())
        .map(|time| now.as_second() - time.0.as_second())
        .max();
    metrics.oldest_verification_seconds.set(oldest.unwrap_or(0));
}
