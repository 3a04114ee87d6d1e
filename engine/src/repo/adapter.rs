//! Everything this crate has `rustic_core` do, besides storage: making configurations and checking. One of the two files that name its types; its errors and panics end
//! here.

use std::sync::{Arc, Mutex};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rustic_core::{
    BytesList, CheckOptions, ConfigOptions, Credentials, ErrorKind, FileType, Id as RusticId,
    KeyOptions, Progress, ProgressBars, ProgressType, ReadBackend, Repository as Rustic,
    RepositoryBackends, RepositoryOptions, RusticError, RusticResult, WriteBackend,
    repofile::MasterKey,
};

use super::{FormatVersion, Repository};
use crate::{
    crypto::Key,
    error::{Error, Result},
    format::config::Config,
    panics::caught,
    storage::{RusticStore, Session, Store},
};

/// Pack size used for archives, whatever the repository's own settings: bounds memory.
const PACK_SIZE: u64 = 16 << 20;

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

/// How often something that only reads is begun anew.
const ATTEMPTS: u32 = 10;

/// Runs what only reads. The library gives its own threads a tenth of a second to let go of the index, and panics when
/// a busy machine did not let them run in that time: then it is done again.
fn guarded_reading<T>(
    operation: &'static str,
    mut work: impl FnMut() -> RusticResult<T>,
) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match guarded(operation, &mut work) {
            Err(Error::Bug(message)) if message.contains("index still in use") => {
                tracing::warn!(operation, "begun anew: the machine is too busy");
            }
            done => return done,
        }
    }
    guarded(operation, work)
}

fn master_key(key: &Key) -> Result<MasterKey> {
    // Through JSON, because one of the types cannot be named.
    serde_json::from_value(serde_json::json!({
        "mac": {"k": STANDARD.encode(key.mac_k), "r": STANDARD.encode(key.mac_r)},
        "encrypt": STANDARD.encode(key.encrypt),
    }))
    .map_err(|error| Error::Bug(error.to_string()))
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

/// The configuration rustic gets to see: the repository's, with packs of a bounded size and fast
/// compression where the repository does not say otherwise.
fn effective_config(repo: &Repository) -> Result<Bytes> {
    let mut config = repo.config().clone();
    let others = &mut config.others;
    others.insert("datapack_size".to_owned(), PACK_SIZE.into());
    others.insert("datapack_growfactor".to_owned(), 0.into());
    others.insert("treepack_growfactor".to_owned(), 0.into());
    if config.version >= 2 && !others.contains_key("compression") {
        others.insert("compression".to_owned(), 1.into());
    }
    let json = config
        .encode()
        .map_err(|why| Error::Bug(format!("the configuration cannot be encoded: {why}")))?;
    Ok(repo.key().seal(&json).into())
}

fn open(
    repo: &Repository,
    store: Store,
    session: &Arc<Session>,
) -> Result<Rustic<rustic_core::OpenStatus>> {
    let backend = RusticStore {
        store,
        runtime: repo.runtime().clone(),
        session: Arc::clone(session),
        config: effective_config(repo)?,
        sizes: Mutex::default(),
    };
    let credentials = Credentials::Masterkey(master_key(repo.key())?);
    guarded("opening the repository", || {
        let backends = RepositoryBackends::new(Arc::new(backend), None);
        Rustic::new_with_progress(&options(), &backends, Silent)?.open(&credentials)
    })
}

/// Findings of a check.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Checks packs, index, trees and, if asked, all data.
pub(crate) fn check(
    repo: &Repository,
    store: Store,
    session: &Arc<Session>,
    read_data: bool,
) -> Result<Findings> {
    let rustic = open(repo, store, session)?;
    let results = guarded_reading("checking", || {
        let mut options = CheckOptions::default();
        options.read_data = read_data;
        rustic.check(options)
    })?;
    let mut findings = Findings::default();
    for (level, finding) in results.0 {
        // Its type cannot be named; its level is one of two words.
        let list = match format!("{level:?}").as_str() {
            "Warn" => &mut findings.warnings,
            _ => &mut findings.errors,
        };
        list.push(finding.to_string());
    }
    Ok(findings)
}

/// No progress bars: progress is counted where the work is.
#[derive(Debug)]
struct Silent;

impl ProgressBars for Silent {
    fn progress(&self, _kind: ProgressType, _prefix: &str) -> Progress {
        Progress::hidden()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_no_failure() {
        let mut attempts = 0;
        let done = guarded_reading("counting", || {
            attempts += 1;
            assert!(
                attempts > 3,
                "index still in use: Index({})",
                "x".repeat(9999)
            );
            Ok(attempts)
        });
        assert_eq!(done.unwrap(), 4);
        let never: Result<()> = guarded_reading("counting", || panic!("index still in use"));
        assert!(matches!(never, Err(Error::Bug(_))));
        let mut others = 0;
        let other: Result<()> = guarded_reading("counting", || {
            others += 1;
            panic!("{}", "something else ".repeat(999))
        });
        assert!(other.unwrap_err().to_string().len() < 400);
        assert_eq!(others, 1);
    }
}
