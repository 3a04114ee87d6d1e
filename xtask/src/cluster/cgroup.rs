//! The control group that all containers of the node live in.
//!
//! Its name is made from the cluster's folder, so that the containers of a crashed run are found
//! and ended without any record. Both control group versions are known.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::network::short_name;
use super::process::Identity;
use crate::wait::{self, Look};

const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb"];

/// The group's name, as the kubelet wants it.
pub(super) fn name(dir: &Path) -> String {
    format!("/ark-{}", short_name(dir))
}

/// Whether this machine has the unified hierarchy only.
pub(super) fn is_unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Makes the group in each hierarchy.
pub(super) fn ensure(dir: &Path) -> Result<()> {
    if is_unified() {
        delegate(Path::new(ROOT));
    }
    for folder in folders(dir)? {
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the control group {}", folder.display()))?;
        if is_unified() {
            delegate(&folder);
        } else {
            // A new cpuset is empty and takes no process until it is filled.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                copy_from_parent(&folder, file);
            }
        }
    }
    Ok(())
}

/// The processes in the group and below.
pub(super) fn members(dir: &Path) -> Result<Vec<Identity>> {
    let mut members = Vec::new();
    for folder in folders(dir)? {
        for group in below(&folder) {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            let pids = text.lines().filter_map(|line| line.parse().ok());
            members.extend(pids.filter_map(Identity::of));
        }
    }
    members.sort_by_key(|identity| identity.pid);
    members.dedup();
    Ok(members)
}

/// Removes the group, which must have no members any more.
pub(super) fn remove(dir: &Path) -> Result<()> {
    let folders = folders(dir)?;
    wait::until(
        "removal of the control group",
        Duration::from_secs(20),
        || {
            for folder in &folders {
                for group in below(folder).iter().rev() {
                    // Busy while the kernel is still taking down its last process.
                    drop(fs::remove_dir(group));
                }
            }
            Ok(match folders.iter().find(|folder| folder.exists()) {
                Some(left) => Look::NotYet(format!("{} is busy", left.display())),
                None => Look::Ready(()),
            })
        },
    )
}

/// The group's folder in each hierarchy, whether it exists or not.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let name = name(dir);
    let name = name.trim_start_matches('/');
    if is_unified() {
        return Ok(vec![Path::new(ROOT).join(name)]);
    }
    let mut folders = Vec::new();
    if !Path::new(ROOT).exists() {
        return Ok(folders);
    }
    for entry in fs::read_dir(ROOT).with_context(|| format!("cannot read {ROOT}"))? {
        let hierarchy = entry.with_context(|| format!("cannot read {ROOT}"))?.path();
        // `cpu` and `cpuacct` may be links to one folder.
        if hierarchy.is_symlink() || !hierarchy.join("cgroup.procs").exists() {
            continue;
        }
        folders.push(hierarchy.join(name));
    }
    Ok(folders)
}

/// A group and all groups below it, parents first.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut groups = Vec::new();
    let mut next = vec![folder.to_path_buf()];
    while let Some(group) = next.pop() {
        let Ok(entries) = fs::read_dir(&group) else {
            continue;
        };
        let folders = entries.filter_map(Result::ok).map(|entry| entry.path());
        next.extend(folders.filter(|path| path.is_dir()));
        groups.push(group);
    }
    groups
}

fn delegate(folder: &Path) {
    for controller in CONTROLLERS {
        // Not every kernel has each; the kubelet says which it misses.
        drop(fs::write(
            folder.join("cgroup.subtree_control"),
            format!("+{controller}"),
        ));
    }
}

fn copy_from_parent(folder: &Path, file: &str) {
    let Some(parent) = folder.parent() else {
        return;
    };
    if let Ok(value) = fs::read(parent.join(file)) {
        // Only the cpuset hierarchy has these files, and the kubelet checks that it is usable.
        drop(fs::write(folder.join(file), value));
    }
}
