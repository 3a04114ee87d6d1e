//! The programs that are compared, each called as its users call it.
//!
//! None keeps a cache: beside a repository on the same machine it would only be written, and after
//! a run is rolled back it would be wrong. Ark's fingerprints are kept where a case is about them.
//! All else is each program's default, key derivation included.

mod ark;
mod restic;
mod rustic;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) use self::{ark::Ark, restic::Restic, rustic::Rustic};
use crate::measure::Call;

/// The password of all repositories, which live for one run.
pub(crate) const PASSWORD: &str = "a password for measurements";

/// One of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    /// Ark's engine.
    Ark,
    /// restic.
    Restic,
    /// rustic.
    Rustic,
}

impl Who {
    /// All, in the order of tables.
    pub(crate) const ALL: [Self; 3] = [Self::Ark, Self::Restic, Self::Rustic];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ark => "ark",
            Self::Restic => "restic",
            Self::Rustic => "rustic",
        }
    }
}

/// Where a repository is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A directory.
    Local(PathBuf),
    /// Below a prefix of a bucket.
    S3 {
        /// `http://host:port`.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// The prefix, without slashes around it.
        prefix: String,
        /// The access key.
        key: String,
        /// Its secret.
        secret: String,
    },
}

impl Place {
    /// Says it in a call as restic and Ark want to hear it: repository, password and keys.
    fn as_restic_takes_it(&self, call: Call) -> Call {
        let call = call.variable("RESTIC_PASSWORD", PASSWORD).arg("--repo");
        match self {
            Self::Local(dir) => call.arg(dir),
            Self::S3 {
                endpoint,
                bucket,
                prefix,
                key,
                secret,
            } => call
                .arg(format!("s3:{endpoint}/{bucket}/{prefix}"))
                .variable("AWS_ACCESS_KEY_ID", key)
                .variable("AWS_SECRET_ACCESS_KEY", secret),
        }
    }
}

/// How Ark cuts files; the others have one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cuts {
    /// By what each file is: the default.
    Auto,
    /// By content, as restic does.
    Rabin,
    /// At multiples of a size.
    Fixed,
}

/// What to back up.
#[derive(Debug, Clone)]
pub(crate) struct Backup<'a> {
    /// The folder.
    pub(crate) source: &'a Path,
    /// Read everything, whatever the parent says.
    pub(crate) reread: bool,
    /// How Ark cuts.
    pub(crate) cuts: Cuts,
    /// Where Ark keeps fingerprints, if it is to; the others have none.
    pub(crate) state: Option<PathBuf>,
}

/// A program that keeps backups.
pub(crate) trait Program {
    /// What it says of itself.
    fn version(&self) -> Result<String>;
    /// Makes a repository.
    fn init(&self, place: &Place) -> Call;
    /// Backs a folder up.
    fn backup(&self, place: &Place, backup: &Backup<'_>) -> Call;
    /// Restores the latest snapshot below a folder.
    fn restore(&self, place: &Place, target: &Path) -> Call;
    /// Forgets all snapshots but the latest so many.
    fn forget(&self, place: &Place, keep: u32) -> Call;
    /// Frees the space of what is not needed, but for 5 %, however much is to be written anew for
    /// that.
    fn prune(&self, place: &Place) -> Call;
    /// Counts what is stored, over all snapshots.
    fn stats(&self, place: &Place) -> Call;
    /// Finds files whose names fit a pattern, in all snapshots.
    fn find(&self, place: &Place, pattern: &str) -> Call;
    /// Checks a repository, and reads and verifies all its data.
    fn check_data(&self, place: &Place) -> Call;
}
