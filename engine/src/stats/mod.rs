//! How much is stored, for what, and what forgetting would free.
//!
//! Does: go through all directories of all snapshots once, on several threads, and count: what the
//! repository holds, what each volume and each snapshot needs, what each added over those before
//! it, and what only it needs ([`stats`]). Or count as `restic stats` does, in each of its modes
//! ([`count`]). Does not: read file content, write, or look whether packs are there; that is a
//! check.
//!
//! What cannot be read is a problem, told with the numbers, which then are those of the rest.
//!
//! Memory: [`StatsRequest::memory`] bytes in all: 44 and a bit for each blob, about 200 bytes for
//! each directory, and as long as there is room the blobs of each, which otherwise are read again.
//! Too little is the error `MemoryLimit`.

mod graph;
mod modes;
mod overview;
mod per_file;
mod problems;
mod reading;

pub use modes::{StatsMode, Totals, count};
pub use overview::{RepositoryStats, SnapshotStats, StatsReport, Stored, VolumeStats, stats};

use crate::{browse::MEMORY, repo::SnapshotFilter};

/// What to count.
#[derive(Debug, Clone)]
pub struct StatsRequest {
    /// Ids, beginnings of ids, or `latest`: only these snapshots. All that the filter lets through
    /// when empty.
    pub snapshots: Vec<String>,
    /// Which snapshots count.
    pub filter: SnapshotFilter,
    /// Bytes of memory to take in all.
    pub memory: u64,
}

impl Default for StatsRequest {
    fn default() -> Self {
        Self {
            snapshots: Vec::new(),
            filter: SnapshotFilter::default(),
            memory: MEMORY,
        }
    }
}
