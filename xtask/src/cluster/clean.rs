//! Removing every trace of a cluster, whether it ended well or was killed half way up.
//!
//! Nothing is taken from memory or from the state file alone: member processes carry the cluster's
//! mark, containers are in its control group, bridge and group are named after its folder. Order:
//! processes, control group, mounts, network, what clusters share, folder. A step that fails stops
//! the rest, so that a folder is never removed with something still mounted below it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::machine::{self, MachineLock};
use super::state::StateFile;
use super::{cgroup, network, process};
use crate::exec;
use crate::print;
use crate::wait::{self, Look};

const PATIENCE: Duration = Duration::from_mins(1);

/// Removes whatever is left of the cluster in `dir`.
pub(super) fn clean(dir: &Path) -> Result<()> {
    // An unreadable state must not stop a clean-up, which hardly needs it.
    let state = StateFile::new(dir).read().unwrap_or_else(|error| {
        print::warning(&format!("{error:#}"));
        None
    });
    let state = state.unwrap_or_default();
    end_processes(dir)?;
    cgroup::remove(dir)?;
    unmount(dir)?;
    network::remove(dir)?;
    // Until the folder is gone: nobody may hand anything over to this cluster any more.
    let _lock = MachineLock::take()?;
    machine::leave(dir, &state)?;
    remove_folder(dir)
}

/// Kills until none is left: a dying supervisor may still start something.
fn end_processes(dir: &Path) -> Result<()> {
    wait::until("end of the cluster's processes", PATIENCE, || {
        let mut all = process::marked(dir);
        all.extend(cgroup::members(dir)?);
        for identity in &all {
            identity.signal(Signal::KILL)?;
        }
        Ok(if all.is_empty() {
            Look::Ready(())
        } else {
            let pids: Vec<String> = all.iter().map(|one| one.pid.to_string()).collect();
            Look::NotYet(format!("processes {}", pids.join(", ")))
        })
    })
}

/// Unmounts what is mounted below the folder as this process sees it. The node's own mounts went
/// with its mount namespace; these are what a run by other means may have left.
fn unmount(dir: &Path) -> Result<()> {
    for mount in mounts_below(dir)?.iter().rev() {
        exec::output(Command::new("umount").arg("--lazy").arg(mount))?;
    }
    match mounts_below(dir)?.first() {
        Some(left) => bail!("{} is still mounted", left.display()),
        None => Ok(()),
    }
}

fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = "/proc/self/mountinfo";
    let text = fs::read_to_string(table).with_context(|| format!("cannot read {table}"))?;
    Ok(parse_mounts(&text)
        .into_iter()
        .filter(|path| path.starts_with(dir))
        .collect())
}

fn parse_mounts(table: &str) -> Vec<PathBuf> {
    let field = |line: &str| line.split(' ').nth(4).map(unescape);
    table.lines().filter_map(field).map(PathBuf::from).collect()
}

/// The kernel writes the characters that would break its table as octal numbers.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

fn remove_folder(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_odd_names_are_read() {
        let table = "22 27 0:21 / /proc rw - proc proc rw\n\
                     23 27 0:22 / /a\\040b\\134c rw - tmpfs x rw\n";
        assert_eq!(
            parse_mounts(table),
            [PathBuf::from("/proc"), PathBuf::from("/a b\\c")]
        );
    }

    #[test]
    fn cleaning_where_nothing_ever_was_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        clean(&dir.path().join("never")).unwrap();
    }
}
