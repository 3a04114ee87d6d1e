//! The `ark.heptio.com/v1` API of Ark: types, names and pure rules.
//!
//! This crate knows no client, no runtime and does no I/O. Everything else in the workspace may
//! depend on it; it depends on nothing of ours.
//!
//! - One custom resource a file: [`backup`], [`restore`], [`schedule`], [`location`],
//!   [`snapshot_location`], [`repository`], [`pod_volume_backup`], [`pod_volume_restore`],
//!   [`requests`].
//! - The only home of names: [`annotation`], [`label`], [`condition`], [`mod@env`], [`layout`],
//!   [`naming`].
//! - Pure rules: [`store_settings`], [`cron`], [`template`].
//! - Shared value types: [`duration`], [`volume`], [`results`], [`origin`],
//!   [`attempt`].
//!
//! Field names, phases and meanings follow the Velero API (release 1.16) with the group changed, so
//! that a manifest moves over by changing its `apiVersion`. What differs: status is a subresource,
//! conditions carry stable reasons, and every object records the generation it observed.

#![expect(
    unreachable_pub,
    reason = "the derive of CRD schemas repeats each spec inside a function"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "several printer columns of a kind have the same type"
)]

pub mod annotation;
pub mod attempt;
pub mod backup;
pub mod condition;
pub mod cron;
pub mod duration;
pub mod env;
pub mod label;
pub mod layout;
pub mod location;
pub mod naming;
pub mod origin;
pub mod pod_volume_backup;
pub mod pod_volume_restore;
pub mod repository;
pub mod requests;
pub mod restore;
pub mod results;
pub mod schedule;
pub mod size;
pub mod snapshot_location;
pub mod store_settings;
pub mod template;
pub mod volume;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use backup::Backup;
pub use location::BackupStorageLocation;
pub use pod_volume_backup::PodVolumeBackup;
pub use pod_volume_restore::PodVolumeRestore;
pub use repository::ResticRepository;
pub use requests::{DeleteBackupRequest, DownloadRequest, ServerStatusRequest};
pub use restore::Restore;
pub use schedule::Schedule;
pub use snapshot_location::VolumeSnapshotLocation;

/// API group of every kind in this crate.
pub const GROUP: &str = "ark.heptio.com";
/// API version of every kind in this crate.
pub const VERSION: &str = "v1";
/// Namespace Ark is installed in unless the user says otherwise.
pub const DEFAULT_NAMESPACE: &str = "heptio-ark";

/// The definitions of all kinds, in the order they should be listed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        Backup::crd(),
        Restore::crd(),
        Schedule::crd(),
        BackupStorageLocation::crd(),
        VolumeSnapshotLocation::crd(),
        ResticRepository::crd(),
        PodVolumeBackup::crd(),
        PodVolumeRestore::crd(),
        DeleteBackupRequest::crd(),
        DownloadRequest::crd(),
        ServerStatusRequest::crd(),
    ]
}
