//! The handshake of a `local` location: whether this node sees the operator's directory.
//!
//! The operator writes a token into the directory and into the location's status. The agent reads
//! the file; if uid and token agree, it writes an answer with the token and its node's name into
//! `metadata/agents/`, once. Whatever does not agree is `DirectoryNotShared`, and the agent touches
//! nothing in a directory that it cannot show to be the right one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ark_api::location::BackupStorageLocation;
use ark_api::{layout, store_settings};
use ark_engine::Store;
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::location;

/// Largest handshake file that is read.
const MAX_FILE: u64 = 64 << 10;

#[derive(Debug, Deserialize)]
struct Mark {
    uid: String,
    token: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    token: String,
    node: String,
}

/// Checks the operator's file in `store`, the directory of `location`, and answers it.
pub(crate) async fn answer(
    store: &Store,
    location: &str,
    uid: &str,
    token: Option<&str>,
    node: &str,
) -> Result<()> {
    let differs = |message: String| Error::DirectoryNotShared {
        location: location.to_owned(),
        message,
    };
    let token = token
        .filter(|t| !t.is_empty())
        .ok_or_else(|| differs("the operator has not marked it yet".to_owned()))?;
    crate::volume::check_name("node", node)?;
    let file = store
        .read(layout::HANDSHAKE, MAX_FILE)
        .await
        .map_err(|error| differs(error.to_string()))?;
    agrees(file.as_deref(), uid, token)
        .map_err(|why| differs(format!("{} {why}", store.location())))?;
    let path = layout::agent_handshake(node);
    let answer = Answer {
        token: token.to_owned(),
        node: node.to_owned(),
    };
    if let Some(there) = store.read(&path, MAX_FILE).await?
        && serde_json::from_slice::<Answer>(&there).is_ok_and(|there| there == answer)
    {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&answer).map_err(|error| Error::Bug(error.to_string()))?;
    store.write(&path, bytes.into()).await?;
    tracing::info!(location, "answered the location's handshake");
    Ok(())
}

/// Whether the operator's file is that of the location with this uid and token; else why not.
fn agrees(file: Option<&[u8]>, uid: &str, token: &str) -> Result<(), &'static str> {
    let file = file.ok_or("holds no mark of the operator")?;
    let mark: Mark =
        serde_json::from_slice(file).map_err(|_| "holds a mark that cannot be read")?;
    if mark.uid != uid {
        Err("carries the mark of another location or cluster")
    } else if mark.token != token {
        Err("carries another token than the operator's directory")
    } else {
        Ok(())
    }
}

/// Answers the handshakes of all `local` locations, at start and whenever one's status changes.
/// Runs until it is dropped.
pub(crate) async fn run(ctx: Arc<Context>) {
    type Guarded = DeserializeGuard<BackupStorageLocation>;
    let stream = watcher(ctx.own::<Guarded>(), watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(stream.applied_objects());
    while let Some(event) = events.next().await {
        match event {
            Ok(DeserializeGuard(Ok(location))) => {
                if let Err(error) = look(&ctx, &location).await {
                    tracing::warn!(
                        location = location.name_any(),
                        reason = error.reason(),
                        "volumes of this location are refused: {}",
                        error.told()
                    );
                }
            }
            Ok(DeserializeGuard(Err(invalid))) => {
                ctx.metrics.malformed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(name = invalid.metadata.name, %invalid, "a location cannot be read");
            }
            Err(error) => {
                ctx.metrics.watch_errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "the watch of locations broke; starting again");
            }
        }
    }
}

/// Answers one location, if it is a directory that the operator has marked.
async fn look(ctx: &Context, found: &BackupStorageLocation) -> Result<()> {
    let token = found.status.as_ref().and_then(|s| s.handshake.as_deref());
    if found.spec.provider != store_settings::PROVIDER_LOCAL || token.is_none() {
        return Ok(());
    }
    let config = location::config(ctx, found).await?;
    let uid = found.metadata.uid.as_deref().unwrap_or_default();
    match location::local_store(&found.name_any(), &config)? {
        Some(store) => answer(&store, &found.name_any(), uid, token, &ctx.settings.node).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ark_engine::StoreConfig;

    use super::*;

    fn store(dir: &tempfile::TempDir) -> Store {
        let root = dir.path().to_owned();
        Store::open(&StoreConfig::Local { root }).unwrap()
    }

    fn mark(dir: &tempfile::TempDir, text: &str) {
        let metadata = dir.path().join("metadata");
        std::fs::create_dir_all(&metadata).unwrap();
        std::fs::write(metadata.join("ark-location.json"), text).unwrap();
    }

    #[tokio::test]
    async fn an_agreeing_mark_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        mark(&dir, r#"{"location":"default","uid":"u","token":"t"}"#);
        for _ in 0..2 {
            answer(&store(&dir), "default", "u", Some("t"), "n1")
                .await
                .unwrap();
        }
        let written = std::fs::read(dir.path().join("metadata/agents/n1.json")).unwrap();
        let written: Answer = serde_json::from_slice(&written).unwrap();
        assert_eq!((written.token.as_str(), written.node.as_str()), ("t", "n1"));
    }

    #[tokio::test]
    async fn anything_else_is_refused_and_nothing_is_written() {
        for text in [
            r#"{"location":"default","uid":"other","token":"t"}"#,
            r#"{"location":"default","uid":"u","token":"other"}"#,
            "garbage",
            "",
        ] {
            let dir = tempfile::tempdir().unwrap();
            if !text.is_empty() {
                mark(&dir, text);
            }
            let error = answer(&store(&dir), "default", "u", Some("t"), "n1")
                .await
                .unwrap_err();
            assert_eq!(error.reason(), "DirectoryNotShared", "{text}");
            assert!(!dir.path().join("metadata/agents").exists(), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        mark(&dir, r#"{"location":"default","uid":"u","token":""}"#);
        for token in [None, Some("")] {
            assert!(
                answer(&store(&dir), "default", "u", token, "n1")
                    .await
                    .is_err()
            );
        }
    }
}
