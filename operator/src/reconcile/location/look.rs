//! Asks a location's store: does it answer, are only known directories there, is the key at hand,
//! do all agents see the same directory.
//!
//! Order: the directory of a `local` location is made, the store is asked, the handshake is
//! written. The first thing that fails ends the look; what was found before it is kept.

use ark_api::BackupStorageLocation;
use ark_api::condition::reason;
use ark_api::layout::TOP_LEVEL;
use ark_api::store_settings::ResolvedLocation;
use ark_engine::{Entry, Store};
use kube::ResourceExt;

use super::handshake;
use super::validate;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::repository_key::{self, KeyState, Says};
use crate::store;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Why the location cannot be used: a stable reason and a sentence.
    pub(super) unavailable: Option<(&'static str, String)>,
    /// What is known about its key.
    pub(super) key: Option<KeyState>,
    /// Token of the handshake.
    pub(super) handshake: Option<String>,
    /// Condition `SharedDirectory`.
    pub(super) shared: Option<Says>,
    /// Look again soon.
    pub(super) soon: bool,
}

/// Looks at everything.
pub(super) async fn look(context: &Context, location: &BackupStorageLocation) -> Found {
    let mut found = Found::default();
    let mut problems = Vec::new();
    let resolved = match store::resolve_spec(context, location) {
        Ok(resolved) => Some(resolved),
        Err(Error::Location { message, .. }) => {
            problems.push(message);
            None
        }
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    };
    problems.extend(validate::problems(location));
    let Some(resolved) = resolved.filter(|_| problems.is_empty()) else {
        found.unavailable = Some((reason::INVALID_SPEC, problems.join("; ")));
        return found;
    };
    if let Err(error) = ask(context, location, &resolved, &mut found).await {
        let message = match &error {
            // Its name is known to whoever reads its status.
            Error::Location { message, .. } => message.clone(),
            other => other.sentence(),
        };
        found.unavailable = Some((error.reason(), message));
        found.soon = true;
    }
    found
}

async fn ask(
    context: &Context,
    location: &BackupStorageLocation,
    resolved: &ResolvedLocation,
    found: &mut Found,
) -> Result<()> {
    let name = location.name_any();
    let local = match resolved {
        ResolvedLocation::Local { dir } => {
            make_dir(context, dir).await?;
            true
        }
        ResolvedLocation::S3(_) => false,
    };
    let store = store::open(context, location).await?;
    store.check().await?;
    refuse_foreign(&store, &store.list("").await?)?;
    found.key = Some(repository_key::look(context, &name, &store).await?);
    if local {
        let known = location.status.as_ref().and_then(|s| s.handshake.clone());
        let uid = location.uid().unwrap_or_default();
        let token = handshake::mark(&store, &name, &uid, known.as_deref()).await?;
        let agents = handshake::agents(context).await?;
        let answers = handshake::answers(&store, &token).await?;
        let (says, soon) = handshake::judge(&agents, &answers, context.clock.now());
        found.handshake = Some(token);
        found.shared = Some(says);
        found.soon |= soon;
    }
    Ok(())
}

/// Makes the directory of a `local` location, but never the local store's root itself: when that is
/// missing, nothing is mounted, and what would be written there would be lost.
async fn make_dir(context: &Context, dir: &std::path::Path) -> Result<()> {
    let root = context
        .settings
        .local_store_root
        .clone()
        .unwrap_or_default();
    let is_dir = tokio::fs::metadata(&root)
        .await
        .is_ok_and(|meta| meta.is_dir());
    if !is_dir {
        return Err(Error::Store {
            message: format!("the local store's root {} does not exist", root.display()),
            hint: "mount a shared directory there in operator and agents (chart value localStore)"
                .to_owned(),
            class: crate::error::Class::Waiting,
            reason: reason::BUCKET_NOT_FOUND,
        });
    }
    tokio::fs::create_dir_all(dir)
        .await
        .map_err(|error| Error::Store {
            message: format!("cannot make the directory {}: {error}", dir.display()),
            hint: "check what is mounted there, and its permissions".to_owned(),
            class: crate::error::Class::Waiting,
            reason: reason::BUCKET_NOT_FOUND,
        })
}

/// Only known directories may lie beside ours, as Velero has it: anything else means that the
/// prefix belongs to something else.
fn refuse_foreign(store: &Store, entries: &[Entry]) -> Result<()> {
    let foreign: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.is_dir && !TOP_LEVEL.contains(&entry.name.as_str()))
        .map(|entry| entry.name.as_str())
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let shown = foreign
        .iter()
        .take(5)
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>();
    Err(Error::Store {
        message: format!(
            "{} holds {} directories that are not Ark's or Velero's: {}",
            store.location(),
            foreign.len(),
            shown.join(", ")
        ),
        hint: "use another bucket, or a prefix of its own".to_owned(),
        class: crate::error::Class::Waiting,
        reason: reason::FOREIGN_DIRECTORIES,
    })
}

#[cfg(test)]
mod tests {
    use ark_engine::StoreConfig;

    use super::*;

    #[tokio::test]
    async fn foreign_directories_are_refused_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig::Local {
            root: dir.path().to_owned(),
        };
        let store = Store::open(&config).unwrap();
        for name in TOP_LEVEL {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("readme.txt"), "x").unwrap();
        refuse_foreign(&store, &store.list("").await.unwrap()).unwrap();
        std::fs::create_dir(dir.path().join("photos")).unwrap();
        let error = refuse_foreign(&store, &store.list("").await.unwrap()).unwrap_err();
        assert_eq!(error.reason(), reason::FOREIGN_DIRECTORIES);
        assert!(error.to_string().contains("\"photos\""));
    }
}
