//! Kinds that this version knows and cannot act on: each object is answered with what to do
//! instead, so that nothing anybody creates is silently ignored.

use std::sync::Arc;

use ark_api::VolumeSnapshotLocation;
use ark_api::condition::{self, kind, reason};
use ark_api::location::LocationPhase;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::Reconciler;
use crate::context::Context;
use crate::error::Result;

const DISK_SNAPSHOTS: &str = "disk snapshots are not supported yet by this version; volumes are backed up \
    by their files";

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
