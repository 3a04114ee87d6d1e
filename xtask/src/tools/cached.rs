//! A folder of the tool cache, filled by a build.
//!
//! It is filled under a temporary name and renamed when it is complete. What an interrupted build
//! left is removed by the next one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::versions::Tool;
use crate::exec;
use crate::print::Progress;

/// Runs a build that fills a folder, and puts the folder at its place in the cache.
pub(super) fn into_cache(
    tool: Tool,
    label: &str,
    build: impl FnOnce(&Path) -> Command,
) -> Result<()> {
    let last = super::folder(tool)?;
    let parent = last
        .parent()
        .with_context(|| format!("{} has no parent", last.display()))?;
    let partial = with_suffix(&last, ".partial");
    // The cache's lock is held, so what lies there was left by a run that was interrupted.
    remove_if_there(&partial)?;
    std::fs::create_dir_all(&partial)
        .with_context(|| format!("cannot make {}", partial.display()))?;

    let progress = Progress::start(label);
    let log = parent.join("build.log");
    exec::run_logged(&mut build(&partial), &log)?;
    // An incomplete folder from another version of this table would block the rename.
    remove_if_there(&last)?;
    std::fs::rename(&partial, &last).with_context(|| format!("cannot make {}", last.display()))?;
    progress.done();
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
