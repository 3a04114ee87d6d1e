//! Documents that are named after their content, remembered: index files and snapshots.
//!
//! Whoever opens a repository for several operations in a row would read the same files in each of
//! them. A file whose name is the hash of what is in it never changes, so it is read once; which
//! files there are is asked for anew by every operation, and a file that is gone is in no listing.
//! Only what was found right is remembered, sealed as it came, and it is opened and checked anew
//! each time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// What is remembered, up to a number of bytes; beyond that all of it is forgotten.
#[derive(Debug, Default)]
pub(super) struct Documents {
    limit: u64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    bytes: u64,
    documents: HashMap<String, Bytes>,
}

impl Documents {
    /// Remembers so many bytes; with 0 nothing.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The document at this path, if it is remembered.
    pub(super) fn get(&self, path: &str) -> Option<Bytes> {
        if self.limit == 0 {
            return None;
        }
        self.known().documents.get(path).cloned()
    }

    /// Remembers a document that was found right.
    pub(super) fn keep(&self, path: &str, sealed: &Bytes) {
        let bytes = (path.len() + sealed.len()) as u64;
        if bytes > self.limit {
            return;
        }
        let mut known = self.known();
        if known.documents.contains_key(path) {
            return;
        }
        if known.bytes + bytes > self.limit {
            *known = Known::default();
        }
        // A copy of its own: what it came in may be larger.
        let sealed = Bytes::copy_from_slice(sealed);
        known.documents.insert(path.to_owned(), sealed);
        known.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let documents = Documents::new(10);
        documents.keep("a", &Bytes::from_static(b"1234"));
        documents.keep("a", &Bytes::from_static(b"1234"));
        documents.keep("b", &Bytes::from_static(b"5678"));
        assert_eq!(documents.get("a").as_deref(), Some(&b"1234"[..]));
        documents.keep("large", &Bytes::from_static(b"123456"));
        assert_eq!(documents.get("large"), None);
        documents.keep("c", &Bytes::from_static(b"9"));
        assert_eq!(documents.get("a"), None, "full: all is forgotten");
        assert_eq!(documents.get("c").as_deref(), Some(&b"9"[..]));
        let none = Documents::new(0);
        none.keep("a", &Bytes::new());
        assert_eq!(none.get("a"), None);
    }
}
