//! Where the newest stock restic is. The tests of the command use this as well.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The one that `ARK_TEST_RESTIC` names, or the newest that `cargo xtask` has built.
pub fn newest() -> PathBuf {
    if let Some(path) = std::env::var_os("ARK_TEST_RESTIC") {
        return path.into();
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache = Path::new(&home).join(".cache/ark/restic");
    let versions = fs::read_dir(&cache).into_iter().flatten();
    let programs = versions.map(|version| version.unwrap().path().join("restic"));
    programs
        .filter(|program| program.is_file())
        .max()
        .expect("no new restic: set ARK_TEST_RESTIC, or have cargo xtask test build it")
}
