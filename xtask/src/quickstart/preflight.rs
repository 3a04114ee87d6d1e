//! What the machine must have, all looked at before anything is done.
//!
//! Everything that is missing is reported at once, each with what to do about it. Ports are not
//! looked at: the cluster takes free ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::install::Storage;
use crate::print::{self, Progress};
use crate::tools::{self, Source, Tool};
use crate::{exec, place};

const GIB: u64 = 1 << 30;
/// Go's caches while Kubernetes is built, measured: 8 GiB.
const DISK_FOR_TOOLS: u64 = 10 * GIB;
/// Ark's programs, images and the cluster's own files.
const DISK_FOR_BUILD: u64 = 6 * GIB;
const MEMORY: u64 = 2 * GIB;
/// Oldest Go that builds the pinned Kubernetes.
const GO: (u32, u32) = (1, 24);

/// Checks the machine.
pub(super) fn check(storage: Storage) -> Result<()> {
    let progress = Progress::start("checking the machine");
    let mut wanted = Tool::CLUSTER.to_vec();
    if storage == Storage::Minio {
        wanted.push(Tool::Minio);
    }
    let missing = tools::missing(&wanted)?;
    let go_needed = missing
        .iter()
        .any(|tool| !matches!(tool.source(), Source::Debian { .. }));
    let packages = tools::missing_packages(&missing);

    let mut problems = Vec::new();
    let mut look = |problem: Option<String>| problems.extend(problem);
    look(platform());
    look(root());
    look(capabilities(&read("/proc/self/status")));
    look(if go_needed { go() } else { None });
    look(compiler());
    if !packages.is_empty() && !on_path("apt-get") {
        let names: Vec<&str> = packages.into_iter().collect();
        look(Some(format!(
            "no apt-get to install {}: use a Debian-like system, or install these programs yourself",
            names.join(", ")
        )));
    }
    let cache = if go_needed { DISK_FOR_TOOLS } else { 0 };
    look(disk(&place::cache()?, cache));
    look(disk(&place::target(), DISK_FOR_BUILD));
    look(memory(&read("/proc/meminfo")));
    look(overlay(&read("/proc/filesystems")));
    look(control_groups());
    progress.done();
    if problems.is_empty() {
        return Ok(());
    }
    for problem in &problems {
        print::note(&format!("- {problem}"));
    }
    bail!(
        "this machine is not ready: {} things to do, listed above",
        problems.len()
    );
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn platform() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("a node needs Linux: use a Linux machine or a virtual one".to_owned());
    }
    place::rust_target().err().map(|error| error.to_string())
}

fn root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| {
        "not root: a node needs mounts, containers and a bridge; run `sudo -E env \"PATH=$PATH\" \
         cargo xtask quickstart`, or as root"
            .to_owned()
    })
}

/// Root in a container may still lack what a node needs.
fn capabilities(status: &str) -> Option<String> {
    const NEEDED: [(u32, &str); 3] = [(12, "NET_ADMIN"), (21, "SYS_ADMIN"), (27, "MKNOD")];
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let granted = u64::from_str_radix(line.trim(), 16).ok()?;
    let lacking: Vec<&str> = NEEDED
        .iter()
        .filter(|(bit, _)| granted & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    (!lacking.is_empty()).then(|| {
        format!(
            "this process lacks the capabilities {}: run it as root on a machine, or in a \
             privileged container",
            lacking.join(", ")
        )
    })
}

fn go() -> Option<String> {
    let hint = "install Go from https://go.dev/dl and put its bin folder on PATH";
    let Ok(text) = exec::output(Command::new("go").args(["env", "GOVERSION"])) else {
        return Some(format!("no Go on PATH: {hint}"));
    };
    match go_version(&text) {
        Some(version) if version < GO => Some(format!(
            "Go {}.{} is too old, {}.{} is needed: {hint}",
            version.0, version.1, GO.0, GO.1
        )),
        _ => None,
    }
}

fn go_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix("go")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn compiler() -> Option<String> {
    (!on_path("cc")).then(|| {
        "no C compiler, which Rust links with: apt-get install -y gcc libc6-dev".to_owned()
    })
}

fn disk(path: &Path, needed: u64) -> Option<String> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let info = rustix::fs::statvfs(existing).ok()?;
    let free = info.f_bavail.saturating_mul(info.f_frsize);
    (free < needed).then(|| {
        format!(
            "{} has {} free and needs {}: free some, or move it (ARK_CACHE, CARGO_TARGET_DIR)",
            existing.display(),
            print::size(free),
            print::size(needed)
        )
    })
}

fn memory(meminfo: &str) -> Option<String> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    (available < MEMORY).then(|| {
        format!(
            "{} of memory are available and {} are needed: stop something",
            print::size(available),
            print::size(MEMORY)
        )
    })
}

fn overlay(filesystems: &str) -> Option<String> {
    let known = filesystems
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    if known || exec::output(Command::new("modprobe").arg("overlay")).is_ok() {
        return None;
    }
    Some(
        "the kernel has no overlay file system, which containers are made of: modprobe overlay"
            .to_owned(),
    )
}

fn control_groups() -> Option<String> {
    let mounted = fs::read_dir("/sys/fs/cgroup").is_ok_and(|mut entries| entries.next().is_some());
    (!mounted).then(|| {
        "no control groups at /sys/fs/cgroup: mount -t cgroup2 none /sys/fs/cgroup".to_owned()
    })
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_compared_as_numbers() {
        assert_eq!(go_version("go1.26.8\n"), Some((1, 26)));
        assert!(go_version("go1.9").unwrap() < GO);
        assert_eq!(go_version("devel"), None);
    }

    #[test]
    fn root_without_rights_is_told_which_it_lacks() {
        assert_eq!(capabilities("CapEff:\t000001fffeffffff\n"), None);
        let problem = capabilities("CapEff:\t00000000a80425fb\n").unwrap();
        assert!(problem.contains("NET_ADMIN, SYS_ADMIN:"), "{problem}");
    }

    #[test]
    fn little_memory_is_a_problem() {
        assert!(memory("MemTotal: 9 kB\nMemAvailable:     500000 kB\n").is_some());
        assert!(memory("MemAvailable:  8000000 kB\n").is_none());
    }

    #[test]
    fn a_full_disk_names_the_folder_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(disk(&dir.path().join("not/yet"), 1), None);
        let problem = disk(&dir.path().join("not/yet"), u64::MAX).unwrap();
        assert!(
            problem.starts_with(&dir.path().display().to_string()),
            "{problem}"
        );
    }
}
