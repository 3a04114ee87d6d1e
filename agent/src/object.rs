//! What `PodVolumeBackup` and `PodVolumeRestore` have in common, for the code that drives both.

use ark_api::origin::Origin;
use ark_api::pod_volume_backup::{
    PodReference, PodVolumeBackup, PodVolumeBackupStatus, VolumePhase, VolumeProgress,
};
use ark_api::pod_volume_restore::{PodVolumeRestore, PodVolumeRestoreStatus};
use ark_api::volume::FileError;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::metrics::{Metrics, WorkMetrics};
use crate::queue::Weight;
use crate::report::Finish;
use crate::task::Task;

/// The fields both statuses have.
pub(crate) struct Common<'a> {
    pub(crate) phase: &'a mut Option<VolumePhase>,
    pub(crate) conditions: &'a mut Vec<Condition>,
    pub(crate) observed_generation: &'a mut Option<i64>,
    pub(crate) message: &'a mut Option<String>,
    pub(crate) reason: &'a mut Option<String>,
    pub(crate) accepted: &'a mut Option<Time>,
    pub(crate) started: &'a mut Option<Time>,
    pub(crate) completed: &'a mut Option<Time>,
    pub(crate) progress: &'a mut Option<VolumeProgress>,
    pub(crate) attempt: &'a mut Option<i32>,
    pub(crate) file_errors: &'a mut Vec<FileError>,
    pub(crate) file_error_count: &'a mut Option<i64>,
}

/// Status of a volume object.
pub(crate) trait VolumeStatus:
    Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The common fields, to be changed.
    fn common(&mut self) -> Common<'_>;
    /// Where it stands.
    fn phase(&self) -> VolumePhase;
    /// How often it was started.
    fn attempt(&self) -> i32;
}

/// A volume object and the work it orders.
pub(crate) trait VolumeObject:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its status.
    type Status: VolumeStatus;
    /// Its kind, for logs.
    const KIND: &'static str;

    /// Its status, if any was written.
    fn status(&self) -> Option<&Self::Status>;
    /// Where it came from, if not from here.
    fn origin(&self) -> Option<&Origin>;
    /// The node it is for.
    fn node(&self) -> &str;
    /// Whether it is to be stopped.
    fn cancel(&self) -> bool;
    /// The pod.
    fn pod(&self) -> &PodReference;
    /// The volume.
    fn volume(&self) -> &str;
    /// Counters of its kind.
    fn metrics(metrics: &Metrics) -> &WorkMetrics;

    /// What must be true before a slot is taken; may wait for as long as it takes. `Some` if there
    /// is nothing left to do.
    fn prepare(task: &mut Task<Self>) -> impl Future<Output = Result<Option<Finish>>> + Send;
    /// How much of a slot's means it takes. Nothing waits for it and nothing depends on it but the
    /// lane.
    fn weigh(task: &mut Task<Self>) -> impl Future<Output = Result<Weight>> + Send;
    /// The transfer, with a slot.
    fn transfer(task: &mut Task<Self>) -> impl Future<Output = Result<Finish>> + Send;
    /// What must be done, without a slot, before the outcome is written.
    fn conclude(
        task: &mut Task<Self>,
        finish: &mut Finish,
    ) -> impl Future<Output = Result<()>> + Send;
}

macro_rules! status {
    ($status:ty) => {
        impl VolumeStatus for $status {
            fn common(&mut self) -> Common<'_> {
                Common {
                    phase: &mut self.phase,
                    conditions: &mut self.conditions,
                    observed_generation: &mut self.observed_generation,
                    message: &mut self.message,
                    reason: &mut self.reason,
                    accepted: &mut self.accepted_timestamp,
                    started: &mut self.start_timestamp,
                    completed: &mut self.completion_timestamp,
                    progress: &mut self.progress,
                    attempt: &mut self.attempt,
                    file_errors: &mut self.file_errors,
                    file_error_count: &mut self.file_error_count,
                }
            }

            fn phase(&self) -> VolumePhase {
                self.phase.unwrap_or_default()
            }

            fn attempt(&self) -> i32 {
                self.attempt.unwrap_or_default()
            }
        }
    };
}

status!(PodVolumeBackupStatus);
status!(PodVolumeRestoreStatus);

/// The accessors that read the same in both kinds; the work itself is in the kind's own module.
macro_rules! accessors {
    ($status:ty, $kind:literal, $metrics:ident) => {
        type Status = $status;
        const KIND: &'static str = $kind;

        fn status(&self) -> Option<&Self::Status> {
            self.status.as_ref()
        }
        fn origin(&self) -> Option<&Origin> {
            self.spec.origin.as_ref()
        }
        fn node(&self) -> &str {
            &self.spec.node
        }
        fn cancel(&self) -> bool {
            self.spec.cancel
        }
        fn pod(&self) -> &PodReference {
            &self.spec.pod
        }
        fn volume(&self) -> &str {
            &self.spec.volume
        }
        fn metrics(metrics: &Metrics) -> &WorkMetrics {
            &metrics.$metrics
        }
    };
}

impl VolumeObject for PodVolumeBackup {
    accessors!(PodVolumeBackupStatus, "PodVolumeBackup", backup);

    async fn prepare(_task: &mut Task<Self>) -> Result<Option<Finish>> {
        Ok(None)
    }

    async fn weigh(task: &mut Task<Self>) -> Result<Weight> {
        crate::backup::weigh(task).await
    }

    async fn transfer(task: &mut Task<Self>) -> Result<Finish> {
        crate::backup::transfer(task).await
    }

    async fn conclude(_task: &mut Task<Self>, _finish: &mut Finish) -> Result<()> {
        Ok(())
    }
}

impl VolumeObject for PodVolumeRestore {
    accessors!(PodVolumeRestoreStatus, "PodVolumeRestore", restore);

    async fn prepare(task: &mut Task<Self>) -> Result<Option<Finish>> {
        crate::restore::prepare(task).await
    }

    async fn weigh(task: &mut Task<Self>) -> Result<Weight> {
        crate::restore::weigh(task).await
    }

    async fn transfer(task: &mut Task<Self>) -> Result<Finish> {
        crate::restore::transfer(task).await
    }

    async fn conclude(task: &mut Task<Self>, finish: &mut Finish) -> Result<()> {
        crate::restore::conclude(task, finish).await
    }
}
