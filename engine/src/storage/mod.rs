//! Object stores: one async interface over a local directory and S3.
//!
//! Does: validate paths, limit every request in time, repeat passing failures with jitter, stop on
//! cancel, list strictly (a page that fails is an error, never a shorter list) and turn every
//! failure into a typed [`Error`]. Does not: cache, encrypt, or know what a repository is.
//!
//! Writes are atomic and durable: an object is there with all its bytes or not at all, and when a
//! write returns it survives a power loss. For a directory that takes a temporary file, fsync,
//! rename and fsync of every directory touched, in that order (see `local.rs`); S3 promises it by
//! itself.

mod aws;
mod backend;
mod coherent;
pub(crate) mod durable;
pub mod fault;
mod listing;
mod local;
mod location;
mod retry;
mod s3;
mod secret;
mod tls;
mod types;

use std::{fmt, path::Path, sync::Arc};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};

use crate::{
    Cancel,
    error::{Error, Result},
};

use backend::Backend;

pub use aws::{AwsCredentials, parse_aws_credentials};
pub use location::{Location, S3Access};
pub use retry::Policy;
pub use secret::Secret;
pub use types::{Entry, ObjectMeta, StoreConfig};

/// A store, or a part of one under a prefix. Clones share connections.
#[derive(Clone)]
pub struct Store {
    backend: backend::Shared,
    /// Empty, or ends with a slash.
    base: String,
    cancel: Option<Cancel>,
    policy: Policy,
}

/// Pieces in which [`Store::stream`] fetches an object.
const STREAM_PIECE: u64 = 4 << 20;

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.location()).finish()
    }
}

impl Store {
    /// Opens a store. Does no I/O beyond looking whether the root of a local store is a directory.
    ///
    /// # Errors
    /// `NoStore` if a local root is missing, `InvalidConfig` if the settings cannot work.
    pub fn open(config: &StoreConfig) -> Result<Self> {
        let (backend, base) = match config {
            StoreConfig::Local { root } => {
                (Backend::Local(local::Local::open(root)?), String::new())
            }
            StoreConfig::S3 { prefix, .. } => {
                let base = prefix.trim_matches('/');
                let base = if base.is_empty() {
                    String::new()
                } else {
                    format!("{}/", clean(base)?)
                };
                (Backend::S3(s3::S3::open(config)?), base)
            }
        };
        Ok(Self {
            backend: Arc::new(backend),
            base,
            cancel: None,
            policy: Policy::default(),
        })
    }

    /// The same store under a sub-prefix. Leading and trailing slashes do not matter.
    #[must_use]
    pub fn child(&self, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let mut child = self.clone();
        if !prefix.is_empty() {
            child.base = format!("{}{prefix}/", self.base);
        }
        child
    }

    /// The same store, whose every request ends with `Cancelled` once `cancel` is.
    #[must_use]
    pub fn with_cancel(&self, cancel: Cancel) -> Self {
        Self {
            cancel: Some(cancel),
            ..self.clone()
        }
    }

    /// The same store with other limits on time and repetition.
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        Self {
            policy,
            ..self.clone()
        }
    }

    /// Where this store is, for messages. Never contains secrets.
    pub fn location(&self) -> String {
        let base = self.base.trim_end_matches('/');
        self.backend.location(base)
    }

    /// Whether it is a directory, so that a request costs next to nothing.
    pub(crate) fn is_local(&self) -> bool {
        self.backend.local().is_some()
    }

    /// What killed writes have left below a directory, and what writes leave that are under way,
    /// with names relative to it. A store that shows no such thing has none.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn unfinished(&self, dir: &str) -> Result<Vec<Entry>> {
        match self.backend.local() {
            Some(local) => local.unfinished(self.full(dir)?).await,
            None => Ok(Vec::new()),
        }
    }

    /// Whether a listing of this directory is one of a directory that is there. In a bucket there
    /// are none, and every listing is as good.
    pub(crate) async fn has_dir(&self, dir: &str) -> Result<bool> {
        match self.backend.local() {
            Some(local) => local.has_dir(self.full(dir)?).await,
            None => Ok(true),
        }
    }

    /// Makes a directory where a store has such.
    pub(crate) async fn make_dir(&self, dir: &str) -> Result<()> {
        match self.backend.local() {
            Some(local) => local.make_dir(self.full(dir)?).await,
            None => Ok(()),
        }
    }

    /// Whether what was written below this path is in every listing of it that begins later, for
    /// certain.
    pub(crate) async fn is_coherent(&self, path: &str) -> bool {
        match self.backend.local() {
            Some(local) => local.is_coherent(&format!("{}{path}", self.base)).await,
            None => false,
        }
    }

    /// The same store with faults before it, for tests.
    #[must_use]
    pub fn with_faults(&self, faults: &fault::Faults) -> Self {
        let inner = Arc::clone(&self.backend);
        let backend = Backend::Faulty(fault::Faulty::new(inner, faults.clone()));
        Self {
            backend: Arc::new(backend),
            ..self.clone()
        }
    }

    /// Whether the store can be reached and used: lists one level. Gives up sooner than other
    /// requests, so that a wrong address is told quickly.
    pub async fn check(&self) -> Result<()> {
        let store = self.with_policy(self.policy.quick());
        store.backend.check()?;
        store.list("").await.map(drop)
    }

    /// Lists one level of a directory; an absent directory is empty. Sorted by name, no duplicates.
    pub async fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        self.list_any(dir, false).await
    }

    /// Lists all objects (no directories) below a directory, names relative to it.
    pub async fn list_recursive(&self, dir: &str) -> Result<Vec<Entry>> {
        self.list_any(dir, true).await
    }

    async fn list_any(&self, dir: &str, recursive: bool) -> Result<Vec<Entry>> {
        let dir = dir.trim_matches('/');
        let path = match (dir.is_empty(), self.base.is_empty()) {
            (true, _) => self.base.clone(),
            (false, _) => format!("{}{}/", self.base, clean(dir)?),
        };
        let mut entries = self
            .run("list", &path, 0, || {
                self.backend.list(&path, recursive, self.policy)
            })
            .await?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name && a.is_dir == b.is_dir);
        Ok(entries)
    }

    /// Size and time of an object; `None` if there is none.
    pub async fn stat(&self, path: &str) -> Result<Option<ObjectMeta>> {
        let path = self.full(path)?;
        self.run("stat", &path, 0, || self.backend.stat(&path))
            .await
    }

    /// A whole object; `None` if there is none.
    ///
    /// # Errors
    /// `ObjectTooLarge` if it has more than `limit` bytes: the caller says what a valid one can have.
    pub async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        let path = self.full(path)?;
        self.run("read", &path, limit, || {
            self.backend.read(&path, limit, self.policy)
        })
        .await
    }

    /// Exactly `len` bytes from `offset` on.
    ///
    /// # Errors
    /// `ObjectMissing`, or `ObjectShort` if the object ends before `offset + len`.
    pub async fn read_range(&self, path: &str, offset: u64, len: u64) -> Result<Bytes> {
        let data = self.read_range_into(path, offset, len, Vec::new()).await?;
        Ok(Bytes::from(data))
    }

    /// The same, into a buffer that was used before: its content goes, its memory is used again.
    /// Memory that is taken anew for every read costs more than the read, once it is large enough
    /// to come from the system each time.
    ///
    /// # Errors
    /// As [`Self::read_range`]; the buffer is gone then.
    pub async fn read_range_into(
        &self,
        path: &str,
        offset: u64,
        len: u64,
        mut buffer: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let path = self.full(path)?;
        buffer.clear();
        if len == 0 {
            return Ok(buffer);
        }
        self.run("read", &path, len, || {
            // An attempt that failed took the buffer with it.
            let buffer = std::mem::take(&mut buffer);
            self.backend.read_range(&path, offset, len, buffer)
        })
        .await
    }

    /// An object as a stream of pieces, each fetched, limited and repeated like a request of its
    /// own.
    ///
    /// # Errors
    /// `ObjectMissing`.
    pub async fn stream(&self, path: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let size = match self.stat(path).await? {
            Some(meta) => meta.size,
            None => {
                return Err(Error::ObjectMissing {
                    location: self.location(),
                    path: path.to_owned(),
                });
            }
        };
        let state = (self.clone(), path.to_owned(), 0);
        Ok(
            futures::stream::try_unfold(state, move |(store, path, offset)| async move {
                if offset >= size {
                    return Ok(None);
                }
                let len = STREAM_PIECE.min(size - offset);
                let piece = store.read_range(&path, offset, len).await?;
                Ok(Some((piece, (store, path, offset + len))))
            })
            .boxed(),
        )
    }

    /// Writes an object, replacing one that is there. Atomic and durable.
    pub async fn write(&self, path: &str, data: Bytes) -> Result<()> {
        let path = self.full(path)?;
        self.run("write", &path, data.len() as u64, || {
            self.backend.write(&path, data.clone())
        })
        .await
    }

    /// Writes an object from a local file, without holding it in memory. Atomic and durable.
    pub async fn write_file(&self, path: &str, file: &Path) -> Result<()> {
        let path = self.full(path)?;
        let size = std::fs::metadata(file)
            .map_err(|source| Error::Source {
                path: file.to_owned(),
                source,
            })?
            .len();
        self.run("write", &path, size, || {
            self.backend.write_file(&path, file.to_owned(), self.policy)
        })
        .await
    }

    /// Writes an object unless there is one. `false`: there was one, and it was left alone. Of
    /// several concurrent callers exactly one gets `true`.
    pub async fn write_if_absent(&self, path: &str, data: Bytes) -> Result<bool> {
        let path = self.full(path)?;
        let mut attempts = 0;
        let written = self
            .run("write", &path, data.len() as u64, || {
                attempts += 1;
                self.backend.write_if_absent(&path, data.clone())
            })
            .await?;
        if !written && attempts > 1 {
            // An attempt that seemed to fail may have been the one that wrote it.
            let limit = data.len() as u64;
            let there = self
                .run("read", &path, limit, || {
                    self.backend.read(&path, limit, self.policy)
                })
                .await;
            return Ok(matches!(there, Ok(Some(there)) if there == data));
        }
        Ok(written)
    }

    /// Deletes an object. An absent one is fine.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let path = self.full(path)?;
        self.run("delete", &path, 0, || self.backend.delete(&path))
            .await
    }

    fn full(&self, path: &str) -> Result<String> {
        Ok(format!("{}{}", self.base, clean(path)?))
    }

    async fn run<T, F>(
        &self,
        operation: &'static str,
        path: &str,
        bytes: u64,
        request: F,
    ) -> Result<T>
    where
        F: FnMut() -> retry::Request<'static, T>,
    {
        let place = retry::Place {
            location: || self.location(),
            operation,
            path,
        };
        retry::run(&self.policy, self.cancel.as_ref(), place, bytes, request).await
    }
}

/// A path made of plain names: no empty component, no `.` or `..`, no control characters.
fn clean(path: &str) -> Result<&str> {
    let bad = path.is_empty()
        || path.len() > 1024
        || path.chars().any(char::is_control)
        || path.split('/').any(|part| matches!(part, "" | "." | ".."));
    if bad {
        return Err(Error::InvalidConfig {
            what: "object path",
            message: format!("{path:?} is not a relative path of plain names"),
        });
    }
    Ok(path)
}
