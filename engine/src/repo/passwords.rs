//! The passwords of a repository: each has a key file, which holds the repository's one key.
//!
//! Does: list, add, remove, replace. A password is taken away only while another is known to open
//! the repository. Does not: change the repository's key; who knew a removed password may have kept
//! it.
//!
//! Order of adding: lock; write; read back what the store now has and open it; unlock. Of removing:
//! lock that excludes others; the key file in use is still there; delete. Of replacing: lock that
//! excludes others; the new one as above; delete the old one. A run that ends in between leaves
//! both, and both work.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::{
    Locked, Repository,
    keys::{self, MOST},
    lock::Guard,
};
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::key::{self, KeyFile},
    storage::Secret,
};

/// A key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Who made it, as they said.
    pub user_name: String,
    /// Where it was made, as they said.
    pub host_name: String,
    /// When it was made, as they said.
    pub created: Option<Timestamp>,
    /// Whether it is the one the repository was opened with.
    pub current: bool,
    /// Why it cannot be read, if it cannot.
    pub damage: Option<String>,
}

/// A password to be added.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The password.
    pub password: Secret,
    /// Who makes it; the lock holder's name when absent.
    pub user_name: Option<String>,
    /// Where it is made; the lock holder's name when absent.
    pub host_name: Option<String>,
    /// The password has 128 random bits or more, so a cheap key derivation is as safe as a dear
    /// one.
    pub random_password: bool,
}

impl NewKey {
    /// A password a person thought of.
    pub fn new(password: Secret) -> Self {
        Self {
            password,
            user_name: None,
            host_name: None,
            random_password: false,
        }
    }
}

impl Repository {
    /// The key files. Blocks; see the module of [`Repository`].
    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        let current = self.key_id();
        self.block_on(async {
            let mut infos = Vec::new();
            for id in keys::list(self.store()).await? {
                let Some(read) = keys::read(self.store(), id).await? else {
                    continue;
                };
                let mut info = KeyInfo {
                    id: id.to_string(),
                    user_name: String::new(),
                    host_name: String::new(),
                    created: None,
                    current: id == current,
                    damage: None,
                };
                match read {
                    Ok(file) => {
                        info.created = file.created();
                        info.user_name = file.username;
                        info.host_name = file.hostname;
                    }
                    Err(why) => info.damage = Some(why.to_string()),
                }
                infos.push(info);
            }
            Ok(infos)
        })
    }

    /// Adds a password. Returns the id of its key file. Blocks.
    ///
    /// # Errors
    /// `InvalidConfig` for an empty password; `Refused` if there are too many; `Locked`, `Cancelled`, and what
    /// the store says.
    pub fn add_key(&self, new: &NewKey, cancel: &Cancel) -> Result<String> {
        self.locked(Locked::Shared, cancel, |lock| {
            let added = self.write_key(new, lock);
            added.map(|id| id.to_string())
        })
    }

    /// Removes the only key file whose id begins so. Blocks.
    ///
    /// # Errors
    /// `Refused` for the one in use; `InvalidConfig` if none or several begin so; `Locked`, `Cancelled`, and
    /// what the store says.
    pub fn remove_key(&self, id: &str, cancel: &Cancel) -> Result<String> {
        self.locked(Locked::Exclusive, cancel, |lock| {
            let ids = self.block_on(keys::list(self.store()))?;
            let id = one(&ids, id)?;
            let refused = |message: &str| Error::Refused {
                location: self.location(),
                what: "removing a key",
                message: message.to_owned(),
                hint: "open the repository with another password, which must be one that stays",
            };
            let current = self.key_id();
            if id == current {
                return Err(refused("the repository was opened with it"));
            }
            let stays = self.block_on(keys::read(self.store(), current))?;
            if !matches!(stays, Some(Ok(_))) {
                return Err(refused("the one the repository was opened with is gone"));
            }
            lock.checker()()?;
            self.delete_key(id)?;
            Ok(id.to_string())
        })
    }

    /// Replaces the password the repository was opened with. Returns the id of the new key file.
    /// Blocks.
    ///
    /// # Errors
    /// As for [`Self::add_key`]. After an error the old password still works.
    pub fn change_password(&self, new: &NewKey, cancel: &Cancel) -> Result<String> {
        self.locked(Locked::Exclusive, cancel, |lock| {
            let old = self.key_id();
            let id = self.write_key(new, lock)?;
            lock.checker()()?;
            *self.0.key_id.lock().unwrap_or_else(PoisonError::into_inner) = id;
            self.delete_key(old)?;
            Ok(id.to_string())
        })
    }

    fn key_id(&self) -> Id {
        *self.0.key_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked<T>(
        &self,
        kind: Locked,
        cancel: &Cancel,
        work: impl FnOnce(&Guard) -> Result<T>,
    ) -> Result<T> {
        let lock = self.block_on(self.lock(kind, cancel))?;
        let done = if cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            work(&lock)
        };
        self.runtime().block_on(lock.release(cancel));
        done
    }

    /// Writes a key file and opens what the store then has.
    fn write_key(&self, new: &NewKey, lock: &Guard) -> Result<Id> {
        if new.password.expose_bytes().is_empty() {
            return Err(Error::InvalidConfig {
                what: "new password",
                message: "it is empty".to_owned(),
            });
        }
        if self.block_on(keys::list(self.store()))?.len() >= MOST {
            return Err(Error::Refused {
                location: self.location(),
                what: "adding a key",
                message: format!("there are {MOST} already, and no more are tried on opening"),
                hint: "remove some that are not needed any more",
            });
        }
        let log_n = if new.random_password {
            key::LIGHT
        } else {
            key::STRONG
        };
        let holder = &self.options().holder;
        let user = new.user_name.as_ref().unwrap_or(&holder.user_name);
        let host = new.host_name.as_ref().unwrap_or(&holder.host_name);
        let password = new.password.expose_bytes();
        let file = KeyFile::seal(self.key(), password, log_n, Timestamp::now(), user, host)
            .map_err(|why| self.damaged("new key", &why))?;
        lock.checker()()?;
        let id = self.block_on(keys::add(self.store(), &file))?;
        let opened = match self.block_on(keys::read(self.store(), id))? {
            Some(read) => read.and_then(|file| file.open(password)),
            None => Ok(None),
        };
        match opened {
            Ok(Some(key)) if key == *self.key() => Ok(id),
            _ => {
                self.delete_key(id)?;
                Err(Error::Damaged {
                    location: self.location(),
                    what: format!("key {id}"),
                    message: "what the store kept of it does not open".to_owned(),
                })
            }
        }
    }

    fn delete_key(&self, id: Id) -> Result<()> {
        self.block_on(self.store().delete(&format!("keys/{id}")))
    }
}

/// The only id that begins so.
fn one(ids: &[Id], begin: &str) -> Result<Id> {
    let mut found = ids.iter().filter(|id| id.to_string().starts_with(begin));
    let message = match (begin, found.next(), found.next()) {
        ("", _, _) => "it is empty".to_owned(),
        (_, Some(id), None) => return Ok(*id),
        (_, None, _) => format!("no key's id begins with {begin:?}"),
        (_, Some(_), Some(_)) => format!("the ids of several keys begin with {begin:?}"),
    };
    Err(Error::InvalidConfig {
        what: "key id",
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_by_their_beginning() {
        let ids = [Id([0x11; 32]), Id([0x12; 32])];
        assert_eq!(one(&ids, "12").unwrap(), ids[1]);
        assert_eq!(one(&ids, &ids[0].to_string()).unwrap(), ids[0]);
        for bad in ["", "1", "13"] {
            assert!(one(&ids, bad).is_err(), "{bad}");
        }
    }
}
