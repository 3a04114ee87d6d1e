//! Everything this crate has `rustic_core` do: making configurations. It gets a store that holds
//! nothing, so it reads nothing of any repository. The only file that names its types; its errors
//! and panics end here.

use std::sync::Arc;

use bytes::Bytes;
use rustic_core::{
    BytesList, ConfigOptions, Credentials, ErrorKind, FileType, Id as RusticId, KeyOptions,
    Progress, ProgressBars, ProgressType, ReadBackend, Repository as Rustic, RepositoryBackends,
    RepositoryOptions, RusticError, RusticResult, WriteBackend, repofile::MasterKey,
};

use super::FormatVersion;
use crate::{
    error::{Error, Result},
    format::config::Config,
    panics::caught,
};

fn engine(operation: &'static str, error: &RusticError) -> Error {
    Error::Engine {
        operation,
        message: error.display_log(),
    }
}

/// Runs rustic, with its panics as errors.
fn guarded<T>(operation: &'static str, work: impl FnOnce() -> RusticResult<T>) -> Result<T> {
    caught(operation, || {
        work().map_err(|error| engine(operation, &error))
    })
}

fn options() -> RepositoryOptions {
    let mut options = RepositoryOptions::default();
    options.no_cache = true;
    options
}

/// A backend that holds nothing and drops what is written.
struct Nothing;

impl ReadBackend for Nothing {
    fn location(&self) -> String {
        "nowhere".to_owned()
    }

    fn list_with_size(&self, _kind: FileType) -> RusticResult<Vec<(RusticId, u32)>> {
        Ok(Vec::new())
    }

    fn read_full(&self, _kind: FileType, _id: &RusticId) -> RusticResult<Bytes> {
        Err(RusticError::new(
            ErrorKind::Backend,
            "nothing is stored here",
        ))
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &RusticId,
        _cacheable: bool,
        _offset: u32,
        _length: u32,
    ) -> RusticResult<Bytes> {
        self.read_full(kind, id)
    }

    fn warmup_path(&self, _kind: FileType, _id: &RusticId) -> String {
        String::new()
    }
}

impl WriteBackend for Nothing {
    fn write_bytes(
        &self,
        _kind: FileType,
        _id: &RusticId,
        _cacheable: bool,
        _content: BytesList,
    ) -> RusticResult<()> {
        Ok(())
    }

    fn remove(&self, _kind: FileType, _id: &RusticId, _cacheable: bool) -> RusticResult<()> {
        Ok(())
    }
}

/// A configuration of format version 2 with a new id and a new random irreducible polynomial.
pub(super) fn new_config(version: FormatVersion) -> Result<Config> {
    guarded("making a configuration", || {
        let backends = RepositoryBackends::new(Arc::new(Nothing), None);
        let repo = Rustic::new_with_progress(&options(), &backends, Silent)?.init(
            &Credentials::Masterkey(MasterKey::new()),
            &KeyOptions::default(),
            &ConfigOptions::default(),
        )?;
        let config = repo.config();
        Ok(Config {
            version: match version {
                FormatVersion::V1 => 1,
                FormatVersion::V2 => 2,
            },
            id: config.id.to_hex().as_str().to_owned(),
            chunker_polynomial: config.chunker_polynomial.clone(),
            others: serde_json::Map::new(),
        })
    })
}

/// No progress bars: progress is counted where the work is.
#[derive(Debug)]
struct Silent;

impl ProgressBars for Silent {
    fn progress(&self, _kind: ProgressType, _prefix: &str) -> Progress {
        Progress::hidden()
    }
}
