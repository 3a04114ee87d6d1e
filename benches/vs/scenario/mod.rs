//! The cases, grouped by the data they share: each group makes its data, measures, and removes it.

mod large;
mod minio;
mod postgres;
mod remote;
mod small;

use std::{path::Path, path::PathBuf, time::Duration};

use anyhow::Result;

use crate::{
    program::{Backup, Cuts},
    run::Run,
};

/// Programs outside that some cases need.
#[derive(Debug, Clone, Default)]
pub(crate) struct Servers {
    /// MinIO's program.
    pub(crate) minio: Option<PathBuf>,
    /// The folder of PostgreSQL's programs.
    pub(crate) postgres: Option<PathBuf>,
}

/// The length of chunks in page-structured files.
const PAGES_CHUNK: usize = 64 << 10;
/// Of others, about.
const CONTENT_CHUNK: usize = 1 << 20;

/// Runs every case that was asked for.
pub(crate) fn all(run: &mut Run, servers: &Servers) -> Result<()> {
    large::dense(run)?;
    large::padded(run)?;
    postgres::cases(run, servers)?;
    small::many(run)?;
    small::empty(run)?;
    large::compressed(run)?;
    remote::minio(run, servers)
}

/// Reads what changed, as each program decides.
fn usual(source: &Path) -> Backup<'_> {
    Backup {
        source,
        reread: false,
        cuts: Cuts::Auto,
    }
}

/// Lets files grow old: what was written in the seconds before a backup is read again by the next one,
/// because its times could not tell a later change.
fn settle() {
    std::thread::sleep(Duration::from_secs(4));
}
