//! A repository of format version 1 becomes one of version 2.
//!
//! Does: check it, then, alone, replace its configuration by one that says 2. Everything written
//! before stays as it is and stays readable: version 2 only allows more. Does not: compress what is
//! there (a prune can).
//!
//! Order: check, under its own lock; exclusive lock; configuration read again; configuration
//! written, which is one atomic replacement: whatever ends it, the old or the new one is there
//! whole; read back. The repository that was open still writes as version 1, which version 2 reads;
//! to compress, open it anew.

use bytes::Bytes;

use super::check;
use crate::{
    Cancel, Repository,
    error::{Error, Result},
    format::{Invalid, config::Config, unpacked},
    repo::{CONFIG_LIMIT, Locked},
    storage::Store,
};

/// The version that is made.
const NEWEST: u32 = 2;

/// Makes a repository one of the newest format version. `false` if it is one already. Blocks: call
/// it on a thread of its own.
///
/// # Errors
/// `Refused` if a check finds damage; `Locked`, `LockLost`, `Cancelled`, and what the store says.
pub fn migrate(repo: &Repository, cancel: &Cancel) -> Result<bool> {
    if repo.version() >= NEWEST {
        return Ok(false);
    }
    if !check(repo, false, cancel)?.is_ok() {
        return Err(Error::Refused {
            location: repo.location(),
            what: "migrating",
            message: "a check finds it damaged".to_owned(),
            hint: "see what `check` says, and repair it first",
        });
    }
    let lock = repo.block_on(repo.lock(Locked::Exclusive, cancel))?;
    let held = lock.checker();
    let store = repo.store().with_cancel(cancel.clone());
    let done = replace(repo, &store, &held);
    repo.runtime().block_on(lock.release(cancel));
    done
}

fn replace(repo: &Repository, store: &Store, held: &impl Fn() -> Result<()>) -> Result<bool> {
    let mut config = read(repo, store)?;
    // Somebody may have done it since this was opened.
    if config.version >= NEWEST {
        return Ok(false);
    }
    config.version = NEWEST;
    let encoded = config
        .encode()
        // restic reads the configuration uncompressed in every version.
        .and_then(|json| unpacked::encode(repo.key(), &json, 1));
    let (_, sealed) = encoded.map_err(|why| repo.damaged("new config", &why))?;
    held()?;
    // Not to be cancelled: whether it is done must not depend on luck.
    repo.block_on(repo.store().write("config", Bytes::from(sealed)))?;
    if read(repo, repo.store())? != config {
        let why = Invalid::new("the store does not give back what was written");
        return Err(repo.damaged("config", &why));
    }
    Ok(true)
}

fn read(repo: &Repository, store: &Store) -> Result<Config> {
    let sealed = repo.block_on(store.read("config", CONFIG_LIMIT))?;
    let sealed = sealed.ok_or_else(|| Error::NoRepository {
        location: repo.location(),
    })?;
    unpacked::decode(repo.key(), &sealed, unpacked::MAX_DOCUMENT)
        .and_then(|json| Config::decode(&json))
        .map_err(|why| repo.damaged("config", &why))
}
