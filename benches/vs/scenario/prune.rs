//! Freeing space: a folder in four states, of which the older two are forgotten.
//!
//! In each state another quarter of the files has other content, so that some packs hold nothing
//! that is needed any more, some only such, and some both.

use anyhow::Result;

use super::usual;
use crate::{data, measure, print, program::Who, run::Run};

const SEED: u64 = 70;
/// Parts of the folder.
const PARTS: u64 = 4;
/// Snapshots that are kept.
const KEPT: u32 = 2;

/// The case.
pub(super) fn case(run: &mut Run) -> Result<()> {
    let Some(case) = run.case("prune") else {
        return Ok(());
    };
    print::step("making a folder in four states");
    let source = run.work.folder("source")?;
    let count = run.sizes.small / PARTS;
    let fill = |part: u64, seed: u64| {
        data::files::small(&source.join(format!("part-{part}")), count, seed)
    };
    for part in 0..PARTS {
        fill(part, SEED + part)?;
    }
    let bases = run.bases(&usual(&source), &Who::ALL)?;
    for part in 1..PARTS {
        fill(part, SEED + PARTS + part)?;
        for who in Who::ALL {
            let place = bases.place(who)?;
            measure::run(&run.work, &run.program(who).backup(&place, &usual(&source)))?;
        }
    }
    for who in Who::ALL {
        let place = bases.place(who)?;
        measure::run(&run.work, &run.program(who).forget(&place, KEPT))?;
    }
    run.prunes(case, &bases)?;
    run.forget(bases)?;
    run.work.remove("source")
}
