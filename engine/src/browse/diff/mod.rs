//! What changed from one snapshot to another.
//!
//! Does: go down both trees side by side, in the order of names, and tell each entry that came,
//! went or is another; then count the blobs that only one of them needs. A directory that both have
//! is not gone through for that; only to count which blobs are shared, all such directories are
//! read once, on several threads. Does not: read file content, or find what was renamed.
//!
//! A directory that cannot be read is told as a [`Compared::Problem`], and the rest goes on.
//!
//! Memory: [`DiffRequest::memory`] bytes, beside the index and three bits for each of its blobs. A
//! directory for which that is too little, beside those above it, is a problem.

mod alike;
mod count;
mod sides;

use std::path::PathBuf;

use self::{
    count::Counted,
    sides::{Sides, Walk},
};
use super::{
    MEMORY,
    early::reading,
    path::{Found, find},
};
use crate::{
    Cancel,
    ceiling::{Beside, times},
    crypto::Id,
    error::{Error, Result},
    index::{Copies, Packs},
    repo::{Repository, Snapshot, blobs::BlobReader},
};

/// What is needed beside the index: a few directories, and the bits of what each side has.
const BESIDE: Beside = Beside {
    bytes: 48 << 20,
    bits: 4,
};

/// What to compare.
#[derive(Debug, Clone)]
pub struct DiffRequest {
    /// The older one, and the absolute path of a directory in it.
    pub before: (Snapshot, PathBuf),
    /// The newer one, and a directory in it.
    pub after: (Snapshot, PathBuf),
    /// Tell also what has other metadata only.
    pub metadata: bool,
    /// Bytes of memory, those of the program and the index among them.
    pub memory: u64,
}

impl DiffRequest {
    /// Of two snapshots, their whole trees.
    pub fn new(before: Snapshot, after: Snapshot) -> Self {
        Self {
            before: (before, PathBuf::from("/")),
            after: (after, PathBuf::from("/")),
            metadata: false,
            memory: MEMORY,
        }
    }
}

/// How an entry changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is of another kind.
    Kind,
    /// It is of another kind, and metadata were asked for.
    KindAndMetadata,
    /// Its content is another.
    Content,
    /// Its content is another, and nothing else: something changed it without a trace.
    Unexplained,
    /// Its content is the same, and something else is not.
    Metadata,
}

impl Change {
    /// Restic's letters for it.
    pub fn marker(self) -> &'static str {
        match self {
            Self::Added => "+",
            Self::Removed => "-",
            Self::Kind => "T",
            Self::KindAndMetadata => "TU",
            Self::Content => "M",
            Self::Unexplained => "M?",
            Self::Metadata => "U",
        }
    }
}

/// What a comparison tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// An entry changed.
    Changed {
        /// Its absolute path.
        path: PathBuf,
        /// It is a directory; when it changed its kind, it is one now.
        is_dir: bool,
        /// How.
        change: Change,
    },
    /// Something that cannot be read, so that what may have changed in it is not known.
    Problem {
        /// Its absolute path.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

/// What only one of two snapshots has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffCounts {
    /// Files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Other entries.
    pub others: u64,
    /// Blobs of file content that the other does not need.
    pub data_blobs: u64,
    /// Blobs of directories that the other does not need.
    pub tree_blobs: u64,
    /// Bytes of these blobs, decompressed.
    pub bytes: u64,
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffReport {
    /// Files whose content changed.
    pub changed_files: u64,
    /// What is new.
    pub added: DiffCounts,
    /// What is gone.
    pub removed: DiffCounts,
    /// How many problems were told.
    pub problems: u64,
}

/// Takes what is told. An error that it returns ends the comparison.
pub type ComparedEach<'a> = &'a mut dyn FnMut(Compared) -> Result<()>;

/// Compares. Blocks: call it on a thread of its own.
///
/// # Errors
/// `PathNotFound` for a path that is no directory; `Damaged` if the first directories cannot be read; `MemoryLimit`, `Locked`,
/// `Cancelled`, what the store says, and what `each` returns.
pub fn diff(
    repo: &Repository,
    request: &DiffRequest,
    cancel: &Cancel,
    each: ComparedEach<'_>,
) -> Result<DiffReport> {
    let store = repo.store().with_cancel(cancel.clone());
    reading(
        repo,
        cancel,
        |reader| reader.index_within(request.memory, (Packs::All, Copies::All), BESIDE),
        |(index, _)| index,
        |(index, ceiling)| {
            let half = ceiling.left() / 2;
            let mut blobs = BlobReader::new(repo, &store, &index);
            let mut root = |(snapshot, path): &(Snapshot, PathBuf)| -> Result<Id> {
                match find(repo, &mut blobs, snapshot, path)? {
                    Found::Dir(tree) => Ok(tree),
                    Found::Entry(_) => Err(Error::PathNotFound {
                        location: repo.location(),
                        snapshot: snapshot.id.clone(),
                        path: path.clone(),
                    }),
                }
            };
            let roots = (root(&request.before)?, root(&request.after)?);
            let mut counted = Counted::new(&index);
            counted.tree(&roots.0, &roots.1);
            let mut walk = Walk {
                blobs,
                index: &index,
                counted,
                room: half,
                metadata: request.metadata,
                cancel,
                each,
                report: DiffReport::default(),
            };
            let in_all = |error| ceiling.in_all(times(2, error));
            walk.run(&Sides::both(roots)).map_err(in_all)?;
            let Walk {
                counted,
                mut report,
                ..
            } = walk;
            let finished = counted.finish((repo, &store, &index), half, cancel, &mut report);
            finished.map_err(in_all)?;
            Ok(report)
        },
    )
}
