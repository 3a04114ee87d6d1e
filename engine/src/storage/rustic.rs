//! A [`Store`] as the backend of `rustic_core`. One of the two files that name its types.
//!
//! Does: translate names and errors, drive async requests from rustic's threads, keep the first real
//! error (rustic logs and swallows some). Never removes anything. Refuses every write once the
//! operation is cancelled, its lock is lost, or an earlier write failed. Never stores configurations,
//! keys or snapshots: a configuration or snapshot handed in is dropped, because this crate writes its
//! own; keys are refused.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id as RusticId, ReadBackend, RusticError, RusticResult,
    WriteBackend,
};
use tokio::runtime::Handle;

use super::Store;
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::pack,
    progress::Progress,
    repo::blobs::is_content,
};

/// What one operation wrote, and whether it may go on.
pub(crate) struct Session {
    /// Says whether writing is still allowed.
    allowed: Box<dyn Fn() -> Result<()> + Send + Sync>,
    progress: Progress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failed: Option<Error>,
}

impl Session {
    pub(crate) fn new(
        allowed: impl Fn() -> Result<()> + Send + Sync + 'static,
        progress: Progress,
    ) -> Self {
        Self {
            allowed: Box::new(allowed),
            progress,
            state: Mutex::default(),
        }
    }

    /// The first error of the store or of a refused write, if there was one.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.state().failed.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<()> {
        (self.allowed)()
    }

    /// Keeps the first error and gives rustic one of its own.
    fn fail(&self, error: Error) -> Box<RusticError> {
        let text = error.to_string();
        self.state().failed.get_or_insert(error);
        RusticError::new(ErrorKind::Backend, text)
    }
}

/// A store for rustic. Its methods block on the runtime; rustic calls them on threads of its own.
pub(crate) struct RusticStore {
    pub(crate) store: Store,
    pub(crate) runtime: Handle,
    pub(crate) session: std::sync::Arc<Session>,
    /// Served instead of the stored configuration.
    pub(crate) config: Bytes,
    /// Sizes of what was listed.
    pub(crate) sizes: Mutex<BTreeMap<Id, u64>>,
}

impl RusticStore {
    fn run<T>(&self, work: impl Future<Output = Result<T>>) -> RusticResult<T> {
        self.runtime
            .block_on(work)
            .map_err(|error| self.session.fail(error))
    }

    /// The size of a file, from its listing if there was one: the time that reading it may take follows from it.
    fn size(&self, path: &str, id: &RusticId) -> RusticResult<u64> {
        let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = Id::parse(id.to_hex().as_str()).and_then(|id| sizes.get(&id).copied());
        drop(sizes);
        match listed {
            Some(size) => Ok(size),
            None => self
                .run(self.store.stat(path))?
                .map(|meta| meta.size)
                .ok_or_else(|| self.session.fail(self.missing(path))),
        }
    }

    fn missing(&self, path: &str) -> Error {
        Error::ObjectMissing {
            location: self.store.location(),
            path: path.to_owned(),
        }
    }
}

fn path(kind: FileType, id: &RusticId) -> String {
    let hex = id.to_hex();
    let hex = hex.as_str();
    match (kind, Id::parse(hex)) {
        (FileType::Config, _) => "config".to_owned(),
        (FileType::Pack, Some(id)) => pack::path(&id),
        _ => format!("{}/{hex}", kind.dirname()),
    }
}

/// The most bytes a valid file of this kind can have.
fn limit(kind: FileType) -> u64 {
    match kind {
        FileType::Config | FileType::Key => 1 << 20,
        FileType::Snapshot => 64 << 20,
        FileType::Index => 512 << 20,
        FileType::Pack => u64::from(u32::MAX),
    }
}

impl ReadBackend for RusticStore {
    fn location(&self) -> String {
        self.store.location()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(RusticId, u32)>> {
        if kind == FileType::Config {
            let size = u32::try_from(self.config.len()).unwrap_or(u32::MAX);
            return Ok(vec![(RusticId::default(), size)]);
        }
        let entries = match kind {
            FileType::Pack => self.run(self.store.list_recursive("data"))?,
            _ => self.run(self.store.list(kind.dirname()))?,
        };
        let mut files = Vec::with_capacity(entries.len());
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let name = entry.name.rsplit('/').next().unwrap_or_default();
            let Some(id) = Id::parse(name) else { continue };
            let size = u32::try_from(entry.size).map_err(|_| {
                self.session.fail(Error::ObjectTooLarge {
                    location: self.store.location(),
                    path: entry.name.clone(),
                    limit: u64::from(u32::MAX),
                })
            })?;
            sizes.insert(id, entry.size);
            files.push((RusticId::new(id.0), size));
        }
        files.sort_unstable();
        files.dedup_by_key(|file| file.0);
        Ok(files)
    }

    fn read_full(&self, kind: FileType, id: &RusticId) -> RusticResult<Bytes> {
        if kind == FileType::Config {
            return Ok(self.config.clone());
        }
        let path = path(kind, id);
        let size = self.size(&path, id)?;
        let data = self
            .run(self.store.read(&path, size.min(limit(kind))))?
            .ok_or_else(|| self.session.fail(self.missing(&path)))?;
        if matches!(kind, FileType::Index | FileType::Snapshot)
            && Id::of(&data).to_string() != id.to_hex().as_str()
        {
            return Err(self.session.fail(Error::Damaged {
                location: self.store.location(),
                what: path,
                message: "its content does not match its name".to_owned(),
            }));
        }
        Ok(data)
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &RusticId,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        // A missing or short pack concerns what needs it, not the whole operation.
        let path = path(kind, id);
        let (offset, length) = (u64::from(offset), u64::from(length));
        let read = self.store.read_range(&path, offset, length);
        self.runtime.block_on(read).map_err(|error| match error {
            error if is_content(&error) => RusticError::new(ErrorKind::Backend, error.to_string()),
            error => self.session.fail(error),
        })
    }

    fn warmup_path(&self, kind: FileType, id: &RusticId) -> String {
        path(kind, id)
    }
}

impl WriteBackend for RusticStore {
    fn write_bytes(
        &self,
        kind: FileType,
        id: &RusticId,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        if let Some(error) = &self.session.state().failed {
            return Err(RusticError::new(ErrorKind::Backend, error.to_string()));
        }
        self.session
            .check()
            .map_err(|error| self.session.fail(error))?;
        let size = content.size() as u64;
        let data = join(content);
        match kind {
            FileType::Config | FileType::Snapshot => return Ok(()),
            FileType::Key => {
                let error = Error::Bug("the library tried to write a key".to_owned());
                return Err(self.session.fail(error));
            }
            FileType::Index | FileType::Pack => {}
        }
        self.run(self.store.write(&path(kind, id), data))?;
        self.session.progress.uploaded(size);
        Ok(())
    }

    fn remove(&self, kind: FileType, id: &RusticId, _cacheable: bool) -> RusticResult<()> {
        self.session
            .check()
            .map_err(|error| self.session.fail(error))?;
        let message = format!("the library tried to remove {}", path(kind, id));
        Err(self.session.fail(Error::Bug(message)))
    }
}

/// One piece of memory; a list of one piece is not copied.
fn join(content: BytesList) -> Bytes {
    let mut pieces = content.into_vec();
    match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => pieces.concat().into(),
    }
}
