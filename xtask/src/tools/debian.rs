//! Programs from Debian packages.
//!
//! Only what is missing is installed. etcd and containerd bring services that start by themselves
//! on a machine with systemd; if it was this that installed them, they are switched off again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::versions::{Source, Tool};
use crate::exec;
use crate::print::{self, Progress};

/// A program of a package, at the first of its places that holds it, else anywhere on PATH.
pub(super) fn find(tool: Tool, paths: &[&str]) -> Option<PathBuf> {
    let fits = |path: &Path| path.is_file() && (tool != Tool::Busybox || is_static(path));
    let fixed = paths.iter().map(PathBuf::from);
    let cni = match tool {
        Tool::CniBridge => Some(PathBuf::from("/opt/cni/bin/bridge")),
        _ => None,
    };
    let on_path: Vec<PathBuf> = match tool {
        // `bridge` is also the name of a program of iproute2.
        Tool::CniBridge => Vec::new(),
        _ => std::env::var_os("PATH")
            .map(|path| {
                std::env::split_paths(&path)
                    .map(|dir| dir.join(tool.name()))
                    .collect()
            })
            .unwrap_or_default(),
    };
    fixed
        .chain(cni)
        .chain(on_path)
        .find(|path| fits(path.as_path()))
}

/// The packages that hold the missing tools.
pub fn missing_packages(missing: &[Tool]) -> BTreeSet<&'static str> {
    missing
        .iter()
        .filter_map(|tool| match tool.source() {
            Source::Debian { package, .. } => Some(package),
            _ => None,
        })
        .collect()
}

/// The static busybox that test images are made of.
pub fn static_busybox() -> Result<PathBuf> {
    super::path(Tool::Busybox)
}

/// Installs the packages that hold the missing tools.
pub(super) fn install(missing: &[Tool]) -> Result<()> {
    let packages = missing_packages(missing);
    if packages.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = packages.iter().copied().collect();
    if !rustix::process::geteuid().is_root() {
        bail!(
            "these Debian packages are missing and installing them takes root: {}; run as root: \
             apt-get install -y {}",
            names.join(", "),
            names.join(" ")
        );
    }
    let progress = Progress::start(&format!("installing Debian packages: {}", names.join(", ")));
    exec::run(apt().args(["update", "-qq"]))
        .context("the package lists cannot be read; is this a Debian-like machine?")?;
    exec::run(
        apt()
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&names),
    )?;
    progress.done();
    stop_services(missing)?;
    for &tool in missing {
        if let Source::Debian { package, paths, .. } = tool.source()
            && find(tool, paths).is_none()
        {
            bail!(
                "{package} is installed, but {} is not where it should be",
                paths.join(" or ")
            );
        }
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Switches off the services that came with the packages just installed.
fn stop_services(installed: &[Tool]) -> Result<()> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    for &tool in installed {
        if let Source::Debian {
            service: Some(service),
            ..
        } = tool.source()
        {
            print::note(&format!(
                "the package of {} started a service; nothing here uses it",
                tool.name()
            ));
            exec::run(Command::new("systemctl").args(["disable", "--now", service]))?;
        }
    }
    Ok(())
}

/// Whether a 64-bit ELF program needs no loader, that is, runs in an empty image.
fn is_static(path: &Path) -> bool {
    const INTERPRETER: u32 = 3;
    let Ok(bytes) = std::fs::read(path) else {
        return false;
    };
    let u16_at = |at: usize| {
        let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(u16::from_le_bytes(bytes)))
    };
    let headers = || {
        let start: [u8; 8] = bytes.get(32..40)?.try_into().ok()?;
        let start = usize::try_from(u64::from_le_bytes(start)).ok()?;
        Some((start, u16_at(54)?, u16_at(56)?))
    };
    if bytes.get(..5) != Some(b"\x7fELF\x02") {
        return false;
    }
    let Some((start, size, count)) = headers() else {
        return false;
    };
    (0..count).all(|index| {
        let at = start + index * size;
        bytes
            .get(at..at + 4)
            .and_then(|kind| kind.try_into().ok())
            .is_some_and(|kind| u32::from_le_bytes(kind) != INTERPRETER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        assert!(!is_static(&std::env::current_exe().unwrap()));
        assert!(!is_static(Path::new("/etc/passwd")));
    }

    #[test]
    fn a_package_is_named_once() {
        let packages = missing_packages(&[Tool::Ctr, Tool::Containerd, Tool::Kubelet]);
        assert_eq!(packages.into_iter().collect::<Vec<_>>(), ["containerd"]);
    }
}
