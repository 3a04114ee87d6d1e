//! The defects: how each is made, what restic's check says of the repository then, and what ours
//! finds.

mod defects_of_documents;
mod defects_of_indexes;
mod defects_of_packs;

use std::{fs, path::Path};

use serde_json::Value;

use crate::forge::Forge;

/// What stock restic's `check --read-data` says.
pub enum Theirs {
    /// There is an error. Ours says so, too.
    Error,
    /// There is an error, told without `--read-data`: with it, restic 0.19.1 waits for ever.
    ErrorWithoutReading,
    /// It is not asked: restic 0.19.1 finds that the blobs do not lie side by side, and waits for
    /// ever. Ours says that there is an error.
    WaitsForEver,
    /// There is none, and ours says so, too.
    Ok,
    /// There is none, and ours is stricter, for this reason.
    OkBecause(#[allow(dead_code, reason = "for people")] &'static str),
}

/// One defect.
pub struct Defect {
    pub name: &'static str,
    pub versions: &'static [u32],
    pub make: fn(&Forge),
    pub theirs: Theirs,
    /// What ours finds.
    pub codes: &'static [&'static str],
    /// Whether a snapshot is affected.
    pub affects: bool,
}

const BOTH: &[u32] = &[1, 2];

const fn defect(
    name: &'static str,
    make: fn(&Forge),
    theirs: Theirs,
    codes: &'static [&'static str],
    affects: bool,
) -> Defect {
    Defect {
        name,
        versions: BOTH,
        make,
        theirs,
        codes,
        affects,
    }
}

const fn only_2(defect: Defect) -> Defect {
    Defect {
        versions: &[2],
        ..defect
    }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Defect> {
    let nothing = std::iter::once(&NOTHING);
    let parts = [
        defects_of_packs::DEFECTS,
        defects_of_indexes::DEFECTS,
        defects_of_documents::DEFECTS,
    ];
    nothing.chain(parts.into_iter().flatten())
}

static NOTHING: Defect = defect("nothing", |_| {}, Theirs::Ok, &[], false);

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Changes what the index says of one pack.
fn edit_entries(forge: &Forge, trees: bool, edit: fn(&mut Vec<Value>)) {
    let (id, _) = forge.pack(trees);
    forge.edit_index(|packs| {
        let pack = packs.iter_mut().find(|pack| pack["id"] == *id).unwrap();
        let blobs = pack["blobs"].as_array_mut().unwrap();
        blobs.sort_by_key(|blob| blob["offset"].as_u64());
        edit(blobs);
    });
}
