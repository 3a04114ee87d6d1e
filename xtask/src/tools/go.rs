//! Go programs, built from source into the tool cache.
//!
//! Each is built into a folder with a temporary name that is renamed when it is complete. What an
//! interrupted build left is removed by the next one; Go's own build cache keeps its work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::versions::{KUBERNETES, Source, Tool};
use crate::print::Progress;
use crate::{exec, place};

const MODULE: &str = "k8s.io/kubernetes/cmd";

/// Builds the Go programs among `missing`. The caller holds the cache's lock.
pub(super) fn build(missing: &[Tool]) -> Result<()> {
    if missing
        .iter()
        .any(|tool| !matches!(tool.source(), Source::Debian { .. }))
    {
        require_go()?;
    }
    if missing
        .iter()
        .any(|tool| tool.source() == Source::Kubernetes)
    {
        build_kubernetes()?;
    }
    for &tool in missing {
        if let Source::Go {
            package,
            version,
            linker_flags,
        } = tool.source()
        {
            build_package(tool, package, version, linker_flags)?;
        }
    }
    Ok(())
}

fn require_go() -> Result<()> {
    match exec::output(Command::new("go").arg("version")) {
        Ok(_) => Ok(()),
        Err(_) => bail!(
            "Go is not on PATH: install Go 1.24 or newer from https://go.dev/dl and add its bin \
             folder to PATH"
        ),
    }
}

/// All commands in one build: they share most of their packages.
fn build_kubernetes() -> Result<()> {
    let [major, minor, _] = KUBERNETES.split('.').collect::<Vec<_>>()[..] else {
        bail!("{KUBERNETES} is no Kubernetes version");
    };
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} \
         -X {version}.gitMinor={minor}"
    );
    let module = place::workspace().join("xtask/go/kubernetes");
    into_cache(Tool::Kubelet, "building Kubernetes (minutes, once)", |to| {
        let mut command = go(&["build", "-mod=readonly"], &flags);
        // A trailing slash makes Go put every program into that folder under its own name.
        command.current_dir(&module).arg("-o").arg(to.join(""));
        let commands = Tool::ALL
            .iter()
            .filter(|tool| tool.source() == Source::Kubernetes);
        command.args(commands.map(|tool| format!("{MODULE}/{}", tool.name())));
        command
    })
}

fn build_package(tool: Tool, package: &str, version: &str, linker_flags: &str) -> Result<()> {
    let label = format!("building {} {version} (minutes, once)", tool.name());
    into_cache(tool, &label, |to| {
        let mut command = go(&["install"], &format!("-s -w {linker_flags}"));
        command.env("GOBIN", to).arg(format!("{package}@{version}"));
        command
    })
}

fn go(verb: &[&str], linker_flags: &str) -> Command {
    let mut command = Command::new("go");
    command
        // Static programs: they run in an empty image too.
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false")
        .args(verb)
        .args(["-trimpath", "-ldflags", linker_flags]);
    command
}

/// Runs a build that fills a folder, and puts the folder at its place in the cache.
fn into_cache(tool: Tool, label: &str, build: impl FnOnce(&Path) -> Command) -> Result<()> {
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
