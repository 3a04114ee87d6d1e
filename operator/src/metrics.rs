//! Counters for Prometheus. No label ever holds anything a user typed except names of objects.

mod census;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use ark_api::volume::VolumeRow;

use self::census::Census;
pub(crate) use self::upkeep::{ScheduleLabels, Upkeep};

/// Labels of what happened to objects of one kind.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Outcome {
    /// Kind of object, or phase, in lower case.
    pub(crate) phase: String,
}

/// Labels of a controller.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Controller {
    /// Kind it works on.
    pub(crate) kind: String,
}

/// Labels of a location.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct LocationLabels {
    /// Its name.
    pub(crate) location: String,
}

/// Labels of what became of volumes.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct VolumeLabels {
    /// Class of its row, in lower case.
    class: String,
    /// Reason in its row, in lower case.
    reason: String,
}

/// Labels of a request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// What it does: `get`, `watch`, `post`, `put`, `patch`, `delete`.
    pub(crate) verb: &'static str,
}

/// All counters of the process. Clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Backups that ended, by phase.
    pub(crate) backups: Family<Outcome, Counter>,
    /// Seconds from start to end of backups.
    pub(crate) backup_seconds: Histogram,
    /// Seconds from the creation of backups to their start.
    pub(crate) backup_queue_wait: Histogram,
    /// Volumes of backups that were stored, by class and reason of their rows.
    volumes: Family<VolumeLabels, Counter>,
    /// Objects by kind and phase.
    pub(crate) census: Census,
    /// Restores that ended, by phase.
    pub(crate) restores: Family<Outcome, Counter>,
    /// Seconds from start to end of restores.
    pub(crate) restore_seconds: Histogram,
    /// 1 for a location that is available, 0 for one that is not.
    pub(crate) location_available: Family<LocationLabels, Gauge>,
    /// Reconciliations that failed, by kind.
    pub(crate) reconcile_errors: Family<Controller, Counter>,
    /// Backups and restores that run, by kind.
    pub(crate) runs: Family<Controller, Gauge>,
    /// Schedules, sync, expiry, deletion.
    pub(crate) upkeep: Upkeep,
    /// Bytes of data in all repositories after their last maintenance.
    pub(crate) repository_stored_bytes: Gauge,
    /// Bytes of it that no snapshot needs.
    pub(crate) repository_reclaimable_bytes: Gauge,
    /// Repositories in which the last check found damage.
    pub(crate) repositories_unhealthy: Gauge,
    /// Age, in seconds, of the oldest of the repositories' last checks.
    pub(crate) oldest_verification_seconds: Gauge,
    /// Requests made of the API server, by verb.
    pub(crate) api_requests: Family<RequestLabels, Counter>,
    /// 1 while this process leads.
    pub(crate) leader: Gauge<f64, AtomicU64>,
    registry: Arc<Registry>,
}

impl Metrics {
    /// Counters at zero, registered under the prefix `ark`.
    #[expect(
        clippy::too_many_lines,
        reason = "each metric is named, described and kept"
    )]
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("ark");
        let seconds = || Histogram::new(exponential_buckets(1.0, 2.0, 15));
        let backups = Family::default();
        let backup_seconds = seconds();
        let backup_queue_wait = seconds();
        let volumes = Family::default();
        let census = Census::register(&mut registry);
        let restores = Family::default();
        let restore_seconds = seconds();
        let location_available = Family::default();
        let reconcile_errors = Family::default();
        let runs = Family::default();
        let repository_stored_bytes = Gauge::default();
        let repository_reclaimable_bytes = Gauge::default();
        let repositories_unhealthy = Gauge::default();
        let oldest_verification_seconds = Gauge::default();
        let api_requests = Family::default();
        let leader = Gauge::default();
        registry.register("backups", "Backups that ended, by phase", backups.clone());
        registry.register(
            "backup_duration_seconds",
            "Time from start to end of backups",
            backup_seconds.clone(),
        );
        registry.register(
            "backup_queue_wait_seconds",
            "Time from the creation of backups to their start",
            backup_queue_wait.clone(),
        );
        registry.register(
            "backup_volumes",
            "Volumes of backups that were stored, by class and reason of their rows",
            volumes.clone(),
        );
        registry.register(
            "restores",
            "Restores that ended, by phase",
            restores.clone(),
        );
        registry.register(
            "restore_duration_seconds",
            "Time from start to end of restores",
            restore_seconds.clone(),
        );
        registry.register(
            "location_available",
            "Whether a backup storage location can be used",
            location_available.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciliations that failed, by kind",
            reconcile_errors.clone(),
        );
        registry.register(
            "runs",
            "Backups and restores that run, by kind",
            runs.clone(),
        );
        let upkeep = Upkeep::register(&mut registry);
        registry.register(
            "repository_stored_bytes",
            "Data in all repositories after their last maintenance",
            repository_stored_bytes.clone(),
        );
        registry.register(
            "repository_reclaimable_bytes",
            "Data in all repositories that no snapshot needs",
            repository_reclaimable_bytes.clone(),
        );
        registry.register(
            "repositories_unhealthy",
            "Repositories in which the last check found damage",
            repositories_unhealthy.clone(),
        );
        registry.register(
            "repository_oldest_verification_seconds",
            "Age of the oldest of the repositories' last checks",
            oldest_verification_seconds.clone(),
        );
        registry.register(
            "api_requests",
            "Requests made of the API server, by verb",
            api_requests.clone(),
        );
        registry.register("leader", "Whether this process leads", leader.clone());
        Self {
            backups,
            backup_seconds,
            backup_queue_wait,
            volumes,
            census,
            restores,
            restore_seconds,
            location_available,
            reconcile_errors,
            runs,
            upkeep,
            repository_stored_bytes,
            repository_reclaimable_bytes,
            repositories_unhealthy,
            oldest_verification_seconds,
            api_requests,
            leader,
            registry: Arc::new(registry),
        }
    }

    /// Counts the volumes of a backup that is stored.
    pub(crate) fn count_volumes(&self, rows: &[VolumeRow]) {
        for row in rows {
            let labels = VolumeLabels {
                class: format!("{:?}", row.class).to_lowercase(),
                reason: format!("{:?}", row.reason).to_lowercase(),
            };
            self.volumes.get_or_create(&labels).inc();
        }
    }

    /// The counters in the OpenMetrics text format.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        self.census.take();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_show() {
        let metrics = Metrics::new();
        let phase = "completed".to_owned();
        metrics.backups.get_or_create(&Outcome { phase }).inc();
        let text = metrics.text().unwrap();
        assert!(
            text.contains(r#"ark_backups_total{phase="completed"} 1"#),
            "{text}"
        );
    }

    #[test]
    fn every_metric_is_documented() {
        let documented = include_str!("../../docs/reference/metrics.md");
        // Families without a series are not in the text, so the names come from the source.
        let sources = [
            include_str!("metrics.rs"),
            include_str!("metrics/census.rs"),
            include_str!("metrics/upkeep.rs"),
        ];
        let names: Vec<&str> = sources
            .iter()
            .filter_map(|source| source.split("#[cfg(test)]").next())
            .flat_map(|code| code.split("registry.register(").skip(1))
            .filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            let forms = [format!("`ark_{name}`"), format!("`ark_{name}_total`")];
            assert!(
                forms.iter().any(|form| documented.contains(form)),
                "metrics.md lacks {name}"
            );
        }
    }
}
