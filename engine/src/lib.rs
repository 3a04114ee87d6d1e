//! Ark's engine: restic-compatible repositories, linked into a program instead of run as a process.
//!
//! ```text
//!   archive   restore   maintain  browse   what a caller asks for; block, report rows, stop on cancel
//!      │         │         │        │
//!      ├─ files ─┤         │        │      the local file system: beneath one directory, metadata, xattrs
//!      │         │         │        │
//!      └──── repo, index ──┴────────┘      open, init, keys, locks, snapshots, blobs
//!                │
//!            format, crypto               documents and seals, bytes only
//!                │
//!             storage                     async object store: local directory or S3
//! ```
//!
//! The engine knows nothing of Kubernetes, prints nothing, and has no environment variable of its own (trusted
//! certificates and HTTP proxies follow the usual ones). `rustic_core` makes configurations, and reads nothing; only
//! `repo/adapter.rs` names its types.
//!
//! `examples/backup_dir.rs` shows a program around it: make or open a repository, archive a directory, restore it.
//!
//! # Threads
//!
//! [`Store`] is async. [`Repository`]'s methods, [`archive()`], [`restore()`] and [`check()`] block and drive their
//! requests on the multi-threaded tokio runtime whose handle they were given: call them from a thread of
//! your own (or `spawn_blocking`), never from a worker of a runtime.

mod cancel;
mod ceiling;
mod chunk;
mod crypto;
mod error;
mod files;
mod format;
#[cfg(test)]
mod fuzzing;
mod host;
mod index;
mod panics;
mod permits;
mod progress;
mod repo;
mod rows;
mod seal;
mod sha;

pub mod archive;
pub mod browse;
pub mod maintain;
pub mod memory;
pub mod restore;
pub mod stats;
pub mod storage;

pub use archive::{
    ArchiveReport, ArchiveRequest, Outcome, Source, StreamRequest, archive, archive_stream,
};
pub use cancel::Cancel;
pub use error::{Class, Error, Result};
pub use format::snapshot::{Coverage, Summary};
pub use host::{boot_id, host_name};
pub use maintain::{CheckReport, check};
pub use progress::{Progress, ProgressCounts};
pub use repo::{
    FormatVersion, Hold, Holder, HolderLiveness, InitOptions, KeyInfo, LockTiming, Locked, NewKey,
    OpenOptions, Repository, Snapshot, SnapshotFilter,
};
pub use restore::{PlannedChange, RestoreAction, RestoreReport, RestoreRequest, restore};
pub use rows::{FileError, FileOperation};
pub use storage::{
    AwsCredentials, Entry, Location, ObjectMeta, Policy, S3Access, Secret, Store, StoreConfig,
    parse_aws_credentials,
};
