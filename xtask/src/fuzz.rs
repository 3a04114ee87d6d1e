//! `cargo xtask fuzz`: hands made-up bytes to the engine's parsers, starting from the corpus in the tree.
//!
//! Does: build the targets of `engine/fuzz` with the toolchain that builds everything else (the
//! compiler's coverage pass is switched on by flags; cargo-fuzz is not needed) in a folder of their
//! own, and run them one after the other. What it finds new stays in the build folder; the corpus
//! in the tree is only read. An input for which something does not hold is a failure, and its file
//! is named. Needs a C++ compiler, for libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::print::{self, Progress};
use crate::{exec, place};

/// What makes the compiler count which branches were taken, and what was compared with what.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// An input that takes longer is one of those looked for.
const TIMEOUT_SECONDS: u32 = 10;
/// Memory of a whole target, in MiB. What one input may take is less, and said by the target
/// itself.
const MEMORY: u32 = 1024;

/// What is run, and for how long.
#[derive(Debug, Args)]
pub struct Options {
    /// Which targets (an unknown name lists all); all by default
    targets: Vec<String>,
    /// How long each of them runs
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    seconds: u32,
    /// Run one target on this file only
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Where things are.
struct Folders {
    /// The crate of the targets.
    sources: PathBuf,
    /// Everything that is made.
    build: PathBuf,
}

/// Builds and runs targets.
pub fn run(options: &Options) -> Result<()> {
    let folders = Folders {
        sources: manifest()
            .parent()
            .context("the manifest lies in no folder")?
            .to_path_buf(),
        build: place::target().join("fuzz"),
    };
    let all = names(&folders.sources)?;
    let wanted = choose(&all, &options.targets)?;
    let programs = build(&folders, &wanted)?;
    if let Some(input) = &options.input {
        let [target] = wanted[..] else {
            bail!("--input needs the name of one target");
        };
        return exec::run(Command::new(programs.join(target)).arg(input));
    }
    let mut failed = Vec::new();
    for target in wanted {
        let progress = Progress::start(&format!("fuzz: {target}"));
        match one(&folders, &programs, target, options.seconds) {
            Ok(done) => {
                progress.done();
                print::note(&done);
            }
            Err(error) => {
                print::error(&error);
                failed.push(target);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "something does not hold: {}. Put the file into engine/fuzz/corpus/TARGET: it is a test from then on",
        failed.join(", ")
    )
}

/// The manifest of the targets' crate.
pub(crate) fn manifest() -> PathBuf {
    place::workspace().join("engine/fuzz/Cargo.toml")
}

/// The targets there are.
fn names(sources: &Path) -> Result<Vec<String>> {
    let folder = sources.join("fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        let name = path.file_stem().unwrap_or_default();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn choose<'a>(all: &'a [String], wanted: &[String]) -> Result<Vec<&'a str>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!(
            "there is no target {unknown}; there are: {}",
            all.join(", ")
        );
    }
    let chosen = all
        .iter()
        .filter(|name| wanted.is_empty() || wanted.contains(name));
    Ok(chosen.map(String::as_str).collect())
}

/// Builds targets and returns the folder of their programs.
fn build(folders: &Folders, targets: &[&str]) -> Result<PathBuf> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    exec::output(Command::new(&compiler).arg("--version"))
        .context("libFuzzer needs a C++ compiler (Debian: apt-get install g++)")?;
    let progress = Progress::start("building the fuzz targets");
    let machine = place::rust_target()?;
    let mut cargo = exec::cargo();
    // Build scripts and macros are not instrumented when the machine is named.
    cargo
        .args(["build", "--release", "--locked", "--target", machine])
        .arg("--manifest-path")
        .arg(folders.sources.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&folders.build)
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for target in targets {
        cargo.args(["--bin", target]);
    }
    exec::run(&mut cargo)?;
    progress.done();
    Ok(folders.build.join(machine).join("release"))
}

/// Runs one target and says what it did.
fn one(folders: &Folders, programs: &Path, target: &str, seconds: u32) -> Result<String> {
    let corpus = folders.sources.join("corpus").join(target);
    let grown = folders.build.join("grown").join(target);
    let found = folders.build.join("found").join(target);
    for folder in [&grown, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let before = files(&found)?;
    let log = folders.build.join(format!("{target}.log"));
    let mut command = Command::new(programs.join(target));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg("-print_final_stats=1")
        .args([&grown, &corpus]);
    if let Err(error) = exec::run_logged(&mut command, &log) {
        let mut new = files(&found)?;
        new.retain(|file| !before.contains(file));
        let Some(file) = new.first() else {
            return Err(error);
        };
        return Err(error.context(format!(
            "{target} fails for {file}; again: cargo xtask fuzz {target} --input {file}",
            file = file.display()
        )));
    }
    let text = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    summary(&String::from_utf8_lossy(&text))
        .with_context(|| format!("{target} did not run: {}", exec::quote_log(&log, 20)))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("cannot read {}", folder.display()))
}

/// How many inputs were tried, from the log; none if none was, or if no branch was counted.
fn summary(log: &str) -> Option<String> {
    let number = |line: &str, word: &str| {
        let rest = line.split(word).nth(1)?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let inputs = log
        .lines()
        .find_map(|line| number(line, "stat::number_of_executed_units:"))?;
    let branches = log.lines().rev().find_map(|line| number(line, "cov:"))?;
    (inputs > 0 && branches > 20).then(|| format!("{inputs} inputs, {branches} branches"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_all_or_those_named() {
        let all = names(&place::workspace().join("engine/fuzz")).unwrap();
        assert_eq!(choose(&all, &[]).unwrap().len(), all.len());
        assert_eq!(choose(&all, &["tree".to_owned()]).unwrap(), ["tree"]);
        let error = choose(&all, &["wood".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("wood") && error.contains("tree"), "{error}");
    }

    #[test]
    fn a_run_that_counted_nothing_is_none() {
        let log = "#2\tINITED cov: 732 ft: 99 corp: 1/1b\n#9\tDONE   cov: 812 ft: 100\n\
                   stat::number_of_executed_units: 5123\n";
        assert_eq!(summary(log).as_deref(), Some("5123 inputs, 812 branches"));
        assert_eq!(summary(&log.replace("812", "2")), None);
        assert_eq!(summary("nothing"), None);
    }
}
