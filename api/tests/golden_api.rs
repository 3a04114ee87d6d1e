//! What users rely on in the API: manifests written for Velero, fixed words on the wire, and rules
//! that every definition keeps.

use ark_api::{Backup, BackupStorageLocation, Restore, Schedule};
use serde_json::json;

/// A Velero manifest with only its `apiVersion` changed is read with every field in its place.
#[test]
fn velero_manifests_move_over() {
    let backup: Backup = serde_json::from_value(json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "Backup",
        "metadata": {"name": "b", "namespace": "heptio-ark"},
        "spec": {
            "includedNamespaces": ["shop-*"], "excludedResources": ["events"],
            "labelSelector": {"matchLabels": {"app": "nginx"}}, "ttl": "720h0m0s",
            "storageLocation": "default", "defaultVolumesToFsBackup": true,
            "snapshotVolumes": false, "csiSnapshotTimeout": "10m", "itemOperationTimeout": "4h",
            "hooks": {}, "metadata": {"labels": {"team": "a"}},
            "uploaderConfig": {"parallelFilesUpload": 4}
        }
    }))
    .unwrap();
    assert_eq!(backup.spec.included_namespaces, ["shop-*"]);
    assert_eq!(backup.spec.ttl.unwrap().0.as_secs(), 720 * 3600);
    assert_eq!(backup.spec.default_volumes_to_fs_backup, Some(true));
    assert_eq!(
        backup.spec.uploader_config.unwrap().parallel_files_upload,
        Some(4)
    );

    let restore: Restore = serde_json::from_value(json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "Restore", "metadata": {"name": "r"},
        "spec": {
            "backupName": "b", "namespaceMapping": {"a": "b"}, "restorePVs": true,
            "existingResourcePolicy": "update", "uploaderConfig": {"writeSparseFiles": true}
        }
    }))
    .unwrap();
    assert_eq!(restore.spec.restore_pvs, Some(true));

    let location: BackupStorageLocation = serde_json::from_value(json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "BackupStorageLocation", "metadata": {"name": "default"},
        "spec": {
            "provider": "aws", "objectStorage": {"bucket": "ark", "prefix": "eu", "caCert": "LS0t"},
            "config": {"region": "minio", "s3ForcePathStyle": "true", "s3Url": "http://minio:9000"},
            "credential": {"name": "cloud-credentials", "key": "cloud"}, "default": true,
            "accessMode": "ReadWrite", "backupSyncPeriod": "0s", "validationFrequency": "1m"
        }
    }))
    .unwrap();
    assert_eq!(location.spec.object_storage.bucket, "ark");
    assert_eq!(
        location.spec.object_storage.ca_cert.as_deref(),
        Some("LS0t")
    );

    let schedule: Schedule = serde_json::from_value(json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "Schedule", "metadata": {"name": "s"},
        "spec": {"schedule": "0 1 * * *", "template": {"ttl": "24h"}, "paused": true}
    }))
    .unwrap();
    assert!(schedule.spec.paused);
}

/// Every definition: namespaced, status as a subresource, in the `ark` category, described, with a
/// short name and an age or status column, and without a field whose Rust name leaked to the wire.
#[test]
fn definitions_keep_the_rules() {
    let crds = ark_api::crds();
    assert_eq!(crds.len(), 11);
    for crd in crds {
        let name = crd.metadata.name.clone().unwrap();
        let version = &crd.spec.versions[0];
        assert_eq!(crd.spec.group, ark_api::GROUP, "{name}");
        assert_eq!(crd.spec.scope, "Namespaced", "{name}");
        assert!(
            version
                .subresources
                .as_ref()
                .is_some_and(|s| s.status.is_some()),
            "{name}"
        );
        assert_eq!(
            crd.spec.names.categories.as_deref(),
            Some(&["ark".to_owned()][..]),
            "{name}"
        );
        assert!(crd.spec.names.short_names.is_some(), "{name}");
        assert!(
            version
                .additional_printer_columns
                .as_ref()
                .is_some_and(|c| !c.is_empty()),
            "{name}"
        );
        let schema = serde_json::to_value(&version.schema).unwrap();
        check_fields(&name, &schema["openAPIV3Schema"]["properties"]["spec"]);
        check_fields(&name, &schema["openAPIV3Schema"]["properties"]["status"]);
    }
}

fn check_fields(at: &str, schema: &serde_json::Value) {
    for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{field}");
        assert!(!field.contains('_'), "{at}: snake case on the wire");
        assert!(!field.ends_with("Id"), "{at}: the API's spelling is ID");
        assert!(
            inner["description"].is_string() || inner["$ref"].is_string(),
            "{at}: no description"
        );
        check_fields(&at, inner);
        check_fields(&at, &inner["items"]);
    }
}

/// Volume objects can be selected by node, so that an agent sees only its own.
#[test]
fn volume_objects_are_selectable_by_node() {
    for crd in ark_api::crds() {
        if crd.spec.names.kind.starts_with("PodVolume") {
            let fields = crd.spec.versions[0]
                .selectable_fields
                .clone()
                .unwrap_or_default();
            assert_eq!(fields[0].json_path, ".spec.node");
        }
    }
}

/// An origin can be neither added, changed nor removed.
#[test]
fn executed_kinds_guard_their_origin() {
    for kind in [
        "Backup",
        "Restore",
        "Schedule",
        "PodVolumeBackup",
        "PodVolumeRestore",
        "ResticRepository",
    ] {
        let crd = ark_api::crds()
            .into_iter()
            .find(|c| c.spec.names.kind == kind)
            .unwrap();
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let rules =
            schema["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"].to_string();
        assert!(rules.contains("oldSelf.origin"), "{kind}: {rules}");
    }
}

fn every_schema(schema: &serde_json::Value, check: &mut impl FnMut(&serde_json::Value)) {
    check(schema);
    let properties = schema["properties"].as_object();
    for inner in properties.into_iter().flat_map(serde_json::Map::values) {
        every_schema(inner, check);
    }
    for inner in [&schema["items"], &schema["additionalProperties"]] {
        if inner.is_object() {
            every_schema(inner, check);
        }
    }
}

/// The API server takes a null away, unless the schema says that it may be there; a list of words that may be
/// null is one that null is not in.
#[test]
fn a_null_is_refused_nowhere() {
    for crd in ark_api::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        every_schema(&schema["openAPIV3Schema"], &mut |schema| {
            let of_words = schema["enum"].is_array();
            assert!(!(of_words && schema["nullable"] == true), "{schema}");
        });
    }
}

/// A duration is refused with words and not with a pattern.
#[test]
fn a_duration_that_is_none_is_explained() {
    let mut rules = 0;
    for crd in ark_api::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        every_schema(&schema["openAPIV3Schema"], &mut |schema| {
            let text = schema["x-kubernetes-validations"].to_string();
            rules += i32::from(text.contains("720h (30 days)"));
        });
    }
    assert!(rules > 5, "{rules} durations have the rule");
}

/// Exports of Velero's have fields in their status that are not known here.
#[test]
fn a_foreign_status_is_no_reason_to_refuse_an_object() {
    for crd in ark_api::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let status = &schema["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["x-kubernetes-preserve-unknown-fields"], true);
    }
}
