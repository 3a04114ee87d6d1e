//! `cargo xtask lint`: what must hold of every commit besides its tests, and how long files are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::print::Progress;
use crate::tools::{self, KUBERNETES, Tool};
use crate::{exec, fuzz, place, print};

/// How many of the longest files are shown.
const SHOWN: usize = 10;

/// Formatting, clippy with warnings denied, and the chart's own check.
pub fn run() -> Result<()> {
    let progress = Progress::start("lint");
    let cargo = |args: &[&str]| {
        let mut command = exec::cargo();
        command.args(args);
        exec::run(&mut command)
    };
    cargo(&["fmt", "--all", "--check"]).context("`cargo fmt --all` puts this right")?;
    let fuzz = fuzz::manifest();
    cargo(&["fmt", "--check", "--manifest-path", &fuzz.to_string_lossy()])
        .context("`cargo fmt --manifest-path engine/fuzz/Cargo.toml` puts this right")?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ])?;
    tools::ensure(&[Tool::Helm])?;
    let mut helm = Command::new(tools::path(Tool::Helm)?);
    helm.args(["lint", "--quiet", "--kube-version", KUBERNETES])
        .arg(place::workspace().join("charts/ark"));
    exec::run(&mut helm)?;
    progress.done();
    Ok(())
}

/// Prints the longest Rust files: above 400 lines they want a reason, above 1,000 there is none.
pub fn longest_files() -> Result<()> {
    let root = place::workspace();
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    let mut lengths = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        lengths.push((text.lines().count(), path));
    }
    lengths.sort_by(|one, two| two.cmp(one));
    print::data(&format!(
        "the {SHOWN} longest of {} Rust files:",
        lengths.len()
    ));
    for (lines, path) in lengths.iter().take(SHOWN) {
        let shown = path.strip_prefix(&root).unwrap_or(path);
        print::data(&format!("{lines:>6}  {}", shown.display()));
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if path != place::target() && name != "target" {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
