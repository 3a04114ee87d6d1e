//! Large files: a database's, with dense and with padded pages, and data that does not compress.

use std::{fs::File, path::Path, time::SystemTime};

use anyhow::{Context as _, Result};

use super::{CONTENT_CHUNK, PAGES_CHUNK, settle, usual};
use crate::{
    data::{
        files,
        pages::{self, Fill},
    },
    print,
    program::{Backup, Cuts, Who},
    room::Sizes,
    run::Run,
};

const SEED: u64 = 1;
const CHANGES: u64 = 2;
/// Files of PostgreSQL are named by numbers.
const NAME: &str = "16384";

/// All cases on a file of dense pages.
pub(super) fn dense(run: &mut Run) -> Result<()> {
    let rereads = ["reread-rabin", "reread-fixed"];
    let later = ["changed", "restore-large", "check-data"];
    let needs_bases = run.any(&rereads) || run.any(&later);
    if run.case("initial-dense").is_none() && !needs_bases {
        return Ok(());
    }
    let source = run.work.folder("source")?;
    relation(&source, Fill::Dense, run.sizes.pages)?;
    if let Some(case) = run.case("initial-dense") {
        run.first(case, &usual(&source), PAGES_CHUNK)?;
    }
    if needs_bases {
        settle();
        rest_of_dense(run, &source)?;
    }
    run.work.remove("source")
}

fn rest_of_dense(run: &mut Run, source: &Path) -> Result<()> {
    let file = source.join(NAME);
    let cut = |cuts, reread| Backup {
        source,
        reread,
        cuts,
    };
    let first = match run.case("reread-rabin") {
        Some(_) => Cuts::Rabin,
        None => Cuts::Auto,
    };
    let mut bases = run.bases(&cut(first, false), &Who::ALL)?;
    if let Some(case) = run.case("reread-rabin") {
        run.later(
            case,
            &cut(Cuts::Rabin, true),
            &bases,
            Some(CONTENT_CHUNK),
            || touch(&file),
        )?;
        if run.any(&["reread-fixed", "changed", "restore-large", "check-data"]) {
            bases.replace(run.bases(&cut(Cuts::Auto, false), &[Who::Ark])?);
        }
    }
    if let Some(case) = run.case("reread-fixed") {
        run.later(
            case,
            &cut(Cuts::Fixed, true),
            &bases,
            Some(PAGES_CHUNK),
            || touch(&file),
        )?;
    }
    if let Some(case) = run.case("restore-large") {
        run.restores(case, source, &bases)?;
    }
    if let Some(case) = run.case("check-data") {
        run.checks(case, source, &bases)?;
    }
    if let Some(case) = run.case("changed") {
        let count = run.sizes.pages.div_ceil(100);
        pages::change(&file, count, CHANGES, Fill::Dense)?;
        settle();
        run.later(case, &usual(source), &bases, Some(PAGES_CHUNK), || {
            touch(&file)
        })?;
    }
    run.forget(bases)
}

/// First backups of a file of padded pages.
pub(super) fn padded(run: &mut Run) -> Result<()> {
    let Some(case) = run.case("initial-padded") else {
        return Ok(());
    };
    let source = run.work.folder("source")?;
    relation(&source, Fill::Padded, run.sizes.pages)?;
    run.first(case, &usual(&source), PAGES_CHUNK)?;
    run.work.remove("source")
}

/// First backups of data that does not compress.
pub(super) fn compressed(run: &mut Run) -> Result<()> {
    let Some(case) = run.case("compressed") else {
        return Ok(());
    };
    let source = run.work.folder("source")?;
    incompressible(&source, &run.sizes)?;
    run.first(case, &usual(&source), CONTENT_CHUNK)?;
    run.work.remove("source")
}

/// A database file in a folder.
pub(super) fn relation(folder: &Path, fill: Fill, pages: u64) -> Result<()> {
    print::step(&format!("making a database file, {fill:?} pages"));
    pages::write(&folder.join(NAME), pages, SEED, fill)
}

/// Data that does not compress in a folder.
pub(super) fn incompressible(folder: &Path, sizes: &Sizes) -> Result<()> {
    print::step("making data that does not compress");
    files::incompressible(folder, sizes.compressed, SEED)
}

fn touch(path: &Path) -> Result<()> {
    let file = File::options().write(true).open(path);
    file.and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("cannot touch {}", path.display()))
}
