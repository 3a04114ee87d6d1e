//! Making a repository.
//!
//! Order: nothing is there; the key file; the directories; the configuration, only if still absent.
//! A crash between the two leaves a key file alone; the next attempt with the same password then
//! finishes the work with that key. Of two concurrent attempts one wins; the other removes its key
//! file, unless the winner used it, and says `AlreadyExists`.

use bytes::Bytes;
use jiff::Timestamp;
use tokio::runtime::Handle;

use super::{InitOptions, Repository, adapter, damaged, keys, open::CONFIG_LIMIT};
use crate::{
    crypto::{Id, Key},
    error::{Error, Result},
    format::{
        key::{self, KeyFile},
        unpacked,
    },
    storage::{Secret, Store},
};

impl Repository {
    /// Makes a repository and opens it. Blocks; see the module.
    ///
    /// # Errors
    /// `AlreadyExists` if there is a configuration, or a key that does not open with this password.
    pub fn init(
        store: Store,
        password: &Secret,
        options: InitOptions,
        runtime: Handle,
    ) -> Result<Self> {
        if password.expose_bytes().is_empty() {
            return Err(Error::InvalidConfig {
                what: "repository password",
                message: "it is empty".to_owned(),
            });
        }
        runtime.block_on(create(&store, password, &options))?;
        Self::open(store, std::slice::from_ref(password), options.open, runtime)
    }
}

async fn create(store: &Store, password: &Secret, options: &InitOptions) -> Result<()> {
    let exists = || Error::AlreadyExists {
        location: store.location(),
    };
    if store.stat("config").await?.is_some() {
        return Err(exists());
    }
    let (key, written) = if keys::list(store).await?.is_empty() {
        let key = Key::random();
        let written = write_key(store, &key, password, options).await?;
        (key, Some(written))
    } else {
        (unfinished(store, password).await?, None)
    };
    // A directory that is missing later is one that was lost.
    for dir in ["data", "index", "locks", "snapshots"] {
        store.make_dir(dir).await?;
    }
    let config = adapter::new_config(options.version)?;
    let sealed = config
        .encode()
        // restic reads the configuration uncompressed in every version.
        .and_then(|json| unpacked::encode(&key, &json, 1))
        .map_err(|why| damaged(store, "new config", &why))?;
    if store
        .write_if_absent("config", Bytes::from(sealed.1))
        .await?
    {
        return Ok(());
    }
    // Somebody may have taken our key for that of an interrupted attempt, and finished it.
    let there = store.read("config", CONFIG_LIMIT).await?;
    if there.is_some_and(|sealed| key.open(&sealed).is_ok()) {
        return Ok(());
    }
    if let Some(id) = written {
        store.delete(&format!("keys/{id}")).await?;
    }
    Err(exists())
}

/// The key of an initialisation that was interrupted before it wrote the configuration: a key file
/// of this password, and nothing else at all.
async fn unfinished(store: &Store, password: &Secret) -> Result<Key> {
    let exists = || Error::AlreadyExists {
        location: store.location(),
    };
    for dir in ["data", "index", "snapshots"] {
        if !store.list(dir).await?.is_empty() {
            return Err(exists());
        }
    }
    match keys::find(store, std::slice::from_ref(password), |_| true).await {
        Ok((_, key)) => Ok(key),
        Err(Error::WrongPassword { .. } | Error::Damaged { .. }) => Err(exists()),
        Err(error) => Err(error),
    }
}

async fn write_key(
    store: &Store,
    key: &Key,
    password: &Secret,
    options: &InitOptions,
) -> Result<Id> {
    let log_n = if options.random_password {
        key::LIGHT
    } else {
        key::STRONG
    };
    let holder = options.open.holder.clone();
    let (key, password) = (key.clone(), password.clone());
    let file = tokio::task::spawn_blocking(move || {
        let (user, host) = (&holder.user_name, &holder.host_name);
        KeyFile::seal(
            &key,
            password.expose_bytes(),
            log_n,
            Timestamp::now(),
            user,
            host,
        )
    })
    .await
    .map_err(|error| Error::Bug(error.to_string()))?
    .map_err(|why| damaged(store, "new key", &why))?;
    keys::add(store, &file).await
}
