//! Large files: a database's, with dense and with padded pages, and data that does not compress.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::SystemTime,
};

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
    let rereads = ["reread-rabin", "reread-fixed", "reread-prints"];
    let later = ["changed", "changed-prints", "restore-large", "check-data"];
    let needs_bases = run.any(&rereads) || run.any(&later);
    if !run.any(&["initial-dense", "untouched"]) && !needs_bases {
        return Ok(());
    }
    let source = run.work.folder("source")?;
    relation(&source, Fill::Dense, run.sizes.pages)?;
    if let Some(case) = run.case("initial-dense") {
        run.first(case, &usual(&source), PAGES_CHUNK)?;
    }
    if let Some(case) = run.case("untouched") {
        settle();
        let bases = run.bases(&usual(&source), &Who::ALL)?;
        run.later(case, &usual(&source), &bases, None, || Ok(()))?;
        run.forget(bases)?;
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
        state: None,
    };
    // Fingerprints are kept of the repository that later cases start from.
    let state = State::of(run)?;
    let auto = Backup {
        state: state.as_ref().map(|state| state.used.clone()),
        ..cut(Cuts::Auto, false)
    };
    let first = match run.case("reread-rabin") {
        Some(_) => cut(Cuts::Rabin, false),
        None => auto.clone(),
    };
    let mut bases = run.bases(&first, &Who::ALL)?;
    if let Some(case) = run.case("reread-rabin") {
        run.later(
            case,
            &cut(Cuts::Rabin, true),
            &bases,
            Some(CONTENT_CHUNK),
            || touch(&file),
        )?;
        let others = ["reread-fixed", "changed", "restore-large", "check-data"];
        if run.any(&others) || state.is_some() {
            bases.replace(run.bases(&auto, &[Who::Ark])?);
        }
    }
    if let Some(state) = &state {
        state.save()?;
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
    let before = || {
        state.as_ref().map_or(Ok(()), State::restore)?;
        touch(&file)
    };
    if let Some(case) = run.case("reread-prints") {
        let backup = Backup {
            reread: true,
            ..auto.clone()
        };
        run.later(case, &backup, &bases, None, before)?;
    }
    if let Some(case) = run.case("restore-large") {
        run.restores(case, source, &bases)?;
    }
    if let Some(case) = run.case("check-data") {
        run.checks(case, source, &bases)?;
    }
    let changed = ["changed", "changed-prints"];
    if run.any(&changed) {
        let count = run.sizes.pages.div_ceil(100);
        pages::change(&file, count, CHANGES, Fill::Dense)?;
        settle();
    }
    if let Some(case) = run.case("changed") {
        run.later(case, &usual(source), &bases, Some(PAGES_CHUNK), || {
            touch(&file)
        })?;
    }
    if let Some(case) = run.case("changed-prints") {
        run.later(case, &auto, &bases, None, before)?;
    }
    run.forget(bases)
}

/// Fingerprints, and how they were when the repository was made: a run is begun anew with those.
struct State {
    used: PathBuf,
    saved: PathBuf,
}

impl State {
    /// None if no case needs it.
    fn of(run: &Run) -> Result<Option<Self>> {
        if !run.any(&["reread-prints", "changed-prints"]) {
            return Ok(None);
        }
        Ok(Some(Self {
            used: run.work.folder("state")?,
            saved: run.work.folder("state-saved")?,
        }))
    }

    fn save(&self) -> Result<()> {
        copy(&self.used, &self.saved)
    }

    fn restore(&self) -> Result<()> {
        copy(&self.saved, &self.used)
    }
}

/// Makes a folder of files the same as another.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot copy {} to {}", from.display(), to.display());
    std::fs::remove_dir_all(to).with_context(context)?;
    std::fs::create_dir(to).with_context(context)?;
    for entry in std::fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).with_context(context)?;
    }
    Ok(())
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
