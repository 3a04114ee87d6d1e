//! The claim on a restore's name: one name at a location has one writer, so that restores of two
//! clusters do not overwrite each other's artefacts.
//!
//! Order: before a restore begins, its claim is written below `restores/<name>/`, if absent, with
//! the cluster and the uid of the Restore; artefacts come last. A Restore of the same cluster that
//! has the name now takes it over: the one before is deleted. Velero reads and removes the
//! directory as it always did.
//!
//! Fails with what the store says. What cannot be read counts as somebody else's.

use ark_api::layout;
use ark_engine::Store;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Largest claim that is read.
const MAX_CLAIM: u64 = 64 << 10;

/// Who writes the artefacts of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RestoreClaim {
    /// Uid of the cluster's `kube-system` namespace.
    #[serde(default)]
    pub(crate) cluster: String,
    /// Uid of the Restore object.
    #[serde(default)]
    pub(crate) restore_uid: String,
}

/// Claims the name of a restore. The inner error is for the user: the name belongs to somebody
/// else.
pub(crate) async fn acquire(
    store: &Store,
    restore: &str,
    ours: &RestoreClaim,
) -> Result<Result<(), String>> {
    let bytes = serde_json::to_vec(ours).map_err(|error| Error::Bug(error.to_string()))?;
    let path = layout::restore_claim(restore);
    let dir = layout::restore_dir(restore);
    let entries = store.list(&dir).await?;
    if !entries.is_empty() && !entries.iter().any(|entry| entry.name == layout::CLAIM) {
        return Ok(Err(format!(
            "{} already holds artefacts of another restore named {restore}, of Velero or of an earlier cluster; choose another name",
            store.location()
        )));
    }
    if store.write_if_absent(&path, bytes.clone().into()).await? {
        return Ok(Ok(()));
    }
    let found = store.read(&path, MAX_CLAIM).await?.unwrap_or_default();
    let found: RestoreClaim = serde_json::from_slice(&found).unwrap_or_default();
    if found.cluster != ours.cluster {
        return Ok(Err(format!(
            "the name {restore} at {} belongs to a restore of another cluster ({}); choose another name",
            store.location(),
            if found.cluster.is_empty() {
                "unknown"
            } else {
                found.cluster.as_str()
            }
        )));
    }
    if found != *ours {
        store.write(&path, bytes.into()).await?;
    }
    Ok(Ok(()))
}

/// Removes what a restore stored and gives its name back, the claim last. Does nothing, and returns `false`, when the
/// claim is not `ours`: a restore that failed because its name was taken must not take another's artefacts with it.
pub(crate) async fn release(store: &Store, restore: &str, ours: &RestoreClaim) -> Result<bool> {
    let path = layout::restore_claim(restore);
    let found = store.read(&path, MAX_CLAIM).await?;
    let found: Option<RestoreClaim> = found.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if found.as_ref() != Some(ours) {
        return Ok(false);
    }
    let dir = layout::restore_dir(restore);
    for entry in store.list_recursive(&dir).await? {
        if !entry.is_dir && entry.name != layout::CLAIM {
            store.delete(&format!("{dir}/{}", entry.name)).await?;
        }
    }
    store.delete(&path).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use ark_engine::StoreConfig;

    use super::*;

    fn claim(cluster: &str, uid: &str) -> RestoreClaim {
        RestoreClaim {
            cluster: cluster.to_owned(),
            restore_uid: uid.to_owned(),
        }
    }

    #[tokio::test]
    async fn one_name_has_one_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let store = Store::open(&StoreConfig::Local { root }).unwrap();
        let mine = claim("c1", "u1");
        for ours in [&mine, &mine, &claim("c1", "u2")] {
            assert_eq!(acquire(&store, "r", ours).await.unwrap(), Ok(()));
        }
        let why = acquire(&store, "r", &claim("c2", "u1")).await.unwrap();
        assert!(why.unwrap_err().contains("another cluster (c1)"));
        // Artefacts without a claim are Velero's, or those of an Ark that made none.
        store
            .write(&layout::restore_logs("old"), "x".into())
            .await
            .unwrap();
        let why = acquire(&store, "old", &mine).await.unwrap();
        assert!(why.unwrap_err().contains("already holds"));
        store
            .write(&layout::restore_claim("odd"), "x".into())
            .await
            .unwrap();
        let why = acquire(&store, "odd", &mine).await.unwrap();
        assert!(why.unwrap_err().contains("unknown"));
    }

    #[tokio::test]
    async fn only_the_claim_s_owner_removes_what_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let store = Store::open(&StoreConfig::Local { root }).unwrap();
        let mine = claim("c1", "u1");
        acquire(&store, "r", &mine).await.unwrap().unwrap();
        store
            .write(&layout::restore_logs("r"), "x".into())
            .await
            .unwrap();
        for other in [claim("c2", "u1"), claim("c1", "u2")] {
            assert!(!release(&store, "r", &other).await.unwrap());
        }
        assert_eq!(store.list("restores/r").await.unwrap().len(), 2);
        assert!(release(&store, "r", &mine).await.unwrap());
        assert!(store.list("restores/r").await.unwrap().is_empty());
        // Again, as after a crash.
        assert!(!release(&store, "r", &mine).await.unwrap());
    }
}
