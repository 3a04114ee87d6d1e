//! `cargo xtask deny`: licences, duplicates and sources of all dependencies, by cargo-deny.
//!
//! cargo-deny is built once into the tool cache if it is not on PATH. If it cannot be had, or the
//! list of known faults cannot be fetched, that is said and not a failure: a machine without a way
//! out can still build. What it finds is a failure.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::print::{self, Progress};
use crate::tools::{CARGO_DENY, Lock};
use crate::{exec, place};

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
    let cache = place::cache()?.join("cargo-deny");
    let last = cache.join(CARGO_DENY);
    let program = last.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let _lock = Lock::take(&cache.join("lock"), "another run is building cargo-deny")?;
    if program.is_file() {
        return Ok(program);
    }
    let progress = Progress::start("building cargo-deny (minutes, once)");
    let partial = cache.join("partial");
    let mut install = exec::cargo();
    install
        .args(["install", "cargo-deny", "--locked", "--force", "--debug"])
        .args(["--version", CARGO_DENY, "--root"])
        .arg(&partial)
        .env("CARGO_TARGET_DIR", cache.join("target"));
    exec::run_logged(&mut install, &cache.join("build.log"))?;
    std::fs::rename(&partial, &last).with_context(|| format!("cannot make {}", last.display()))?;
    // Gigabytes that nobody needs again; if they stay, that is all there is to it.
    drop(std::fs::remove_dir_all(cache.join("target")));
    progress.done();
    Ok(program)
}
