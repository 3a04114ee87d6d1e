//! What all clusters of one machine share: mount points outside their folders, and the kernel's
//! packet forwarding.
//!
//! The first cluster that needs them makes them and remembers how it was before; the last one to go
//! puts it back. One that goes before others hands what it remembers over to them. It must:
//! removing a folder detaches what other clusters have mounted on it, although only they see that.
//! Everything here happens under a lock on the machine, which is a lock on a folder that every
//! machine has, so that it leaves nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::process;
use super::state::{Component, State, StateFile};
use super::supervisor::Supervisor;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// The right to change what all clusters share, for as long as this value lives.
pub(super) struct MachineLock {
    _folder: File,
}

impl MachineLock {
    /// Waits for the lock.
    pub(super) fn take() -> Result<Self> {
        let folder = File::open("/run").and_then(|folder| folder.lock().map(|()| folder));
        Ok(Self {
            _folder: folder.context("cannot lock this machine against other clusters")?,
        })
    }
}

/// Makes folders that something will be mounted on, and remembers those that were missing.
pub(super) fn make_mount_points(supervisor: &Supervisor, folders: &[&str]) -> Result<()> {
    for folder in folders.iter().map(Path::new) {
        let missing = folder.ancestors().take_while(|path| !path.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        if missing.is_empty() {
            continue;
        }
        supervisor.update(|state| add_missing(&mut state.mount_points, missing))?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(())
}

/// Remembers how packet forwarding is set, before the pod network switches it on.
pub(super) fn remember_forwarding(supervisor: &Supervisor) -> Result<()> {
    let now = fs::read_to_string(FORWARD).with_context(|| format!("cannot read {FORWARD}"))?;
    supervisor.update(|state| {
        state.ip_forward.get_or_insert(now.trim().to_owned());
    })
}

/// Puts back what the cluster in `dir` remembers, or hands it over to a cluster that still runs.
/// Its own processes must have ended.
pub(super) fn leave(dir: &Path, state: &State) -> Result<()> {
    if let Some(heir) = others(dir).into_iter().next() {
        return heir.update(|other| {
            add_missing(&mut other.mount_points, state.mount_points.clone());
            // What was before us was before them.
            other.ip_forward = state.ip_forward.clone().or(other.ip_forward.take());
        });
    }
    for folder in &state.mount_points {
        // Somebody else may use it by now.
        drop(fs::remove_dir(folder));
    }
    if let Some(before) = &state.ip_forward {
        let now = fs::read_to_string(FORWARD).unwrap_or_default();
        if now.trim() != before {
            fs::write(FORWARD, before).with_context(|| format!("cannot write {FORWARD}"))?;
        }
    }
    Ok(())
}

/// The states of other clusters whose node runs.
fn others(dir: &Path) -> Vec<StateFile> {
    let mut others = Vec::new();
    for other in process::marked_folders() {
        let file = StateFile::new(&other);
        let state = file.read().ok().flatten().unwrap_or_default();
        let node = state.members.get(&Component::Node);
        if other != dir && node.is_some_and(|node| node.identity.is_alive()) {
            others.push(file);
        }
    }
    others
}

fn add_missing(to: &mut Vec<PathBuf>, paths: Vec<PathBuf>) {
    for path in paths {
        if !to.contains(&path) {
            to.push(path);
        }
    }
    // What lies deeper is removed first.
    to.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeper_folders_come_first_and_none_twice() {
        let mut points = vec![PathBuf::from("/var/lib/cni")];
        let more = ["/var", "/var/lib/cni", "/var/lib"].map(PathBuf::from);
        add_missing(&mut points, more.into());
        assert_eq!(
            points,
            ["/var/lib/cni", "/var/lib", "/var"].map(PathBuf::from)
        );
    }

    #[test]
    fn the_lock_is_there_for_the_next_one() {
        drop(MachineLock::take().unwrap());
        drop(MachineLock::take().unwrap());
    }
}
