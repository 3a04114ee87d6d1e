//! Opening a repository.
//!
//! Order: configuration present, key found, configuration decrypted, version known. Writes nothing.
//! Fails with `NoRepository` (no configuration), `WrongPassword`, `UnsupportedVersion`, `Damaged`,
//! or what the store says.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use super::{Inner, LeftOut, OpenOptions, Repository, damaged, documents::Documents, keys};
use crate::{
    error::{Error, Result},
    format::{config::Config, unpacked},
    storage::{Secret, Store},
};

/// A configuration has a few hundred bytes.
pub(crate) const CONFIG_LIMIT: u64 = 1 << 20;

impl Repository {
    /// Opens a repository with the first of the passwords that fits. Blocks; see the module.
    ///
    /// Takes no lock: operations that need one take it themselves, and say `Locked`.
    pub fn open(
        store: Store,
        passwords: &[Secret],
        options: OpenOptions,
        runtime: Handle,
    ) -> Result<Self> {
        let (key_id, key, config) = runtime.block_on(async {
            let sealed = store.read("config", CONFIG_LIMIT).await?;
            let sealed = sealed.ok_or_else(|| Error::NoRepository {
                location: store.location(),
            })?;
            let (key_id, key) =
                keys::find(&store, passwords, |key| key.open(&sealed).is_ok()).await?;
            let config = unpacked::decode(&key, &sealed, unpacked::MAX_DOCUMENT)
                .and_then(|json| Config::decode(&json))
                .map_err(|why| damaged(&store, "config", &why))?;
            Ok::<_, Error>((key_id, key, config))
        })?;
        if !matches!(config.version, 1 | 2) {
            return Err(Error::UnsupportedVersion {
                location: store.location(),
                version: config.version,
            });
        }
        Ok(Self(Arc::new(Inner {
            store,
            key,
            key_id: Mutex::new(key_id),
            config,
            runtime,
            documents: Documents::new(options.remember),
            held: Mutex::default(),
            options,
            left_out: LeftOut::default(),
        })))
    }

    /// Whether there is a repository, or part of one: its configuration or any key.
    pub async fn exists(store: &Store) -> Result<bool> {
        Ok(store.stat("config").await?.is_some() || !keys::list(store).await?.is_empty())
    }
}
