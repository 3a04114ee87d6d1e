//! Unfinished uploads: what writes that were killed have left in a directory.
//!
//! The local store, restic's too, writes an object under another name first
//! (`<name>-tmp-<random>`). Only names that begin as those of a repository's own files do count.
//! Does: list them, with those of writes that are under way. Does not: judge their age, or see
//! parts of multipart uploads in a bucket, which a rule of the bucket removes.

use jiff::Timestamp;

use crate::{crypto::Id, error::Result, storage::Store};

/// Directories of a repository in which objects are written.
const DIRS: [&str; 5] = ["data", "index", "keys", "locks", "snapshots"];

/// An unfinished upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::maintain) struct Unfinished {
    /// From the repository's root.
    pub(in crate::maintain) path: String,
    /// Bytes.
    pub(in crate::maintain) size: u64,
    /// By the store's clock.
    pub(in crate::maintain) modified: Option<Timestamp>,
}

/// All there are.
pub(in crate::maintain) async fn list(store: &Store) -> Result<Vec<Unfinished>> {
    let mut found = Vec::new();
    for dir in DIRS {
        for entry in store.unfinished(dir).await? {
            if !entry.is_dir && is_ours(&entry.name) {
                found.push(Unfinished {
                    path: format!("{dir}/{}", entry.name),
                    size: entry.size,
                    modified: entry.modified,
                });
            }
        }
    }
    Ok(found)
}

/// Whether a name is that of an upload of an object that a repository has.
fn is_ours(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    let object = name.split_once("-tmp-");
    object.is_some_and(|(object, random)| {
        let plain = |c: char| c.is_ascii_alphanumeric();
        Id::parse(object).is_some() && !random.is_empty() && random.chars().all(plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploads_of_objects_of_a_repository_count() {
        let id = Id::of(b"x");
        assert!(is_ours(&format!("ab/{id}-tmp-0123abcd")));
        assert!(is_ours(&format!("{id}-tmp-1234567890")));
        for other in [
            id.to_string(),
            format!("{id}-tmp-"),
            format!("{id}-tmp-a b"),
            "notes-tmp-1".to_owned(),
        ] {
            assert!(!is_ours(&other), "{other}");
        }
    }
}
