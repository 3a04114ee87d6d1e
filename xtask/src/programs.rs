//! The workspace's programs as tests and tasks use them: built for debugging.
//!
//! All builds but the images' select the whole workspace, even when they want one target of it:
//! cargo unifies features over what is selected, so any other selection compiles half of the
//! dependencies a second time.

use std::path::PathBuf;

use anyhow::Result;

use crate::{exec, place};

/// Builds all programs of the workspace and says in which folder they are.
pub fn build() -> Result<PathBuf> {
    let mut command = exec::cargo();
    command.args(["build", "--workspace", "--bins"]);
    exec::run(&mut command)?;
    Ok(place::target().join("debug"))
}
