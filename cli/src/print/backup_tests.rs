//! What is shown of backups.

use super::*;

fn backup(json: &serde_json::Value) -> Backup {
    let mut object = serde_json::json!({"apiVersion": "ark.heptio.com/v1", "kind": "Backup"});
    object
        .as_object_mut()
        .unwrap()
        .extend(json.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

fn finished() -> Backup {
    backup(&serde_json::json!({
        "metadata": {"name": "nginx-backup", "namespace": "heptio-ark",
                     "labels": {"team": "web", "ark.heptio.com/schedule-name": "daily"}},
        "spec": {"labelSelector": {"matchLabels": {"app": "nginx"}}, "storageLocation": "default",
                 "excludedNamespaces": ["kube-system"], "ttl": "720h"},
        "status": {
            "phase": "PartiallyFailed", "formatVersion": "1.1.0", "attempt": 2,
            "startTimestamp": "2026-01-02T03:04:05Z", "completionTimestamp": "2026-01-02T03:04:09.5Z",
            "expiration": "2026-02-01T03:04:05Z", "errors": 1, "warnings": 2,
            "progress": {"totalItems": 24, "itemsBackedUp": 23},
            "volumes": {"taken": 1, "partial": 1, "unprotected": 1, "notData": 1},
            "unprotectedVolumes": 1, "bytes": 1_572_864, "newBytes": 2048,
        },
    }))
}

fn rows() -> Vec<VolumeRow> {
    serde_json::from_value(serde_json::json!([
        {"namespace": "nginx-example", "pod": "nginx-1", "volume": "content", "claim": "content",
         "class": "taken", "method": "files", "reason": "Completed", "bytes": 1_048_576,
         "newBytes": 1024, "files": 7},
        {"namespace": "nginx-example", "pod": "nginx-1", "volume": "logs", "class": "partial",
         "method": "files", "reason": "UnreadableFiles", "bytes": 524_288, "newBytes": 1024,
         "files": 2, "message": "1 file could not be read: access.log"},
        {"namespace": "nginx-example", "pod": "nginx-1", "volume": "kube-api-access",
         "class": "notData", "reason": "NoDataOfItsOwn"},
        {"namespace": "nginx-example", "claim": "spare", "class": "unprotected",
         "reason": "NotMounted", "message": "no running pod mounts it"},
    ]))
    .unwrap()
}

fn report(backup: Backup) -> BackupReport {
    BackupReport {
        backup,
        results: None,
        volumes: None,
        pod_volume_backups: Vec::new(),
        items: None,
        missing: Vec::new(),
    }
}

#[test]
fn table_of_backups() {
    let new = backup(&serde_json::json!({"metadata": {"name": "fresh"}, "spec": {}}));
    let now = "2026-01-03T00:00:00Z".parse().unwrap();
    let backups = [finished(), new];
    let plain = table(&backups, &LabelColumns::default(), now);
    let columns = LabelColumns {
        keys: vec!["team".into()],
        all: true,
    };
    insta::assert_snapshot!(format!("{plain}\n{}", table(&backups, &columns, now)));
}

#[test]
fn description_of_an_ended_backup() {
    let mut report = report(finished());
    report.volumes = Some(rows());
    report.results = Some(
        serde_json::from_value(serde_json::json!({
            "errors": {"namespaces": {"nginx-example": ["pod nginx-1: volume logs: 1 file could not be read"]}},
            "warnings": {"ark": ["the location answered slowly"], "cluster": ["no v1beta1.metrics"]},
        }))
        .unwrap(),
    );
    report.items = Some(BTreeMap::from([(
        "v1/Pod".to_owned(),
        vec!["nginx-example/nginx-1".to_owned()],
    )]));
    insta::assert_snapshot!(describe(&report, true, false));
}

#[test]
fn description_of_a_running_backup() {
    let running = backup(&serde_json::json!({
        "metadata": {"name": "b", "namespace": "heptio-ark"},
        "spec": {"includedClusterScopedResources": ["persistentvolumes"], "defaultVolumesToFsBackup": true},
        "status": {"phase": "InProgress", "startTimestamp": "2026-01-02T03:04:05Z",
                   "progress": {"totalItems": 9, "itemsBackedUp": 3}},
    }));
    let mut report = report(running);
    report.pod_volume_backups = vec![
        serde_json::from_value(serde_json::json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "PodVolumeBackup", "metadata": {"name": "b-1"},
            "spec": {"node": "node-a", "pod": {"namespace": "n", "name": "p"}, "volume": "v"},
            "status": {"phase": "InProgress", "progress": {"totalBytes": 4096, "bytesDone": 1024}},
        }))
        .unwrap(),
    ];
    insta::assert_snapshot!(describe(&report, false, false));
}

#[test]
fn description_of_a_refused_backup() {
    let refused = backup(&serde_json::json!({
        "metadata": {"name": "b", "namespace": "heptio-ark"},
        "spec": {"snapshotVolumes": true},
        "status": {"phase": "FailedValidation",
                   "validationErrors": ["snapshotVolumes: disk snapshots are not supported yet"]},
    }));
    let text = describe(&report(refused.clone()), false, false);
    insta::assert_snapshot!(format!("{text}\n---\n{}", summary(&refused)));
}

#[test]
fn summary_names_what_is_unprotected() {
    insta::assert_snapshot!(summary(&finished()));
}

#[test]
fn without_rows_the_counts_are_shown_and_the_reason() {
    let mut report = report(finished());
    report.missing = vec!["volume rows: the operator has not answered".into()];
    let text = describe(&report, false, false);
    assert!(text.contains("Unprotected:         1\n"), "{text}");
    assert!(
        text.ends_with("Not shown:\n  volume rows: the operator has not answered\n"),
        "{text}"
    );
}

#[test]
fn only_a_terminal_gets_colours() {
    assert!(
        describe(&report(finished()), false, true).contains("\u{1b}[33mPartiallyFailed\u{1b}[0m")
    );
    assert!(!describe(&report(finished()), false, false).contains('\u{1b}'));
}

#[test]
fn values_with_commas_stay_in_their_line() {
    let mut backup = finished();
    let note = ("note".to_owned(), "a, b,c".to_owned());
    backup.metadata.annotations = Some([note, ("other".to_owned(), "d".to_owned())].into());
    let text = describe(&report(backup), false, false);
    assert!(text.contains("note=a, b,c\n"), "{text}");
}

#[test]
fn a_copy_says_how_it_is_executed_on_purpose() {
    let copy = backup(&serde_json::json!({
        "metadata": {"name": "b", "namespace": "heptio-ark"}, "spec": {},
        "status": {"phase": "Copy", "conditions": [{"type": "Copy", "status": "True", "reason": "CopyOfExecuted",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "the object is a copy; to execute it: kubectl annotate"}]},
    }));
    let text = describe(&report(copy), false, false);
    assert!(text.contains("Phase:   Copy\n"), "{text}");
    assert!(text.contains("to execute it: kubectl annotate"), "{text}");
}
