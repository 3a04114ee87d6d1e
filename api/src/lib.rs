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
pub mod lock_holder;
pub mod maintenance;
pub mod naming;
pub mod origin;
pub mod pod_volume_backup;
pub mod pod_volume_restore;
pub mod repository;
pub mod requests;
pub mod restore;
pub mod results;
pub mod run_stamp;
pub mod schedule;
pub mod size;
pub mod snapshot_location;
pub mod store_settings;
pub mod template;
pub mod volume;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
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
    let mut crds = vec![
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
    ];
    let versions = crds.iter_mut().flat_map(|crd| &mut crd.spec.versions);
    for version in versions {
        let schema = version.schema.as_mut();
        if let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            let_words_be_null(schema);
            let_status_be_foreign(schema);
        }
    }
    crds
}

/// An export of Velero, or of a later version, has fields in its status that are not known here. The API server
/// drops the status of what is created; it must not be the reason to refuse the object.
fn let_status_be_foreign(schema: &mut JSONSchemaProps) {
    let properties = schema.properties.as_mut();
    if let Some(status) = properties.and_then(|properties| properties.get_mut("status")) {
        status.x_kubernetes_preserve_unknown_fields = Some(true);
    }
}

/// `null` stands for "not set" in manifests that programs write. The API server takes a null away where
/// the schema does not allow one; where it does, it looks for the null among the words of a list.
fn let_words_be_null(schema: &mut JSONSchemaProps) {
    if schema.enum_.is_some() {
        schema.nullable = None;
    }
    for inner in schema
        .properties
        .iter_mut()
        .flat_map(|map| map.values_mut())
    {
        let_words_be_null(inner);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(inner)) => let_words_be_null(inner),
        Some(JSONSchemaPropsOrArray::Schemas(several)) => {
            several.iter_mut().for_each(let_words_be_null);
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(inner)) = &mut schema.additional_properties {
        let_words_be_null(inner);
    }
}
