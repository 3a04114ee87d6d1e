//! Many small files, and very many empty ones.

use anyhow::Result;

use super::{CONTENT_CHUNK, settle, usual};
use crate::{data::files, print, program::Who, run::Run};

const SEED: u64 = 3;

/// First backup, unchanged backup and restore of small files.
pub(super) fn many(run: &mut Run) -> Result<()> {
    if !run.any(&["small-first", "small-unchanged", "restore-small"]) {
        return Ok(());
    }
    print::step("making small files");
    let source = run.work.folder("source")?;
    files::small(&source, run.sizes.small, SEED)?;
    if let Some(case) = run.case("small-first") {
        run.first(case, &usual(&source), CONTENT_CHUNK)?;
    }
    if run.any(&["small-unchanged", "restore-small"]) {
        settle();
        let bases = run.bases(&usual(&source), &Who::ALL)?;
        if let Some(case) = run.case("small-unchanged") {
            run.later(case, &usual(&source), &bases, CONTENT_CHUNK, || Ok(()))?;
        }
        if let Some(case) = run.case("restore-small") {
            run.restores(case, &source, &bases)?;
        }
        run.forget(bases)?;
    }
    run.work.remove("source")
}

/// First backup of empty files.
pub(super) fn empty(run: &mut Run) -> Result<()> {
    let Some(case) = run.case("empty-files") else {
        return Ok(());
    };
    print::step("making empty files");
    let source = run.work.folder("source")?;
    files::empty(&source, run.sizes.empty)?;
    run.first(case, &usual(&source), CONTENT_CHUNK)?;
    run.work.remove("source")
}
