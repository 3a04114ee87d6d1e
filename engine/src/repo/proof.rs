//! Whether a file that cannot be read is damaged for certain.
//!
//! A file's name is the SHA-256 of its content. If they differ nobody can read it, whatever key
//! they have. A file that is what its name says, and is not authentic, may be one of another key:
//! that proves nothing. Reads, and removes nothing.

use super::Repository;
use crate::{
    crypto::Id,
    error::{Error, Result},
    storage::Store,
};

/// What is known of a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Its content is not that of its name: nobody can read it.
    Damaged,
    /// This repository's key wrote it, as it is.
    Ours,
    /// It is as it was written, by another key or in another form.
    Unknown,
    /// It is not there any more.
    Gone,
}

impl Proof {
    /// Whether nobody loses anything when the file is removed.
    pub(crate) fn is_damage(self) -> bool {
        self == Self::Damaged
    }
}

/// Looks at a file that has this name in its directory.
///
/// # Errors
/// What the store says; among others, that it hands on less than it has.
pub(crate) async fn look(
    repo: &Repository,
    store: &Store,
    (dir, id): (&str, &Id),
    limit: u64,
) -> Result<Proof> {
    let path = format!("{dir}/{id}");
    let Some(meta) = store.stat(&path).await? else {
        return Ok(Proof::Gone);
    };
    let sealed = match store.read(&path, limit).await {
        Ok(Some(sealed)) => sealed,
        Ok(None) => return Ok(Proof::Gone),
        Err(Error::ObjectTooLarge { .. }) => return Ok(Proof::Unknown),
        Err(error) => return Err(error),
    };
    if sealed.len() as u64 != meta.size {
        return Err(Error::Store {
            location: store.location(),
            operation: "read",
            message: format!("{} bytes came of {}", sealed.len(), meta.size),
            path,
            temporary: true,
        });
    }
    Ok(if Id::of(&sealed) != *id {
        Proof::Damaged
    } else if repo.key().open(&sealed).is_ok() {
        Proof::Ours
    } else {
        Proof::Unknown
    })
}
