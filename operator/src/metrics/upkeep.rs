//! Counters of what goes on without anybody asking: schedules, sync, expiry, deletion.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{LocationLabels, Outcome};

/// Labels of a schedule.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ScheduleLabels {
    /// Its name.
    pub(crate) schedule: String,
}

impl ScheduleLabels {
    /// Those of `schedule`.
    pub(crate) fn of(schedule: &ark_api::Schedule) -> Self {
        Self {
            schedule: kube::ResourceExt::name_any(schedule),
        }
    }
}

/// The counters. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Upkeep {
    /// When the newest Completed backup of a schedule ended, in seconds since 1970; 0 if there is
    /// none.
    pub(crate) schedule_last_success: Family<ScheduleLabels, Gauge<f64, AtomicU64>>,
    /// When the next run of a schedule is due, in seconds since 1970; 0 while none is.
    pub(crate) schedule_next_run: Family<ScheduleLabels, Gauge<f64, AtomicU64>>,
    /// Runs of a schedule that were due and not made.
    pub(crate) schedule_missed: Family<ScheduleLabels, Counter>,
    /// Deletions of backups that were carried out or refused.
    pub(crate) deletions: Family<Outcome, Counter>,
    /// Requests to delete backups that nobody has answered yet.
    pub(crate) deletions_pending: Gauge,
    /// Expired backups of a location that wait for an acknowledgement.
    pub(crate) expiry_held: Family<LocationLabels, Gauge>,
    /// Backups found at a location that appeared in the cluster.
    pub(crate) synced: Family<LocationLabels, Counter>,
    /// What lies at a location like a backup and is none.
    pub(crate) sync_refused: Family<LocationLabels, Gauge>,
}

impl Upkeep {
    /// Counters at zero, registered.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register(
            "schedule_last_success_timestamp_seconds",
            "When the newest completed backup of a schedule ended; 0 if there is none",
            all.schedule_last_success.clone(),
        );
        registry.register(
            "schedule_next_run_timestamp_seconds",
            "When the next run of a schedule is due; 0 while none is",
            all.schedule_next_run.clone(),
        );
        registry.register(
            "schedule_missed_runs",
            "Runs of a schedule that were due and not made",
            all.schedule_missed.clone(),
        );
        registry.register(
            "backup_deletions",
            "Deletions of backups that were carried out or refused",
            all.deletions.clone(),
        );
        registry.register(
            "backup_deletions_pending",
            "Requests to delete backups that are still to be answered",
            all.deletions_pending.clone(),
        );
        registry.register(
            "expiry_held_backups",
            "Expired backups that wait for an acknowledgement before they are deleted",
            all.expiry_held.clone(),
        );
        registry.register(
            "synced_backups",
            "Backups found at a location that appeared in the cluster",
            all.synced.clone(),
        );
        registry.register(
            "sync_refused_backups",
            "Directories at a location that look like backups and are none",
            all.sync_refused.clone(),
        );
        all
    }

    /// A backup was deleted.
    pub(crate) fn deletion_done(&self) {
        self.count_deletion("done");
    }

    /// A request to delete a backup was refused.
    pub(crate) fn deletion_refused(&self) {
        self.count_deletion("refused");
    }

    fn count_deletion(&self, how: &str) {
        let phase = how.to_owned();
        self.deletions.get_or_create(&Outcome { phase }).inc();
    }

    /// Ends the series of a schedule that is gone.
    pub(crate) fn forget_schedule(&self, schedule: &str) {
        let labels = ScheduleLabels {
            schedule: schedule.to_owned(),
        };
        self.schedule_last_success.remove(&labels);
        self.schedule_next_run.remove(&labels);
        self.schedule_missed.remove(&labels);
    }
}
