//! The folder of one run, and its end: whatever ends this program, nothing stays behind.
//!
//! A small shell process reads from a pipe whose other end only this program holds which process
//! groups live. When the pipe closes, because this program ended or was killed, the shell kills
//! those groups and removes the folder. It is in a group of its own, so that an interrupt from the
//! terminal does not reach it.
//!
//! The test cluster of `xtask` ends in a similar way (`cluster/reaper.rs` there). This is a copy on
//! purpose: measuring needs none of what a cluster needs, and is not to be built with it.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use crate::{measure::own_group, room};

const SCRIPT: &str = r#"groups=' '
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) kept=' '
       for one in $groups; do [ "$one" = "$group" ] || kept="$kept$one "; done
       groups=$kept ;;
  esac
done
for one in $groups; do kill -KILL "-$one"; done 2>/dev/null
tries=0
while [ -e "$1" ] && [ $tries -lt 100 ]; do rm -rf -- "$1"; tries=$((tries + 1)); done 2>/dev/null"#;

/// The folder, and the shell that removes it.
pub(crate) struct Work {
    dir: PathBuf,
    shell: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Work {
    /// A new folder below `parent`.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("ark-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))?
            .keep();
        // A database runs as another user.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot open {} up", dir.display()))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "sweeper"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut shell = own_group(&mut command).spawn().context("cannot start sh")?;
        let pipe = Mutex::new(shell.stdin.take());
        let work = Self { dir, shell, pipe };
        work.folder("home")?;
        Ok(work)
    }

    /// A place in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A new, empty folder in it; what was there is removed.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        self.remove(name)?;
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Removes a folder in it, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Uses memory for so many bytes of files and gives it back. A virtual machine's host takes
    /// memory away that nobody has used for a while; who touches it next waits for it, up to a
    /// second for each GiB. That is to be nobody who is measured.
    pub(crate) fn warm(&self, bytes: u64) -> Result<()> {
        let path = self.path("warm");
        let bytes = bytes.min(room::left(&self.dir)? / 2);
        let filled = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&path)?;
            let zeros = vec![0; 1 << 16];
            for _ in 0..bytes.div_ceil(zeros.len() as u64) {
                file.write_all(&zeros)?;
            }
            drop(file);
            std::fs::remove_file(&path)
        };
        filled().with_context(|| format!("cannot use memory by way of {}", path.display()))
    }

    /// Starts a process in a group of its own, which ends with this program at the latest.
    pub(crate) fn start(&self, command: &mut Command) -> Result<Child> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = own_group(command)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.tell('+', child.id())?;
        Ok(child)
    }

    /// Waits for a process that was started here.
    pub(crate) fn ended(&self, child: &mut Child) -> Result<ExitStatus> {
        let status = child.wait().context("cannot wait for a process")?;
        self.tell('-', child.id())?;
        Ok(status)
    }

    /// Both.
    pub(crate) fn wait(&self, command: &mut Command) -> Result<ExitStatus> {
        let mut child = self.start(command)?;
        self.ended(&mut child)
    }

    fn tell(&self, sign: char, group: u32) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        match pipe.as_mut() {
            Some(pipe) => writeln!(pipe, "{sign} {group}").context("the sweeper is gone"),
            None => Ok(()),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        drop(
            self.pipe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        // Waits until the folder is gone; if that fails, nothing here could do better.
        drop(self.shell.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_and_what_still_runs_go_with_it() {
        let parent = tempfile::tempdir().unwrap();
        let work = Work::new(parent.path()).unwrap();
        let dir = work.path("");
        std::fs::write(work.path("home/file"), "x").unwrap();
        let mut sleeper = work.start(Command::new("sleep").arg("600")).unwrap();
        assert!(work.wait(&mut Command::new("true")).unwrap().success());
        drop(work);
        assert!(!dir.exists());
        // Killed, not slept to the end.
        assert!(!sleeper.wait().unwrap().success());
    }
}
