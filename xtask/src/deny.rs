//! `cargo xtask deny`: licences, duplicates and sources of all dependencies, by cargo-deny.
//!
//! cargo-deny is built once into the tool cache if it is not on PATH. If it cannot be had, or the
//! list of known faults cannot be fetched, that is said and not a failure: a machine without a way
//! out can still build. What it finds is a failure.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools::{self, Tool};
use crate::{exec, place, print};

/// Runs all checks that can be run here.
pub fn run() -> Result<()> {
    let program = match find_or_build() {
        Ok(program) => program,
        Err(error) => {
            print::warning(&format!(
                "dependencies were not checked, no cargo-deny: {error:#}"
            ));
            return Ok(());
        }
    };
    let deny = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(place::workspace()).args(args);
        command
    };
    exec::run(&mut deny(&[
        "--locked", "check", "licenses", "bans", "sources",
    ]))
    .context("deny.toml says what is allowed, and why")?;
    match exec::output(&mut deny(&["fetch", "db"])) {
        Ok(_) => exec::run(&mut deny(&[
            "--locked",
            "check",
            "--disable-fetch",
            "advisories",
        ])),
        Err(error) => {
            let reason = format!("{error:#}");
            let line = reason.lines().next().unwrap_or_default();
            print::warning(&format!(
                "known faults were not checked, no list of them: {line}"
            ));
            Ok(())
        }
    }
}

fn find_or_build() -> Result<PathBuf> {
    if exec::output(Command::new("cargo-deny").arg("--version")).is_ok() {
        return Ok(PathBuf::from("cargo-deny"));
    }
    tools::ensure(&[Tool::CargoDeny])?;
    tools::path(Tool::CargoDeny)
}
