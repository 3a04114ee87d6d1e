//! The claim object: one backup name at a location has one writer.
//!
//! Order: before anything else is written below `backups/<name>/`, the claim is, if absent, with
//! the cluster and the uid of the Backup; the marker is the last. So a restarted operator
//! recognises its own unfinished work, and two clusters (or a deposed leader's successor) cannot
//! mix theirs.
//!
//! Fails with what the store says. Content of the bucket is not trusted: sizes are bounded, and
//! what cannot be read counts as somebody else's.

use ark_api::{Backup, layout};
use ark_engine::Store;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Largest claim that is read.
const MAX_CLAIM: u64 = 64 << 10;
/// Largest marker that is read.
const MAX_MARKER: u64 = 16 << 20;

/// Who writes a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claim {
    /// Uid of the cluster's `kube-system` namespace.
    pub(crate) cluster: String,
    /// Uid of the Backup object.
    pub(crate) backup_uid: String,
}

/// What claiming a name gave.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// The name is ours; what an earlier attempt wrote may be there.
    Ours,
    /// An earlier attempt finished, and wrote this marker.
    Finished(Box<Backup>),
    /// The name belongs to somebody else; the sentence says to whom.
    Taken(String),
    /// The name was claimed by a Backup of this cluster with this uid, and never finished.
    Abandoned(Claim),
}

/// Claims the name of a backup.
pub(crate) async fn acquire(store: &Store, backup: &str, ours: &Claim) -> Result<Claimed> {
    let entries = store.list(&layout::backup_dir(backup)).await?;
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    if has(layout::MARKER) {
        return marker(store, backup, ours).await;
    }
    if has(layout::VELERO_MARKER) {
        return Ok(Claimed::Taken(format!(
            "{} already holds a backup named {backup} made by Velero",
            store.location()
        )));
    }
    if let Some(claim) = read(store, backup).await? {
        return Ok(judge(store, backup, ours, claim));
    }
    if !entries.is_empty() {
        return Ok(Claimed::Taken(format!(
            "{}/{} already holds something that is not Ark's",
            store.location(),
            layout::backup_dir(backup)
        )));
    }
    let bytes = serde_json::to_vec(ours).map_err(|error| Error::Bug(error.to_string()))?;
    if store
        .write_if_absent(&layout::claim(backup), bytes.into())
        .await?
    {
        return Ok(Claimed::Ours);
    }
    // Somebody was faster.
    let claim = read(store, backup).await?.unwrap_or_default();
    Ok(judge(store, backup, ours, claim))
}

/// The claim of a backup; an unreadable one is nobody's we know.
pub(crate) async fn read(store: &Store, backup: &str) -> Result<Option<Claim>> {
    let bytes = store.read(&layout::claim(backup), MAX_CLAIM).await?;
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes).unwrap_or_default()))
}

/// Gives an unfinished name back: the claim goes, so that the name can be used again.
pub(crate) async fn release(store: &Store, backup: &str, claim: &Claim) -> Result<()> {
    if store.stat(&layout::marker(backup)).await?.is_some()
        || read(store, backup).await?.as_ref() != Some(claim)
    {
        return Ok(());
    }
    let dir = layout::backup_dir(backup);
    for entry in store.list(&dir).await? {
        if !entry.is_dir && entry.name != layout::CLAIM {
            store.delete(&format!("{dir}/{}", entry.name)).await?;
        }
    }
    store.delete(&layout::claim(backup)).await?;
    Ok(())
}

async fn marker(store: &Store, backup: &str, ours: &Claim) -> Result<Claimed> {
    let bytes = store.read(&layout::marker(backup), MAX_MARKER).await?;
    let found: Option<Backup> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mine = found.filter(|found| {
        let cluster = found
            .status
            .as_ref()
            .and_then(|status| status.cluster.as_deref());
        found.uid().as_deref() == Some(ours.backup_uid.as_str())
            && cluster == Some(ours.cluster.as_str())
    });
    Ok(match mine {
        Some(found) => Claimed::Finished(Box::new(found)),
        None => Claimed::Taken(format!(
            "{} already holds a backup named {backup}; choose another name",
            store.location()
        )),
    })
}

fn judge(store: &Store, backup: &str, ours: &Claim, found: Claim) -> Claimed {
    if found == *ours {
        return Claimed::Ours;
    }
    if found.cluster == ours.cluster && !found.backup_uid.is_empty() {
        return Claimed::Abandoned(found);
    }
    Claimed::Taken(format!(
        "the name {backup} at {} is claimed by another cluster ({}); choose another name",
        store.location(),
        if found.cluster.is_empty() {
            "unknown"
        } else {
            found.cluster.as_str()
        }
    ))
}

#[cfg(test)]
mod tests {
    use ark_api::backup::BackupStatus;
    use ark_engine::StoreConfig;

    use super::*;

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(&StoreConfig::Local {
            root: dir.path().to_owned(),
        })
        .unwrap()
    }

    fn claim(cluster: &str, uid: &str) -> Claim {
        Claim {
            cluster: cluster.to_owned(),
            backup_uid: uid.to_owned(),
        }
    }

    #[tokio::test]
    async fn one_name_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let ours = claim("c1", "u1");
        assert!(matches!(
            acquire(&store, "b", &ours).await.unwrap(),
            Claimed::Ours
        ));
        assert!(matches!(
            acquire(&store, "b", &ours).await.unwrap(),
            Claimed::Ours
        ));
        let Claimed::Taken(why) = acquire(&store, "b", &claim("c2", "u1")).await.unwrap() else {
            panic!("another cluster got the name");
        };
        assert!(why.contains("c1"), "{why}");
        let Claimed::Abandoned(old) = acquire(&store, "b", &claim("c1", "u2")).await.unwrap()
        else {
            panic!("another backup of this cluster got the name");
        };
        assert_eq!(old, ours);
    }

    #[tokio::test]
    async fn concurrent_claims_have_one_winner() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let claims = (0..8)
            .map(|n| claim(&format!("c{n}"), "u"))
            .collect::<Vec<_>>();
        let results =
            futures::future::join_all(claims.iter().map(|c| acquire(&store, "b", c))).await;
        let winners = results
            .iter()
            .filter(|r| matches!(r, Ok(Claimed::Ours)))
            .count();
        assert_eq!(winners, 1);
    }

    #[tokio::test]
    async fn foreign_content_and_foreign_markers_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        for file in [
            "a/velero-backup.json",
            "b/something",
            "c/ark-backup.json",
            "d/ark-claim.json",
        ] {
            let path = dir.path().join("backups").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        for name in ["a", "b", "c", "d"] {
            let claimed = acquire(&store, name, &claim("c1", "u1")).await.unwrap();
            assert!(matches!(claimed, Claimed::Taken(_)), "{name}: {claimed:?}");
        }
    }

    #[tokio::test]
    async fn own_marker_means_finished() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let mut backup = Backup::new("b", ark_api::backup::BackupSpec::default());
        backup.metadata.uid = Some("u1".to_owned());
        backup.status = Some(BackupStatus {
            cluster: Some("c1".to_owned()),
            ..BackupStatus::default()
        });
        let json = serde_json::to_vec(&backup).unwrap();
        store
            .write(&layout::marker("b"), json.into())
            .await
            .unwrap();
        let claimed = acquire(&store, "b", &claim("c1", "u1")).await.unwrap();
        assert!(matches!(claimed, Claimed::Finished(_)));
        let claimed = acquire(&store, "b", &claim("c2", "u1")).await.unwrap();
        assert!(matches!(claimed, Claimed::Taken(_)));
    }

    #[tokio::test]
    async fn release_removes_unfinished_work_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let ours = claim("c1", "u1");
        acquire(&store, "b", &ours).await.unwrap();
        store.write(&layout::bundle("b"), "x".into()).await.unwrap();
        release(&store, "b", &claim("c1", "u9")).await.unwrap();
        assert_eq!(store.list("backups/b").await.unwrap().len(), 2);
        release(&store, "b", &ours).await.unwrap();
        assert!(store.list("backups/b").await.unwrap().is_empty());
        acquire(&store, "b", &ours).await.unwrap();
        store
            .write(&layout::marker("b"), "{}".into())
            .await
            .unwrap();
        release(&store, "b", &ours).await.unwrap();
        assert_eq!(store.list("backups/b").await.unwrap().len(), 2);
    }
}
