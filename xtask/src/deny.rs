//! `cargo xtask deny`: licences, duplicates and sources of all dependencies, by cargo-deny.
//!
//! The fuzz targets are a workspace of their own and checked by the same rules, and so is that they
//! are built of the same versions as the engine.
//!
//! cargo-deny is built once into the tool cache if it is not on PATH. If it cannot be had, or the
//! list of known faults cannot be fetched, that is said and not a failure: a machine without a way
//! out can still build. What it finds is a failure.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{self, Tool};
use crate::{exec, fuzz, place, print};

/// Runs all checks that can be run here.
pub fn run() -> Result<()> {
    same_versions(
        &place::workspace().join("Cargo.lock"),
        &fuzz::manifest().with_file_name("Cargo.lock"),
    )?;
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
    let mut of_fuzz = deny(&["--manifest-path"]);
    of_fuzz.arg(fuzz::manifest()).args(["--locked", "check"]);
    // Most of what is allowed is not needed there; what is there twice is so here.
    of_fuzz.args(["-A", "license-not-encountered"]);
    of_fuzz.args(["-A", "license-exception-not-encountered"]);
    of_fuzz.args(["licenses", "sources"]);
    exec::run(&mut of_fuzz).context("deny.toml says what is allowed, and why")?;
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

/// Whether everything that two lock files have in common has a version in one that it has in the
/// other.
fn same_versions(ours: &Path, theirs: &Path) -> Result<()> {
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let other = differences(&read(ours)?, &read(theirs)?);
    if other.is_empty() {
        return Ok(());
    }
    bail!(
        "{} has other versions than {}: {}",
        theirs.display(),
        ours.display(),
        other.join(", ")
    )
}

/// Packages that both lock files have, and one in a version that the other does not have.
fn differences(ours: &str, theirs: &str) -> Vec<String> {
    let ours = packages(ours);
    let known: BTreeSet<&str> = ours.iter().map(|(name, _)| *name).collect();
    let mut theirs = packages(theirs);
    theirs.retain(|package| known.contains(package.0) && !ours.contains(package));
    theirs
        .into_iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect()
}

/// Names and versions in a lock file.
fn packages(lock: &str) -> BTreeSet<(&str, &str)> {
    let entries = lock.split("[[package]]\n").skip(1);
    entries
        .filter_map(|entry| {
            let mut lines = entry.lines();
            let name = lines.next()?.strip_prefix("name = \"")?;
            let version = lines.next()?.strip_prefix("version = \"")?;
            Some((name.strip_suffix('"')?, version.strip_suffix('"')?))
        })
        .collect()
}

fn find_or_build() -> Result<PathBuf> {
    if exec::output(Command::new("cargo-deny").arg("--version")).is_ok() {
        return Ok(PathBuf::from("cargo-deny"));
    }
    tools::ensure(&[Tool::CargoDeny])?;
    tools::path(Tool::CargoDeny)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_named() {
        let lock = |packages: &[(&str, &str)]| {
            let package = |(name, version): &(&str, &str)| {
                format!(
                    "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"x\"\n\n"
                )
            };
            format!(
                "version = 4\n\n{}",
                packages.iter().map(package).collect::<String>()
            )
        };
        let ours = lock(&[
            ("serde", "1.0.2"),
            ("zstd", "0.13.4"),
            ("cc", "1.0.0"),
            ("cc", "1.2.0"),
        ]);
        let good = lock(&[("serde", "1.0.2"), ("cc", "1.2.0"), ("cap", "0.1.2")]);
        assert!(differences(&ours, &good).is_empty());
        let bad = lock(&[("serde", "1.0.3"), ("cc", "1.2.0")]);
        assert_eq!(differences(&ours, &bad), ["serde 1.0.3"]);
    }

    #[test]
    fn the_fuzz_targets_are_built_of_the_same_versions() {
        let fuzz = fuzz::manifest().with_file_name("Cargo.lock");
        same_versions(&place::workspace().join("Cargo.lock"), &fuzz).unwrap();
    }
}
