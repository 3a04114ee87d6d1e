//! Key files of a repository.
//!
//! Does: list them, read one, try passwords on each, write a new one. Fails with `WrongPassword`
//! only when every key file was read and none fits; a key file that is no key file is skipped
//! unless nothing else fits.

use bytes::Bytes;

use super::damaged;
use crate::{
    crypto::{Id, Key},
    error::{Error, Result},
    format::{Invalid, key::KeyFile},
    storage::{Secret, Store},
};

/// A key file has a few hundred bytes.
const LIMIT: u64 = 64 << 10;
/// More key files than this are not tried: each costs a derivation.
pub(super) const MOST: usize = 64;

/// Names of the key files.
pub(crate) async fn list(store: &Store) -> Result<Vec<Id>> {
    let entries = store.list("keys").await?;
    Ok(entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| Id::parse(&entry.name))
        .collect())
}

/// A key file, valid or not; `None` if there is none of this name.
pub(crate) async fn read(store: &Store, id: Id) -> Result<Option<Result<KeyFile, Invalid>>> {
    let json = match store.read(&format!("keys/{id}"), LIMIT).await {
        Ok(Some(json)) => json,
        Ok(None) => return Ok(None),
        Err(Error::ObjectTooLarge { .. }) => {
            return Ok(Some(Err(Invalid::new("it is larger than any key file"))));
        }
        Err(error) => return Err(error),
    };
    Ok(Some(
        check_name(&id, &json).and_then(|()| KeyFile::decode(&json)),
    ))
}

/// The key that one of the passwords opens and that fits, with the name of its file. Passwords are
/// tried in their order. A key that does not fit is what an initialisation that lost against
/// another leaves for a moment.
pub(super) async fn find(
    store: &Store,
    passwords: &[Secret],
    fits: impl Fn(&Key) -> bool,
) -> Result<(Id, Key)> {
    let mut files = Vec::new();
    let mut broken = None;
    for id in list(store).await?.into_iter().take(MOST) {
        match read(store, id).await? {
            None => {}
            Some(Ok(file)) => files.push((id, file)),
            Some(Err(why)) => broken = Some(damaged(store, format!("key {id}"), &why)),
        }
    }
    for password in passwords {
        for (id, file) in &files {
            let (file, password) = (file.clone(), password.clone());
            let opened =
                tokio::task::spawn_blocking(move || file.open(password.expose_bytes())).await;
            match opened.map_err(|error| Error::Bug(error.to_string()))? {
                Ok(Some(key)) if fits(&key) => return Ok((*id, key)),
                Ok(Some(_)) => {
                    let why = Invalid::new("it is not the key of this repository's configuration");
                    broken = Some(damaged(store, format!("key {id}"), &why));
                }
                Ok(None) => {}
                Err(why) => broken = Some(damaged(store, format!("key {id}"), &why)),
            }
        }
    }
    Err(broken.unwrap_or_else(|| Error::WrongPassword {
        location: store.location(),
        tried: passwords.len(),
    }))
}

fn check_name(id: &Id, json: &[u8]) -> Result<(), Invalid> {
    if Id::of(json) == *id {
        Ok(())
    } else {
        Err(Invalid::new("its content does not match its name"))
    }
}

/// Writes a key file and returns its name.
pub(super) async fn add(store: &Store, file: &KeyFile) -> Result<Id> {
    let json = file
        .encode()
        .map_err(|why| damaged(store, "new key", &why))?;
    let id = Id::of(&json);
    store
        .write(&format!("keys/{id}"), Bytes::from(json))
        .await?;
    Ok(id)
}
