//! The cases, grouped by the data they share: each group makes its data, measures, and removes it.

mod history;
mod large;
mod minio;
mod postgres;
mod prune;
mod remote;
mod small;

use std::{path::Path, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    data::{files, pages::Fill},
    program::{Backup, Cuts},
    room::Sizes,
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

/// A kind of data.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// A database file, dense pages
    Dense,
    /// A database file, padded pages
    Padded,
    /// Small files
    Small,
    /// Empty files
    Empty,
    /// Data that does not compress
    Compressed,
}

/// Makes data in a new folder, as the cases do.
pub(crate) fn make(kind: Kind, folder: &Path, sizes: &Sizes) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    match kind {
        Kind::Dense => large::relation(folder, Fill::Dense, sizes.pages),
        Kind::Padded => large::relation(folder, Fill::Padded, sizes.pages),
        Kind::Small => small::files(folder, sizes),
        Kind::Empty => files::empty(folder, sizes.empty),
        Kind::Compressed => large::incompressible(folder, sizes),
    }
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
    prune::case(run)?;
    history::cases(run)?;
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
        state: None,
    }
}

/// Lets files grow old: what was written in the seconds before a backup is read again by the next
/// one, because its times could not tell a later change.
fn settle() {
    std::thread::sleep(Duration::from_secs(4));
}
