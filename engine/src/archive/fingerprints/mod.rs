//! Fingerprints: what is remembered of a volume's blocks between backups, so that an unchanged one
//! costs a read and a BLAKE3 instead of a SHA-256.
//!
//! Does: keep one file per repository and volume (`format.rs` says how it is laid out, `keys.rs`
//! how it is sealed), look blocks up in it, and write its successor. Does not: decide that anything
//! need not be read, or that a blob exists. A block whose fingerprint is the one remembered yields
//! the id of a *candidate*, which is looked up in the live index as any other; everything else is
//! read, hashed and stored as if there were no state.
//!
//! Nothing here can fail a backup. A state that is missing, cut off, changed by somebody, of
//! another volume or older than the repository costs time; what is authentic of it is used, the
//! rest is not.
//!
//! Order: the successor is written to a temporary file while the backup runs (`writer.rs`); when
//! the snapshot is in the repository it is synced and renamed over the one before; then room is
//! made (`room.rs`). A kill at any moment leaves one of the two, whole, and at most a temporary
//! file, which the next run removes. Of runs at the same time the last to rename wins.

pub(crate) mod format;
mod keys;
mod reader;
mod room;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

pub(in crate::archive) use self::{
    format::{Cut, ENTRY_MEMORY, Print, Record, SEGMENT},
    keys::{Keys, Volume},
    reader::{Reader, Track},
    room::make as make_room,
    writer::{Writer, remove},
};

/// The most the states of a directory take on disk, in bytes, unless said otherwise. A file of 64
/// KiB chunks takes 0.12 % of its size, one of content-defined chunks a hundredth of that.
pub const STATE_BYTES: u64 = 1 << 30;

/// Where fingerprints are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRequest {
    /// A directory; made if it is not there. It may be shared by any number of repositories and
    /// volumes, and removed at any moment.
    pub dir: PathBuf,
    /// The most all states in it may take on disk, in bytes; as much again for each backup that
    /// runs. Those used longest ago are removed for others, and blocks of one that would be larger
    /// are not remembered.
    pub bytes: u64,
}

impl StateRequest {
    /// In this directory, with [`STATE_BYTES`].
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            bytes: STATE_BYTES,
        }
    }
}

/// What fingerprints were good for in one archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateReport {
    /// Blocks found unchanged by their fingerprint, and in the index.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks for which a fingerprint was remembered, and that were read.
    pub looked_up: u64,
    /// Bytes of the state on disk, if it was written anew.
    pub written: Option<u64>,
    /// Why a state was not used, or not written, or not for everything.
    pub problem: Option<String>,
}
