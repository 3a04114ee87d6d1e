//! Many snapshots of small files of which few change from one to the next: counting, and finding by
//! name.

use anyhow::Result;

use super::usual;
use crate::{data::files, print, program::Who, run::Run};

const SEED: u64 = 5;
/// Of 50,000 files five.
const PATTERN: &str = "file-*0017";

/// Both cases.
pub(super) fn cases(run: &mut Run) -> Result<()> {
    if !run.any(&["stats", "find"]) {
        return Ok(());
    }
    print::step(&format!(
        "making {} snapshots of small files",
        run.sizes.snapshots
    ));
    let source = run.work.folder("source")?;
    files::tiny(&source, run.sizes.small, SEED)?;
    let (snapshots, count) = (run.sizes.snapshots, run.sizes.small);
    let bases = run.series(&usual(&source), snapshots, |number| {
        files::change_tiny(&source, count, SEED + number)
    })?;
    run.work.remove("source")?;
    if let Some(case) = run.case("stats") {
        run.reads(case, &bases, |run, who, place| {
            run.program(who).stats(place)
        })?;
    }
    if let Some(case) = run.case("find") {
        run.reads(case, &bases, |run, who: Who, place| {
            run.program(who).find(place, PATTERN)
        })?;
    }
    run.forget(bases)
}
