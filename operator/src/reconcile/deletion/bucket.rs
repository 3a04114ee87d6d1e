//! What a backup has in the bucket: whose it is, and its removal.
//!
//! A directory is only touched when its marker or its claim object names this very backup: a backup
//! that failed because its name was taken must not take another's data with it.

use std::collections::BTreeSet;

use ark_api::volume::VolumeRow;
use ark_api::{Backup, PodVolumeBackup, Restore, layout};
use ark_engine::{Entry, Store};
use kube::ResourceExt;
use serde_json::Value;

use crate::bucket::artefact::read_json_gz;
use crate::bucket::claim::{self, Claim};
use crate::bucket::restore_claim::{self, RestoreClaim};
use crate::error::{Class, Error, Result};

/// Largest marker that is read.
const MAX_MARKER: u64 = 16 << 20;

/// Whose a directory below `backups/` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The backup's; with the marker, if it is there and can be read.
    Ours(Option<Value>),
    /// There is nothing.
    Nobody,
    /// Somebody else's, or nobody can tell.
    Other,
}

/// The uids under which a backup is known: its object's, and the one it had where it was made.
pub(super) fn uids(backup: &Backup) -> Vec<String> {
    let origin = backup.spec.origin.as_ref().map(|origin| origin.uid.clone());
    [backup.uid(), origin]
        .into_iter()
        .flatten()
        .filter(|uid| !uid.is_empty())
        .collect()
}

/// Whose the directory of a backup's name is.
pub(super) async fn owner(store: &Store, backup: &Backup) -> Result<Owner> {
    let name = backup.name_any();
    let entries = store.list(&layout::backup_dir(&name)).await?;
    let marker = store.read(&layout::marker(&name), MAX_MARKER).await?;
    let claim = claim::read(store, &name).await?;
    Ok(judge(
        &uids(backup),
        &entries,
        marker.as_deref(),
        claim.as_ref(),
    ))
}

fn judge(
    uids: &[String],
    entries: &[Entry],
    marker: Option<&[u8]>,
    claim: Option<&Claim>,
) -> Owner {
    let is_ours = |uid: &str| uids.iter().any(|own| own == uid);
    let content = marker.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let named = content
        .as_ref()
        .and_then(|content| content.pointer("/metadata/uid"))
        .and_then(Value::as_str);
    match (named, claim) {
        (Some(uid), _) if is_ours(uid) => Owner::Ours(content),
        (None, Some(claim)) if is_ours(&claim.backup_uid) => Owner::Ours(None),
        (None, None) if entries.is_empty() => Owner::Nobody,
        _ => Owner::Other,
    }
}

/// Makes the marker say that the backup is being deleted, so that nobody takes it for a good one
/// any more.
pub(super) async fn mark_deleting(store: &Store, backup: &str, marker: Value) -> Result<()> {
    let mut marker = marker;
    let phase = Value::from("Deleting");
    if marker.pointer("/status/phase") == Some(&phase) {
        return Ok(());
    }
    if let Some(marker) = marker.as_object_mut() {
        let status = marker
            .entry("status")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if !status.is_object() {
            *status = Value::Object(serde_json::Map::new());
        }
        if let Some(status) = status.as_object_mut() {
            status.insert("phase".to_owned(), phase);
        }
    }
    let bytes = serde_json::to_vec(&marker).map_err(|error| Error::Bug(error.to_string()))?;
    store.write(&layout::marker(backup), bytes.into()).await?;
    Ok(())
}

/// Namespaces of the volumes of a backup by what lies in the bucket; `None` if that cannot be told,
/// so that every repository has to be looked at.
pub(super) async fn namespaces(store: &Store, backup: &str) -> Result<Option<BTreeSet<String>>> {
    let rows: Option<Vec<VolumeRow>> =
        readable(read_json_gz(store, &layout::volume_rows(backup)).await)?;
    let objects: Option<Vec<PodVolumeBackup>> =
        readable(read_json_gz(store, &layout::pod_volume_backups(backup)).await)?;
    let (Some(rows), Some(objects)) = (rows, objects) else {
        return Ok(None);
    };
    let of_rows = rows.into_iter().map(|row| row.namespace);
    let of_objects = objects.into_iter().map(|object| object.spec.pod.namespace);
    Ok(Some(of_rows.chain(of_objects).collect()))
}

/// What is damaged counts as missing here.
fn readable<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(error) if error.class() == Class::Permanent => Ok(None),
        other => other,
    }
}

/// Removes the directory of a backup: artefacts, then the marker, the claim object last.
pub(super) async fn remove_backup(store: &Store, backup: &str) -> Result<()> {
    let dir = layout::backup_dir(backup);
    for entry in store.list_recursive(&dir).await? {
        if !entry.is_dir && entry.name != layout::MARKER && entry.name != layout::CLAIM {
            store.delete(&format!("{dir}/{}", entry.name)).await?;
        }
    }
    store.delete(&layout::marker(backup)).await?;
    store.delete(&layout::claim(backup)).await?;
    Ok(())
}

/// Removes what a restore of `cluster` stored, if it is its own.
pub(super) async fn remove_restore(store: &Store, cluster: &str, restore: &Restore) -> Result<()> {
    let name = restore.name_any();
    let ours = RestoreClaim {
        cluster: cluster.to_owned(),
        restore_uid: restore.uid().unwrap_or_default(),
    };
    if !restore_claim::release(store, &name, &ours).await? {
        tracing::info!(
            restore = name,
            "nothing of this restore's lies at the location"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ark_api::backup::BackupPhase;
    use ark_engine::storage::fault::{Fault, Faults};

    use super::*;

    fn found(marker: Option<&str>, claim: Option<&str>, empty: bool) -> Owner {
        let entry = Entry {
            name: "x".to_owned(),
            is_dir: false,
            size: 1,
            modified: None,
        };
        let entries = if empty { Vec::new() } else { vec![entry] };
        let claim = claim.map(|uid| Claim {
            cluster: "c".to_owned(),
            backup_uid: uid.to_owned(),
        });
        let uids = ["own".to_owned(), "origin".to_owned()];
        judge(&uids, &entries, marker.map(str::as_bytes), claim.as_ref())
    }

    #[test]
    fn only_a_directory_that_names_the_backup_is_its_own() {
        for own in ["own", "origin"] {
            let marker = format!(r#"{{"metadata":{{"uid":"{own}"}}}}"#);
            assert!(matches!(
                found(Some(&marker), None, false),
                Owner::Ours(Some(_))
            ));
            assert_eq!(found(None, Some(own), false), Owner::Ours(None));
            // A damaged marker beside our claim.
            assert_eq!(found(Some("{"), Some(own), false), Owner::Ours(None));
        }
        let other = r#"{"metadata":{"uid":"other"}}"#;
        assert_eq!(found(Some(other), Some("own"), false), Owner::Other);
        assert_eq!(found(None, Some("other"), false), Owner::Other);
        assert_eq!(found(None, None, false), Owner::Other);
        assert_eq!(found(Some("{}"), None, false), Owner::Other);
        assert_eq!(found(None, None, true), Owner::Nobody);
    }

    #[tokio::test]
    async fn the_claim_goes_last_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let config = ark_engine::StoreConfig::Local {
            root: dir.path().to_owned(),
        };
        let store = Store::open(&config).unwrap();
        for path in [
            layout::bundle("b"),
            layout::marker("b"),
            layout::claim("b"),
            layout::marker("b2"),
        ] {
            store.write(&path, "{}".into()).await.unwrap();
        }
        mark_deleting(&store, "b", serde_json::json!({"metadata": {}}))
            .await
            .unwrap();
        let marker = store
            .read(&layout::marker("b"), 1000)
            .await
            .unwrap()
            .unwrap();
        assert!(String::from_utf8_lossy(&marker).contains("Deleting"));
        assert_eq!(namespaces(&store, "b").await.unwrap(), None);
        remove_backup(&store, "b").await.unwrap();
        // Again, as after a crash.
        remove_backup(&store, "b").await.unwrap();
        assert!(store.list("backups/b").await.unwrap().is_empty());
        assert_eq!(store.list("backups/b2").await.unwrap().len(), 1);
    }

    /// What another cluster that reads the bucket would take the directory for.
    async fn seen(store: &Store) -> Option<BackupPhase> {
        let marker = store.read(&layout::marker("b"), 10_000).await.unwrap()?;
        let backup: Backup = serde_json::from_slice(&marker).unwrap();
        backup.status?.phase
    }

    #[tokio::test]
    async fn killed_at_any_request_it_is_never_seen_as_good_once_something_is_gone() {
        for last in 1_u64.. {
            let dir = tempfile::tempdir().unwrap();
            let config = ark_engine::StoreConfig::Local {
                root: dir.path().to_owned(),
            };
            let store = Store::open(&config).unwrap();
            let marker = serde_json::json!({
                "apiVersion": "ark.heptio.com/v1", "kind": "Backup",
                "metadata": {"name": "b", "uid": "u"}, "spec": {}, "status": {"phase": "Completed"},
            });
            let claim = r#"{"cluster":"c","backupUid":"u"}"#;
            for (path, text) in [
                (layout::bundle("b"), "x".to_owned()),
                (layout::volume_rows("b"), "x".to_owned()),
                (layout::marker("b"), marker.to_string()),
                (layout::claim("b"), claim.to_owned()),
            ] {
                store.write(&path, text.into()).await.unwrap();
            }
            let mut backup = Backup::new("b", ark_api::backup::BackupSpec::default());
            backup.metadata.uid = Some("u".to_owned());
            // As of the process's death, nothing is done any more.
            let faults = Faults::new(move |call| {
                if call.number > last {
                    Fault::Refuse
                } else {
                    Fault::None
                }
            });
            let dying = store.with_faults(&faults);
            let steps = async {
                if let Owner::Ours(Some(marker)) = owner(&dying, &backup).await? {
                    mark_deleting(&dying, "b", marker).await?;
                }
                remove_backup(&dying, "b").await
            };
            let done = steps.await.is_ok();
            let left = store.list("backups/b").await.unwrap();
            if left.len() < 4 {
                assert!(
                    matches!(seen(&store).await, None | Some(BackupPhase::Deleting)),
                    "after {last} requests"
                );
            }
            if !left.is_empty() {
                // Whose it is stays known to the end, so the next process goes on.
                assert!(
                    matches!(owner(&store, &backup).await.unwrap(), Owner::Ours(_)),
                    "after {last} requests: {left:?}"
                );
            }
            remove_backup(&store, "b").await.unwrap();
            assert!(store.list("backups/b").await.unwrap().is_empty());
            if done {
                assert!(last > 6, "the deletion took only {last} requests");
                return;
            }
        }
    }
}
