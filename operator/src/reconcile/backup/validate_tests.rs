use ark_api::location::{BackupStorageLocationSpec, BackupStorageLocationStatus};
use serde_json::{Value, json};

use super::*;

fn spec(value: Value) -> BackupSpec {
    serde_json::from_value(value).unwrap()
}

fn location(name: &str, default: bool) -> BackupStorageLocation {
    let spec = BackupStorageLocationSpec {
        default: Some(default),
        ..BackupStorageLocationSpec::default()
    };
    BackupStorageLocation::new(name, spec)
}

fn check(value: Value) -> Result<Plan, Vec<String>> {
    validate(
        &spec(value),
        &[location("default", true), location("other", false)],
        None,
    )
}

/// Exactly one problem, which contains `text`.
fn refused(value: &Value, text: &str) {
    let problems = check(value.clone()).unwrap_err();
    assert!(
        problems.len() == 1 && problems[0].contains(text),
        "{value}: {problems:?}"
    );
}

#[test]
fn defaults() {
    let plan = check(json!({})).unwrap();
    assert_eq!(plan.location, "default");
    assert_eq!(plan.ttl, DEFAULT_TTL);
    assert_eq!(plan.volume_timeout, DEFAULT_VOLUME_TIMEOUT);
    assert!(!plan.opt_out);
    let plan =
        check(json!({"storageLocation": "other", "ttl": "24h", "defaultVolumesToRestic": true}))
            .unwrap();
    assert_eq!(
        (plan.location.as_str(), plan.ttl.as_secs(), plan.opt_out),
        ("other", 86_400, true)
    );
}

#[test]
fn locations() {
    refused(
        &json!({"storageLocation": "nowhere"}),
        "location nowhere does not exist",
    );
    let none = validate(&BackupSpec::default(), &[], None).unwrap_err();
    assert!(none[0].contains("no default location"), "{none:?}");
    let two = [location("a", true), location("b", true)];
    assert!(validate(&BackupSpec::default(), &two, Some("a")).unwrap_err()[0].contains("a, b"));
    let unmarked = [location("a", false)];
    assert_eq!(
        validate(&BackupSpec::default(), &unmarked, Some("a"))
            .unwrap()
            .location,
        "a"
    );
}

#[test]
fn a_velero_manifest_that_asks_for_nothing_special_is_accepted() {
    check(json!({
        "csiSnapshotTimeout": "10m0s", "hooks": {}, "metadata": {}, "snapshotMoveData": false,
        "itemOperationTimeout": "4h0m0s", "includedNamespaces": ["*"], "datamover": "velero",
        "volumeGroupSnapshotLabelKey": "velero.io/volume-group", "ttl": "720h0m0s",
        "defaultVolumesToFsBackup": false, "snapshotVolumes": false, "uploaderConfig": {},
    }))
    .unwrap();
}

#[test]
fn what_cannot_be_done_is_refused() {
    for (value, text) in [
        (json!({"snapshotVolumes": true}), "snapshotVolumes"),
        (json!({"snapshotMoveData": true}), "snapshotMoveData"),
        (json!({"datamover": "acme"}), "datamover"),
        (
            json!({"volumeSnapshotLocations": ["a"]}),
            "volumeSnapshotLocations",
        ),
        (json!({"hooks": {"resources": [{"name": "h"}]}}), "hooks"),
        (
            json!({"orderedResources": {"pods": "a/b"}}),
            "orderedResources",
        ),
        (json!({"csiSnapshotTimeout": "1h"}), "csiSnapshotTimeout"),
        (
            json!({"resourcePolicy": {"kind": "configmap", "name": "p"}}),
            "resourcePolicy",
        ),
        (
            json!({"volumeGroupSnapshotLabelKey": "x"}),
            "volumeGroupSnapshotLabelKey",
        ),
        (
            json!({"uploaderConfig": {"parallelFilesUpload": 4}}),
            "parallelFilesUpload",
        ),
        (json!({"metadata": {"labels": {"a": "b"}}}), "spec.metadata"),
        (
            json!({"defaultVolumesToFsBackup": true, "defaultVolumesToRestic": false}),
            "contradict",
        ),
    ] {
        refused(&value, text);
    }
}

#[test]
fn filters_that_make_no_sense_are_refused() {
    for (value, text) in [
        (
            json!({"includedResources": ["pods"], "includedClusterScopedResources": ["nodes"]}),
            "mixed",
        ),
        (
            json!({"labelSelector": {}, "orLabelSelectors": [{}]}),
            "exclude each other",
        ),
        (json!({"includedNamespaces": ["a**"]}), "includedNamespaces"),
        (
            json!({"excludedNamespaces": ["{a,b}"]}),
            "excludedNamespaces",
        ),
        (json!({"includedNamespaces": ["a["]}), "bracket"),
        (json!({"includedNamespaces": ["../etc"]}), "not understood"),
        (json!({"includedNamespaces": ["a b"]}), "characters"),
        (
            json!({"includedNamespaces": ["*", "a"]}),
            "nothing can stand beside",
        ),
        (
            json!({"includedNamespaces": ["a"], "excludedNamespaces": ["a"]}),
            "both",
        ),
        (json!({"excludedNamespaces": ["*"]}), "nothing to take"),
        (json!({"includedResources": ["pod*"]}), "pattern"),
        (
            json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["x"]}]}}),
            "label selector",
        ),
        (
            json!({"labelSelector": {"matchLabels": {"a b": "x"}}}),
            "label name",
        ),
        (
            json!({"labelSelector": {"matchLabels": {"a": "-x"}}}),
            "label value",
        ),
    ] {
        refused(&value, text);
    }
    check(json!({"includedNamespaces": ["shop-?", "team-[a-c]*"], "labelSelector": {"matchLabels": {"app.io/name": "a"}}})).unwrap();
}

#[test]
fn every_reason_at_once() {
    let problems =
        check(json!({"storageLocation": "x", "snapshotVolumes": true, "includedNamespaces": [""]}))
            .unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn a_location_is_usable_once_it_was_judged_as_it_is() {
    let mut l = location("l", false);
    l.metadata.generation = Some(2);
    assert_eq!(usable(&l), Usable::NotYet);
    l.status = Some(BackupStorageLocationStatus {
        phase: Some(LocationPhase::Available),
        observed_generation: Some(1),
        ..BackupStorageLocationStatus::default()
    });
    assert_eq!(usable(&l), Usable::NotYet);
    l.status.as_mut().unwrap().observed_generation = Some(2);
    assert_eq!(usable(&l), Usable::Yes);
    l.status.as_mut().unwrap().phase = Some(LocationPhase::Unavailable);
    l.status.as_mut().unwrap().message = Some("bucket b does not exist".to_owned());
    assert!(matches!(usable(&l), Usable::No(why) if why.contains("bucket b")));
    l.spec.access_mode = Some(AccessMode::ReadOnly);
    assert!(matches!(usable(&l), Usable::No(why) if why.contains("read-only")));
}
