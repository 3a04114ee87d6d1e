//! Many small files, and very many empty ones.

use std::path::Path;

use anyhow::Result;

use super::{CONTENT_CHUNK, settle, usual};
use crate::{data, print, program::Who, room::Sizes, run::Run};

const SEED: u64 = 3;

/// First backup, unchanged backup and restore of small files.
pub(super) fn many(run: &mut Run) -> Result<()> {
    if !run.any(&["small-first", "small-unchanged", "restore-small"]) {
        return Ok(());
    }
    let source = run.work.folder("source")?;
    files(&source, &run.sizes)?;
    if let Some(case) = run.case("small-first") {
        run.first(case, &usual(&source), CONTENT_CHUNK)?;
    }
    if run.any(&["small-unchanged", "restore-small"]) {
        settle();
        let bases = run.bases(&usual(&source), &Who::ALL)?;
        if let Some(case) = run.case("small-unchanged") {
            run.later(case, &usual(&source), &bases, None, || Ok(()))?;
        }
        if let Some(case) = run.case("restore-small") {
            run.restores(case, &source, &bases)?;
        }
        run.forget(bases)?;
    }
    run.work.remove("source")
}

/// The small files in a folder.
pub(super) fn files(folder: &Path, sizes: &Sizes) -> Result<()> {
    print::step("making small files");
    data::files::small(folder, sizes.small, SEED)?;
    Ok(())
}

/// First backup of empty files.
pub(super) fn empty(run: &mut Run) -> Result<()> {
    let Some(case) = run.case("empty-files") else {
        return Ok(());
    };
    print::step("making empty files");
    let source = run.work.folder("source")?;
    data::files::empty(&source, run.sizes.empty)?;
    run.first(case, &usual(&source), CONTENT_CHUNK)?;
    run.work.remove("source")
}
