//! Processes of a cluster, told from all others on the machine.
//!
//! A process is known by its id **and** its start time, because ids are reused. Every process the
//! harness starts carries a variable naming the cluster's folder in its environment, inherited by
//! what it starts itself, so that those of a crashed run are found even if their ids were never
//! written down.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde::{Deserialize, Serialize};

use crate::wait::{self, Look};

/// The variable that marks a process as a member of the cluster in the folder it names.
pub(super) const MARK: &str = "ARK_CLUSTER_MEMBER";

/// One process, for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its process id.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub started: u64,
}

impl Identity {
    /// The process that has this id now, unless it has ended already.
    pub fn of(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (state != b'Z' && state != b'X').then_some(Self { pid, started })
    }

    /// Whether this very process still runs.
    pub fn is_alive(self) -> bool {
        self.reap();
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, if the process still runs.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            // It ended in between.
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Kills the process and waits until it is gone.
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_gone(Duration::from_secs(20))
    }

    /// Waits until the process is gone.
    pub fn wait_gone(self, limit: Duration) -> Result<()> {
        wait::until(&format!("end of process {}", self.pid), limit, || {
            Ok(if self.is_alive() {
                Look::NotYet("still running".to_owned())
            } else {
                Look::Ready(())
            })
        })
    }

    /// Takes the exit status of the process if it is an ended child of ours; nobody else does.
    fn reap(self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // Not a child of ours, or not ended: nothing to take.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// State and start time of a process, fields 3 and 22 of its `stat`.
fn stat(pid: i32) -> Option<(u8, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let rest = text.get(text.rfind(')')? + 2..)?;
    let mut fields = rest.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// All processes that carry the mark of the cluster in `dir`.
pub(super) fn marked(dir: &Path) -> Vec<Identity> {
    let wanted = mark_of(dir.as_os_str());
    every()
        .filter(|identity| {
            std::fs::read(format!("/proc/{}/environ", identity.pid))
                .is_ok_and(|variables| variables.split(|&b| b == 0).any(|one| one == wanted))
        })
        .collect()
}

/// The folders of all clusters that have a process on this machine.
pub(super) fn marked_folders() -> BTreeSet<PathBuf> {
    let prefix = mark_of(OsStr::new(""));
    every()
        .filter_map(|identity| std::fs::read(format!("/proc/{}/environ", identity.pid)).ok())
        .filter_map(|variables| {
            let mut each = variables.split(|&b| b == 0);
            let folder = each.find_map(|one| one.strip_prefix(&prefix[..]))?;
            Some(PathBuf::from(OsStr::from_bytes(folder)))
        })
        .collect()
}

fn mark_of(dir: &OsStr) -> Vec<u8> {
    [MARK.as_bytes(), b"=", dir.as_bytes()].concat()
}

fn every() -> impl Iterator<Item = Identity> {
    let own = std::process::id();
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(move |&pid: &i32| u32::try_from(pid) != Ok(own))
        .filter_map(Identity::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_until_it_ends() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(identity.is_alive());
        let other = Identity {
            started: identity.started + 1,
            ..identity
        };
        assert!(
            !other.is_alive(),
            "the same id at another time is another process"
        );
        identity.kill().unwrap();
        assert!(!identity.is_alive());
        drop(child.wait());
    }

    #[test]
    fn members_are_found_by_their_mark_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(MARK, dir.path())
            .spawn()
            .unwrap();
        let found = wait::until(
            "the child's own environment",
            Duration::from_secs(5),
            || {
                let found = marked(dir.path());
                Ok(if found.is_empty() {
                    Look::NotYet("none".to_owned())
                } else {
                    Look::Ready(found)
                })
            },
        )
        .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(u32::try_from(found[0].pid), Ok(child.id()));
        found[0].kill().unwrap();
        drop(child.wait());
    }
}
