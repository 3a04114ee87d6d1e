//! From the marker found in a bucket to the Backup that appears in the cluster, or the reason why
//! none does. Pure.
//!
//! A marker comes from anybody who can write to the bucket: nothing of it is taken over that would
//! make the object another's, or more than a record.

use std::collections::BTreeMap;

use ark_api::backup::BackupPhase;
use ark_api::origin::Origin;
use ark_api::{Backup, annotation, label};
use kube::ResourceExt;
use kube::api::ObjectMeta;

/// Longest name Kubernetes gives an object.
const MAX_NAME: usize = 253;
/// Beginnings of keys that mean something to Ark, or to the tools that managed the object where it
/// was made.
const NOT_TAKEN_OVER: &[&str] = &[
    "ark.heptio.com/",
    "kubectl.kubernetes.io/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
    "app.kubernetes.io/managed-by",
];

/// What a directory below `backups/` holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// A backup that has not ended, or something that is no backup.
    Unfinished,
    /// A backup, as it is to appear.
    Backup(Box<Backup>),
    /// Something that looks like a backup and cannot be one, for this reason.
    Refused(String),
}

/// Judges the marker in the directory `name` of `location`.
pub(super) fn judge(name: &str, marker: &[u8], location: &str) -> Found {
    let marker: Backup = match serde_json::from_slice(marker) {
        Ok(marker) => marker,
        Err(error) => return Found::Refused(format!("its marker cannot be read: {error}")),
    };
    let own_name = marker.name_any();
    if own_name != name {
        return Found::Refused(format!(
            "its marker is that of a backup named {:?}",
            shorten(&own_name)
        ));
    }
    if !is_name(name) {
        return Found::Refused("its name is none that Kubernetes knows".to_owned());
    }
    let Some(uid) = marker.uid().filter(|uid| !uid.is_empty()) else {
        return Found::Refused("its marker has no uid".to_owned());
    };
    let Some(mut status) = marker.status.clone() else {
        return Found::Refused("its marker has no status".to_owned());
    };
    match status.phase {
        Some(
            BackupPhase::Completed
            | BackupPhase::PartiallyFailed
            | BackupPhase::Canceled
            | BackupPhase::Deleting,
        ) => {}
        phase => {
            return Found::Refused(format!(
                "its marker says that the backup is {:?}, and a marker is only written for one that has ended",
                phase.unwrap_or_default()
            ));
        }
    }
    // It is about a generation of another object.
    status.observed_generation = None;
    for condition in &mut status.conditions {
        condition.observed_generation = None;
    }
    let mut spec = marker.spec.clone();
    spec.storage_location = Some(location.to_owned());
    spec.metadata = None;
    spec.origin = Some(Origin {
        location: location.to_owned(),
        cluster: status.cluster.clone().unwrap_or_default(),
        uid,
    });
    let mut backup = Backup::new(name, spec);
    backup.metadata = metadata(name, &marker, location);
    backup.status = Some(status);
    Found::Backup(Box::new(backup))
}

/// Labels and annotations of users, and those of Ark that mean the same here.
fn metadata(name: &str, marker: &Backup, location: &str) -> ObjectMeta {
    let taken = |key: &String| !NOT_TAKEN_OVER.iter().any(|other| key.starts_with(other));
    let keep = |map: &BTreeMap<String, String>, own: &str| {
        map.iter()
            .filter(|(key, _)| taken(key) || *key == own)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let mut labels: BTreeMap<String, String> = keep(marker.labels(), label::SCHEDULE_NAME);
    labels.insert(label::STORAGE_LOCATION.to_owned(), label::value(location));
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels),
        annotations: Some(keep(marker.annotations(), annotation::SCHEDULED_AT)),
        ..ObjectMeta::default()
    }
}

/// Whether it is the name of an object: lower-case letters, digits, `-` and `.`, and neither end
/// one of these.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= MAX_NAME
        && name.chars().all(inner)
        && end(name.chars().next())
        && end(name.chars().next_back())
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn marker() -> Value {
        json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Backup",
            "metadata": {
                "name": "daily-1", "uid": "u1", "namespace": "elsewhere", "resourceVersion": "7",
                "finalizers": ["x/y"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "Schedule", "name": "daily", "uid": "s"}],
                "labels": {"tier": "0", "ark.heptio.com/schedule-name": "daily",
                    "ark.heptio.com/storage-location": "theirs", "ark.heptio.com/backup-uid": "forged"},
                "annotations": {"note": "n", "ark.heptio.com/run-uid": "u1",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
            "spec": {"includedNamespaces": ["shop"], "storageLocation": "theirs"},
            "status": {"phase": "Completed", "cluster": "c1", "observedGeneration": 4},
        })
    }

    fn judged(marker: &Value) -> Found {
        judge("daily-1", marker.to_string().as_bytes(), "here")
    }

    #[test]
    fn a_finished_backup_appears_as_a_record_and_nothing_more() {
        let Found::Backup(backup) = judged(&marker()) else {
            panic!("refused");
        };
        let origin = backup.spec.origin.clone().unwrap();
        assert_eq!(
            (
                origin.location.as_str(),
                origin.cluster.as_str(),
                origin.uid.as_str()
            ),
            ("here", "c1", "u1")
        );
        assert_eq!(backup.spec.storage_location.as_deref(), Some("here"));
        let metadata = &backup.metadata;
        assert!(metadata.owner_references.is_none() && metadata.finalizers.is_none());
        assert!(metadata.uid.is_none() && metadata.resource_version.is_none());
        let labels: Vec<(&str, &str)> = backup
            .labels()
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            labels,
            [
                (label::SCHEDULE_NAME, "daily"),
                (label::STORAGE_LOCATION, "here"),
                ("tier", "0")
            ]
        );
        assert_eq!(backup.annotations().keys().collect::<Vec<_>>(), ["note"]);
        let status = backup.status.unwrap();
        assert_eq!(status.phase, Some(BackupPhase::Completed));
        assert_eq!(status.observed_generation, None);
    }

    #[test]
    fn a_half_deleted_backup_appears_as_one_that_is_being_deleted() {
        let mut deleting = marker();
        deleting["status"]["phase"] = json!("Deleting");
        let Found::Backup(backup) = judged(&deleting) else {
            panic!("refused");
        };
        assert_eq!(backup.status.unwrap().phase, Some(BackupPhase::Deleting));
    }

    #[test]
    fn a_cancelled_backup_that_was_stored_appears() {
        let mut cancelled = marker();
        cancelled["status"]["phase"] = json!("Canceled");
        let Found::Backup(backup) = judged(&cancelled) else {
            panic!("refused");
        };
        assert_eq!(backup.status.unwrap().phase, Some(BackupPhase::Canceled));
    }

    #[test]
    fn what_cannot_be_a_backup_is_refused_with_the_reason() {
        let change = |pointer: &str, value: Value| {
            let mut marker = marker();
            *marker.pointer_mut(pointer).unwrap() = value;
            marker
        };
        for (marker, words) in [
            (change("/metadata/name", json!("other")), "named \"other\""),
            (change("/metadata/uid", json!("")), "no uid"),
            (change("/status", Value::Null), "no status"),
            (change("/status/phase", json!("InProgress")), "InProgress"),
            (change("/status/phase", json!("Failed")), "Failed"),
            (change("/status/phase", json!("Nonsense")), "cannot be read"),
            (json!([1]), "cannot be read"),
        ] {
            match judged(&marker) {
                Found::Refused(why) => assert!(why.contains(words), "{why}"),
                other => panic!("{marker}: {other:?}"),
            }
        }
        let odd = marker().to_string().replace("daily-1", "Daily_1");
        assert!(matches!(
            judge("Daily_1", odd.as_bytes(), "here"),
            Found::Refused(_)
        ));
    }
}
