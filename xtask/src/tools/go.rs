//! Go programs, built from source into the tool cache.
//!
//! What an interrupted build did is not lost: Go's own build cache keeps its work.

use std::process::Command;

use anyhow::{Result, bail};

use super::cached::into_cache;
use super::versions::{KUBERNETES, Source, Tool};
use crate::{exec, place};

const MODULE: &str = "k8s.io/kubernetes/cmd";

/// Builds the Go programs among `missing`. The caller holds the cache's lock.
pub(super) fn build(missing: &[Tool]) -> Result<()> {
    if missing
        .iter()
        .any(|tool| !matches!(tool.source(), Source::Debian { .. } | Source::Crate { .. }))
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
        match tool.source() {
            Source::Go {
                package,
                version,
                linker_flags,
            } => build_package(tool, package, version, linker_flags)?,
            Source::Wrapped {
                module,
                package,
                version,
            } => build_wrapped(tool, module, package, version)?,
            Source::Kubernetes | Source::Debian { .. } | Source::Crate { .. } => {}
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

/// For modules whose list of versions cannot be asked for, and to pin what they are made of.
fn build_wrapped(tool: Tool, module: &str, package: &str, version: &str) -> Result<()> {
    let label = format!("building {} {version} (minutes, once)", tool.name());
    let module = place::workspace().join("xtask/go").join(module);
    into_cache(tool, &label, |to| {
        let mut command = go(&["build", "-mod=readonly"], "-s -w");
        command.current_dir(&module).arg("-o").arg(to.join(""));
        command.arg(package);
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
