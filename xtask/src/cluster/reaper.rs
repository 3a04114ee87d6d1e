//! Ends a control plane together with the process that uses it, however that ends.
//!
//! A small shell process reads process groups from a pipe whose other end only the user holds.
//! When the user ends, by itself or killed, the pipe closes, and the shell kills the groups and
//! removes the folder.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

const SCRIPT: &str = r#"groups=
while read -r group; do groups="$groups -$group"; done
for group in $groups; do kill -KILL "$group" 2>/dev/null; done
rm -rf -- "$1""#;

/// Holds the pipe; dropping it ends the processes.
pub(super) struct Reaper {
    child: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Reaper {
    /// A reaper of the folder `dir` and of nothing else yet.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "reaper"])
            .arg(dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start sh")?;
        let pipe = Mutex::new(child.stdin.take());
        Ok(Self { child, pipe })
    }

    /// Adds a process group.
    pub(super) fn add(&self, group: i32) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = pipe.as_mut() {
            writeln!(pipe, "{group}").context("the reaper is gone")?;
        }
        Ok(())
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(
            self.pipe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        // Waits until the folder is gone; a failure leaves only that.
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::process::Identity;
    use super::*;

    #[test]
    fn what_was_added_ends_and_the_folder_goes() {
        let dir = tempfile::tempdir().unwrap().keep();
        let reaper = Reaper::start(&dir).unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = Identity::of(pid).unwrap();
        reaper.add(pid).unwrap();
        drop(reaper);
        identity.wait_gone(Duration::from_secs(5)).unwrap();
        assert!(!dir.exists());
        drop(child.wait());
    }
}
