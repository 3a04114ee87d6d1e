//! What is shown of restores.

use super::*;

fn restore(json: &serde_json::Value) -> Restore {
    let mut object = serde_json::json!({"apiVersion": "ark.heptio.com/v1", "kind": "Restore"});
    object
        .as_object_mut()
        .unwrap()
        .extend(json.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

fn finished() -> Restore {
    restore(&serde_json::json!({
        "metadata": {"name": "nginx-backup-20260102030405", "namespace": "heptio-ark",
                     "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"backupName": "nginx-backup", "namespaceMapping": {"a": "b"},
                 "existingResourcePolicy": "update"},
        "status": {
            "phase": "PartiallyFailed", "backupName": "nginx-backup",
            "startTimestamp": "2026-01-02T03:04:05Z", "completionTimestamp": "2026-01-02T03:05:06Z",
            "errors": 1, "progress": {"totalItems": 24, "itemsRestored": 24},
            "volumes": {"total": 2, "completed": 1, "failed": 1, "bytes": 4096},
        },
    }))
}

fn volume() -> PodVolumeRestore {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "PodVolumeRestore", "metadata": {"name": "r-1"},
        "spec": {"node": "node-a", "pod": {"namespace": "b", "name": "p"}, "volume": "v",
                 "snapshotID": "0123456789abcdef"},
        "status": {"phase": "PartiallyFailed", "message": "1 file is not back",
                   "progress": {"totalBytes": 4096, "bytesDone": 4096},
                   "fileErrors": [{"path": "/x", "operation": "write", "message": "no space left"}]},
    }))
    .unwrap()
}

#[test]
fn table_of_restores() {
    let new =
        restore(&serde_json::json!({"metadata": {"name": "x"}, "spec": {"scheduleName": "s"}}));
    insta::assert_snapshot!(table(&[finished(), new], &LabelColumns::default()));
}

#[test]
fn description_of_an_ended_restore() {
    let results = serde_json::from_value(serde_json::json!({
        "errors": {"namespaces": {"b": ["volume v of pod p: 1 file is not back"]}},
        "items": [
            {"resource": "pods", "namespace": "b", "name": "p", "action": "created"},
            {"resource": "namespaces", "name": "b", "action": "kept", "message": "it exists"},
            {"resource": "services", "namespace": "b", "name": "s", "action": "failed",
             "message": "provided port is already allocated"},
        ],
    }))
    .unwrap();
    let report = RestoreReport {
        restore: finished(),
        results: Some(results),
        pod_volume_restores: vec![volume()],
        missing: Vec::new(),
    };
    insta::assert_snapshot!(format!(
        "{}\n=== details\n{}",
        describe(&report, false, false),
        describe(&report, true, false)
    ));
}

#[test]
fn a_waiting_restore_says_for_what() {
    let waiting = restore(&serde_json::json!({
        "metadata": {"name": "r", "namespace": "heptio-ark"},
        "spec": {"backupName": "b"},
        "status": {"phase": "InProgress", "conditions": [
            {"type": "Waiting", "status": "True", "reason": "ClaimNotBound",
             "message": "claim n/data is not bound", "lastTransitionTime": "2026-01-02T03:04:05Z"},
        ]},
    }));
    let report = RestoreReport {
        restore: waiting,
        results: None,
        pod_volume_restores: Vec::new(),
        missing: Vec::new(),
    };
    let text = describe(&report, false, false);
    assert!(
        text.contains("Waiting for:  claim n/data is not bound (ClaimNotBound)\n"),
        "{text}"
    );
}

#[test]
fn summary_of_a_restore() {
    insta::assert_snapshot!(summary(&finished()));
}
