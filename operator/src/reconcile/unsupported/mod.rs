//! Kinds that this version knows and cannot act on: each object is answered with what to do instead, so
//! that nothing anybody creates is silently ignored.

use std::sync::Arc;

use ark_api::condition::{self, kind, reason};
use ark_api::location::LocationPhase;
use ark_api::requests::{DeleteBackupRequestStatus, RequestPhase};
use ark_api::schedule::SchedulePhase;
use ark_api::{DeleteBackupRequest, Schedule, VolumeSnapshotLocation};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::Reconciler;
use crate::context::Context;
use crate::error::Result;

const DELETION: &str = "not supported yet by this version; delete the Backup object and the directory \
    backups/<name> at its location by hand, and forget its snapshots with restic";
const SCHEDULES: &str = "schedules are not supported yet by this version; create Backups by hand, or from a \
    CronJob that runs `ark backup create`";
const DISK_SNAPSHOTS: &str = "disk snapshots are not supported yet by this version; volumes are backed up \
    by their files";

/// Answers requests to delete a backup.
#[derive(Debug, Default)]
pub(crate) struct DeletionReconciler;

impl Reconciler for DeletionReconciler {
    type Kind = DeleteBackupRequest;

    async fn reconcile(
        &self,
        object: &DeleteBackupRequest,
        context: &Arc<Context>,
    ) -> Result<Action> {
        let uid = object.uid().unwrap_or_default();
        let api = context.api::<DeleteBackupRequest>();
        crate::status::update(&api, &object.name_any(), &uid, |request| {
            request.status = Some(DeleteBackupRequestStatus {
                phase: Some(RequestPhase::Processed),
                errors: vec![DELETION.to_owned()],
            });
        })
        .await?;
        Ok(Action::await_change())
    }
}

/// Answers schedules.
#[derive(Debug, Default)]
pub(crate) struct ScheduleReconciler;

impl Reconciler for ScheduleReconciler {
    type Kind = Schedule;

    async fn reconcile(&self, object: &Schedule, context: &Arc<Context>) -> Result<Action> {
        let uid = object.uid().unwrap_or_default();
        crate::status::update(
            &context.api::<Schedule>(),
            &object.name_any(),
            &uid,
            |schedule| {
                let generation = schedule.metadata.generation;
                let status = schedule.status.get_or_insert_default();
                status.phase = Some(SchedulePhase::FailedValidation);
                status.validation_errors = vec![SCHEDULES.to_owned()];
                status.observed_generation = generation;
            },
        )
        .await?;
        Ok(Action::await_change())
    }
}

/// Answers locations of disk snapshots.
#[derive(Debug, Default)]
pub(crate) struct SnapshotLocationReconciler;

impl Reconciler for SnapshotLocationReconciler {
    type Kind = VolumeSnapshotLocation;

    async fn reconcile(
        &self,
        object: &VolumeSnapshotLocation,
        context: &Arc<Context>,
    ) -> Result<Action> {
        let uid = object.uid().unwrap_or_default();
        let now = context.clock.time();
        let api = context.api::<VolumeSnapshotLocation>();
        crate::status::update(&api, &object.name_any(), &uid, |location| {
            let generation = location.metadata.generation;
            let status = location.status.get_or_insert_default();
            status.phase = Some(LocationPhase::Unavailable);
            status.message = Some(DISK_SNAPSHOTS.to_owned());
            status.observed_generation = generation;
            condition::set(
                &mut status.conditions,
                kind::AVAILABLE,
                false,
                reason::INVALID_SPEC,
                DISK_SNAPSHOTS,
                generation,
                &now,
            );
        })
        .await?;
        Ok(Action::await_change())
    }
}
