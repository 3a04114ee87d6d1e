//! Manifests as users of Velero and of the first Ark have them, against the definitions as shipped,
//! with kubectl's own validation: each is taken with every field, or refused with words that say
//! what to do.
#![expect(clippy::too_many_lines, reason = "the manifests are one table")]

use ark_tests::ark::{Ark, PLANE};
use ark_tests::node::until;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use xtask::exec;

/// What becomes of a manifest.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The API server takes it; nothing more is asked here.
    Taken,
    /// It is executed.
    Runs,
    /// The operator refuses it with these words.
    Invalid(&'static str),
    /// It is shown as a copy.
    Copy,
    /// The API server refuses it with these words.
    Refused(&'static str),
}

/// Kind, what it is, spec (or the whole object but its kind and name), and its fate.
fn manifests(shop: &str) -> Vec<(&'static str, &'static str, Value, Fate)> {
    use Fate::{Copy, Invalid, Refused, Runs, Taken};

    let exported = json!({
        "metadata": {"annotations": {"velero.io/source-cluster-k8s-gitversion": "v1.32.3", "velero.io/resource-timeout": "10m0s"},
            "labels": {"velero.io/schedule-name": "daily", "velero.io/storage-location": "default"}},
        "spec": {"csiSnapshotTimeout": "10m0s", "hooks": {}, "includedNamespaces": [shop], "itemOperationTimeout": "4h0m0s",
            "metadata": {}, "snapshotMoveData": false, "ttl": "720h0m0s", "volumeGroupSnapshotLabelKey": "velero.io/volume-group"},
        "status": {"phase": "Completed", "hookStatus": {}, "backupItemOperationsAttempted": 1, "version": 1},
    });
    let hook = json!({"resources": [{"name": "h", "includedResources": ["pods"], "label": {"matchLabels": {"app": "db"}},
        "pre": [{"exec": {"command": ["/bin/uname", "-a"], "onError": "Fail", "timeout": "10s"}}], "post": null}]});
    let words = json!({"metadata": {}, "spec": {
        "includedNamespaces": [shop], "storageLocation": "default",
        "labelSelector": {"matchLabels": {"app": "nginx"}}, "hooks": {}, "ttl": "720h0m0s"}});
    let zero = json!({"metadata": {"creationTimestamp": null}, "status": {},
        "spec": {"csiSnapshotTimeout": "0s", "itemOperationTimeout": "0s", "ttl": "0s", "hooks": {}, "metadata": {}, "includedNamespaces": [shop]}});
    let documented = json!({"spec": {"includedNamespaces": [shop], "snapshotVolumes": null, "includeClusterResources": null, "hooks": hook},
        "status": {"phase": "", "expiration": null, "validationErrors": null, "volumeBackups": {"pv": {"snapshotID": "s", "iops": 1}}}});
    vec![
        ("Backup", "empty", json!({"spec": {}}), Runs),
        ("Backup", "plain", words, Runs),
        ("Backup", "zero-values", zero, Runs),
        ("Backup", "with-status", documented, Invalid("spec.hooks")),
        ("Backup", "exported", exported, Copy),
        (
            "Backup",
            "nulls",
            json!({"spec": {"includedNamespaces": [shop], "excludedNamespaces": null, "excludedResources": null,
                "includeClusterResources": null, "labelSelector": null, "orLabelSelectors": null, "ttl": null,
                "orderedResources": null, "volumeSnapshotLocations": ["default"]}}),
            Invalid("spec.volumeSnapshotLocations"),
        ),
        (
            "Backup",
            "no-location",
            json!({"spec": {"storageLocation": "dpa-sample-1"}}),
            Invalid("location dpa-sample-1 does not exist"),
        ),
        (
            "Backup",
            "disk-snapshots",
            json!({"spec": {"snapshotVolumes": true, "snapshotMoveData": true}}),
            Invalid("spec.snapshotVolumes"),
        ),
        (
            "Backup",
            "ordered",
            json!({"spec": {"orderedResources": {"pods": "a/db-0,a/db-1"}}}),
            Invalid("spec.orderedResources"),
        ),
        (
            "Backup",
            "policy",
            json!({"spec": {"resourcePolicy": {"kind": "ConfigMap", "name": "p"}}}),
            Invalid("spec.resourcePolicy"),
        ),
        (
            "Backup",
            "or-selectors",
            json!({"spec": {"includedNamespaces": [shop], "orLabelSelectors": [{"matchExpressions": [
                {"key": "example.io/admin", "operator": "NotIn", "values": ["true"]}]}]}}),
            Runs,
        ),
        (
            "Backup",
            "kinds-of-other-clusters",
            json!({"spec": {"includedNamespaces": [shop], "includedResources": ["applications.example.com", "vault", "secrets", "po"],
                "excludedResources": ["imagestreams.image.example.com"]}}),
            Runs,
        ),
        (
            "Backup",
            "days",
            json!({"spec": {"ttl": "30d"}}),
            Refused("720h (30 days)"),
        ),
        (
            "Backup",
            "misspelt",
            json!({"spec": {"includedNamespace": [shop]}}),
            Refused("includedNamespace"),
        ),
        (
            "Schedule",
            "days",
            json!({"spec": {"schedule": "44 21 * * *", "template": {"ttl": "30d"}}}),
            Refused("720h (30 days)"),
        ),
        (
            "Schedule",
            "nulls",
            json!({"spec": {"schedule": "0 1 * * *", "paused": null, "template": {"excludedNamespaces": null, "labelSelector": null,
                "metadata": null, "ttl": "720h0m0s", "hooks": {"resources": []}}}}),
            Taken,
        ),
        (
            "Schedule",
            "labels",
            json!({"metadata": {"labels": {"tier": "0"}}, "spec": {"schedule": "CRON_TZ=America/New_York 10 1 * * *", "useOwnerReferencesInBackup": true,
                "template": {"metadata": {"labels": {"tier": "0"}}, "csiSnapshotTimeout": "72h", "defaultVolumesToRestic": true}}}),
            Taken,
        ),
        (
            "Restore",
            "nulls",
            json!({"spec": {"backupName": "none", "existingResourcePolicy": null, "includeClusterResources": null, "hooks": {},
                "namespaceMapping": null, "restorePVs": true}}),
            Invalid("none"),
        ),
        (
            "Restore",
            "partially-failed",
            json!({"spec": {"scheduleName": "daily", "allowPartiallyFailed": true, "itemOperationTimeout": "2h"}}),
            Invalid("daily"),
        ),
        (
            "Restore",
            "modifier",
            json!({"spec": {"backupName": "none", "resourceModifier": {"kind": "ConfigMap", "name": "m"}}}),
            Invalid("resourceModifier"),
        ),
        (
            "Restore",
            "init-hooks",
            json!({"spec": {"backupName": "none", "hooks": {"resources": [{"name": "h", "postHooks": [{"init": {"initContainers": [{"name": "i", "image": "x"}]}}]}]}}}),
            Invalid("hooks"),
        ),
        (
            "Restore",
            "empty",
            json!({"spec": {}}),
            Invalid("backupName"),
        ),
        (
            "BackupStorageLocation",
            "nulls",
            json!({"spec": {"provider": null, "accessMode": null, "objectStorage": {"bucket": null}}}),
            Taken,
        ),
        (
            "BackupStorageLocation",
            "all-keys",
            json!({"spec": {"provider": "velero.io/aws", "objectStorage": {"bucket": "b", "prefix": "p"}, "credential": {"name": "c", "key": "cloud"},
                "config": {"region": "r", "s3ForcePathStyle": "true", "checksumAlgorithm": "", "profile": "default"},
                "validationFrequency": "1h", "backupSyncPeriod": "2m0s", "accessMode": "ReadWrite"},
                "status": {"lastSyncedTime": "2026-06-09T12:44:30Z", "phase": "Available"}}),
            Taken,
        ),
        (
            "BackupStorageLocation",
            "old-config",
            json!({"spec": {"provider": "aws", "objectStorage": {"bucket": "b", "config": {"region": "us-west-2"}}}}),
            Refused("objectStorage.config"),
        ),
        (
            "VolumeSnapshotLocation",
            "aws",
            json!({"spec": {"provider": "velero.io/aws", "config": {"region": "r"}, "credential": {"name": "c", "key": "cloud"}}}),
            Taken,
        ),
        ("ServerStatusRequest", "empty", json!({"spec": {}}), Taken),
        (
            "BackupRepository",
            "kopia",
            json!({"spec": {"repositoryType": "kopia"}}),
            Refused("BackupRepository"),
        ),
    ]
}

/// Whether everything that `given` says is in `kept`; a null says nothing.
fn is_kept(given: &Value, kept: &Value) -> bool {
    match (given, kept) {
        (Value::Object(given), _) => given
            .iter()
            .filter(|(_, value)| !value.is_null())
            .all(|(key, value)| is_kept(value, &kept[key])),
        (Value::Array(given), Value::Array(kept)) => {
            given.len() == kept.len() && given.iter().zip(kept).all(|(g, k)| is_kept(g, k))
        }
        (given, kept) => given == kept,
    }
}

/// All words of a status.
fn words(object: &DynamicObject) -> String {
    object.data["status"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn public_manifests_are_taken_whole_or_refused_with_a_reason() {
    let ark = Ark::with_location().await;
    let mut wrong = Vec::new();
    for (kind, name, body, fate) in manifests(&ark.shop) {
        let mut object = body;
        object["apiVersion"] = json!("ark.heptio.com/v1");
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!(name);
        let mut apply = PLANE.kubectl().unwrap();
        apply.args(["--namespace", &ark.namespace, "apply", "-f", "-"]);
        let applied = exec::output_with_input(&mut apply, &object.to_string());
        let said = match (applied, fate) {
            (Err(error), Fate::Refused(words)) if format!("{error:#}").contains(words) => continue,
            (Err(error), _) => format!("{error:#}"),
            (Ok(_), Fate::Refused(_)) => "taken".to_owned(),
            (Ok(_), _) => {
                let kind = GroupVersionKind::gvk("ark.heptio.com", "v1", kind);
                let resource = ApiResource::from_gvk(&kind);
                let api: Api<DynamicObject> =
                    Api::namespaced_with(ark.client.clone(), &ark.namespace, &resource);
                let found = api.get(name).await.unwrap();
                if !is_kept(&object["spec"], &found.data["spec"]) {
                    wrong.push(format!("{kind:?} {name}: lost {}", found.data["spec"]));
                    continue;
                }
                if matches!(fate, Fate::Taken) {
                    continue;
                }
                let ended = until(
                    &format!("a verdict on {name}; {}", ark.tail()),
                    async || {
                        let found = api.get(name).await.unwrap();
                        found.data["status"]["phase"].as_str().filter(|phase| {
                            !matches!(
                                *phase,
                                "New" | "InProgress" | "Finalizing" | "Queued" | "ReadyToStart"
                            )
                        })?;
                        Some(found)
                    },
                )
                .await;
                let phase = ended.data["status"]["phase"].as_str().unwrap_or_default();
                let right = match fate {
                    Fate::Runs => matches!(phase, "Completed" | "PartiallyFailed"),
                    Fate::Copy => phase == "Copy",
                    Fate::Invalid(text) => {
                        phase == "FailedValidation" && words(&ended).contains(text)
                    }
                    Fate::Taken | Fate::Refused(_) => true,
                };
                if right {
                    continue;
                }
                words(&ended)
            }
        };
        wrong.push(format!("{kind} {name}: {fate:?}, but: {said}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What the cluster does not know is said, and is no failure beside what it does.
    let results = ark.results("kinds-of-other-clusters");
    assert!(results.errors.is_empty(), "{:?}", results.errors);
    let warnings = results.warnings.cluster.join("\n");
    for name in ["applications.example.com", "vault", "imagestreams.image"] {
        assert!(warnings.contains(name), "{warnings}");
    }
}
