//! Finding entries in many snapshots: by pattern, or by the blobs, directories or packs they are
//! made of.
//!
//! Does: go through every snapshot in order and tell each entry that fits, with its path there. A
//! directory that several snapshots share is read and matched once: what fits in it is remembered,
//! and of a directory in which nothing fits one bit. Most are read beforehand, on several threads
//! ([`prefetch`]); the search itself ([`search`]) goes through the snapshots one after another, and
//! reads what is not there.
//!
//! Does not: write, or read file content. What cannot be read is told as a [`Found::Problem`] of
//! each snapshot it is in, and the rest goes on.
//!
//! Memory: [`FindRequest::memory`] bytes in all, 40 for each directory among them. When they are
//! used up, nothing more is remembered, and directories are read again; a single directory for
//! which they are too few is a problem, or the error `MemoryLimit`.
//!
//! ```text
//!   snapshots ─► prefetch: walk, several threads ─► memo (directory, state) ─► search ─► each(found)
//!                                                          ▲                      │
//!                                                          └── read, if not there ┘
//! ```

mod glob;
mod items;
mod memo;
mod pack;
mod pattern;
mod prefetch;
mod query;
mod search;
mod wanted;

use std::path::PathBuf;

use jiff::Timestamp;

use super::{EntryInfo, EntryKind, MEMORY, early::reading};
use crate::{
    Cancel,
    error::{Error, Result},
    index::{Bits, Copies, Packs},
    repo::{Repository, Snapshot, SnapshotFilter},
};

use query::Query;

/// What to find, and where.
#[derive(Debug, Clone)]
pub struct FindRequest {
    /// What.
    pub what: FindWhat,
    /// Ids, beginnings of ids, or `latest`: only in these snapshots. All that the filter lets
    /// through when empty.
    pub snapshots: Vec<String>,
    /// Which snapshots count.
    pub filter: SnapshotFilter,
    /// Oldest snapshot first, instead of the newest.
    pub reverse: bool,
    /// Tell what the snapshot stores of each entry ([`Found::Entry::stored`]).
    pub stored: bool,
    /// Bytes of memory to take in all.
    pub memory: u64,
}

impl Default for FindRequest {
    fn default() -> Self {
        Self {
            what: FindWhat::Names(FindNames::default()),
            snapshots: Vec::new(),
            filter: SnapshotFilter::default(),
            reverse: false,
            stored: false,
            memory: MEMORY,
        }
    }
}

/// What is searched for.
#[derive(Debug, Clone)]
pub enum FindWhat {
    /// Entries whose paths fit patterns.
    Names(FindNames),
    /// Files with one of these blobs: ids, or their first 8 digits and more.
    Blobs(Vec<String>),
    /// Directories with one of these ids.
    Trees(Vec<String>),
    /// Files and directories with a blob in one of these packs.
    Packs(Vec<String>),
}

/// Patterns, and what else must be so.
#[derive(Debug, Clone, Default)]
pub struct FindNames {
    /// As `restic find` takes them: `*`, `?`, `[a-z]`, and `**` for any number of directories. One
    /// that begins with `/` is held against whole paths, any other against any part of them. What
    /// is below a match fits, too.
    pub patterns: Vec<String>,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Not modified before this.
    pub oldest: Option<Timestamp>,
    /// Not modified after this.
    pub newest: Option<Timestamp>,
    /// Only entries of these kinds; all when empty.
    pub kinds: Vec<EntryKind>,
}

/// Something that was found in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An entry.
    Entry {
        /// Its absolute path in the snapshot.
        path: PathBuf,
        /// What the snapshot says of it.
        info: EntryInfo,
        /// The node as it is stored: a JSON object, without name, content and extended attributes.
        /// Only if asked for.
        stored: Option<String>,
    },
    /// A blob in a file.
    Blob {
        /// Its id.
        id: String,
        /// The file's absolute path.
        path: PathBuf,
        /// Id of the directory the file is in.
        tree: String,
    },
    /// A directory.
    Tree {
        /// Its id.
        id: String,
        /// Its absolute path.
        path: PathBuf,
    },
    /// Something that cannot be read, so that what may be in it was not found.
    Problem {
        /// Its absolute path.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

/// What came of a search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FindReport {
    /// Snapshots that were searched.
    pub snapshots: u64,
    /// How much was found, each in each snapshot.
    pub found: u64,
    /// How many problems were told.
    pub problems: u64,
}

/// Takes what is found. An error that it returns ends the search.
pub type FoundIn<'a> = &'a mut dyn FnMut(&Snapshot, Found) -> Result<()>;

/// Searches. Tells what it finds snapshot by snapshot, in the order of paths as stored. Blocks:
/// call it on a thread of its own.
///
/// # Errors
/// `InvalidConfig` for a pattern or an id that makes no sense; `SnapshotNotFound`, `SnapshotAmbiguous`; `ObjectMissing` for a
/// pack that is not there; `MemoryLimit`, `Locked`, `Cancelled`, what the store says, and what `each` returns.
pub fn find(
    repo: &Repository,
    request: &FindRequest,
    cancel: &Cancel,
    each: FoundIn<'_>,
) -> Result<FindReport> {
    // Nonsense is refused before anything is read.
    let query = Query::new(&request.what, request.stored)?;
    reading(
        repo,
        cancel,
        |reader| {
            let mut snapshots = reader.snapshots(&request.snapshots, &request.filter)?;
            if !request.reverse {
                snapshots.reverse();
            }
            let which = match &request.what {
                FindWhat::Packs(_) => Packs::All,
                _ => Packs::Trees,
            };
            let (index, ceiling) =
                reader.index_within(request.memory, (which, Copies::All), memo::needs())?;
            let query = query.resolve(repo, &reader.store, &index)?;
            let memo = memo::Memo::new(&index, ceiling.left());
            let memo = memo.map_err(|error| ceiling.in_all(error))?;
            let seen = Bits::new(index.len());
            let mut search = search::Search {
                seen,
                repo,
                store: reader.store.clone(),
                index,
                query,
                memo,
                snapshots,
                ahead: 0,
                memory: ceiling.left(),
                ceiling,
            };
            // The first snapshot is gone through while the lock settles.
            search.prefetch(1, cancel)?;
            Ok(search)
        },
        |search| &search.index,
        |mut search| search.run(cancel, each),
    )
}

/// The root directory of a snapshot.
fn root(repo: &Repository, snapshot: &Snapshot) -> Result<crate::crypto::Id> {
    super::path::root(repo, snapshot)
}

/// The error of a single directory that needs too much.
fn too_much(what: &str, needed: u64, limit: u64) -> Error {
    Error::MemoryLimit {
        what: what.to_owned(),
        needed,
        limit,
    }
}
