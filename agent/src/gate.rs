//! The gate's files: how a restored pod learns what became of its volumes.
//!
//! Does: write `<volume>.done` or `<volume>.failed` (holding the reason) into the pod's emptyDir
//! `ark-restore-gate` through the kubelet's directory. Does not: remove a file, ever.
//!
//! Order: the gate's directory is opened without following links; a temporary file that must not
//! exist yet is written and made durable; it is renamed into place, which replaces a link instead
//! of following it. A crash leaves at most a temporary file. Fails if the pod has no such
//! directory.

use std::io::Write as _;
use std::path::Path;

use ark_api::naming;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::volume;

/// Longest reason written: what the gate passes on.
const MAX_REASON: usize = 3 * 1024;

/// What became of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Failed(String),
}

/// Writes the answer for `volume` into the gate of the pod with `uid`; `pod` is its name for
/// messages. Blocks.
pub(crate) fn write(
    pods_dir: &Path,
    pod: &str,
    uid: &str,
    volume: &str,
    answer: &Answer,
) -> Result<()> {
    volume::check_name("volume", volume)?;
    let found = volume::gate_dir(pods_dir, uid)?;
    let (name, text) = match answer {
        Answer::Done => (naming::gate_done(volume), ""),
        Answer::Failed(reason) => (naming::gate_failed(volume), cut(reason)),
    };
    let temporary = format!(".{name}.{}", std::process::id());
    put(&found.dir, &temporary, &name, text).map_err(|error| Error::Gate {
        pod: pod.to_owned(),
        message: format!("{}: {error}", found.path.join(&name).display()),
    })
}

/// Whether `volume` was restored into the pod with `uid` before. Blocks.
pub(crate) fn is_done(pods_dir: &Path, uid: &str, volume: &str) -> Result<bool> {
    volume::check_name("volume", volume)?;
    let found = match volume::gate_dir(pods_dir, uid) {
        Ok(found) => found,
        Err(Error::VolumeNotFound { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let name = naming::gate_done(volume);
    match rustix::fs::statat(&found.dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::UnsafePath {
            path: found.path.join(name).display().to_string(),
            message: std::io::Error::from(error).to_string(),
        }),
    }
}

fn put(dir: &std::os::fd::OwnedFd, temporary: &str, name: &str, text: &str) -> std::io::Result<()> {
    match rustix::fs::unlinkat(dir, temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let file = rustix::fs::openat(
        dir,
        temporary,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o644),
    )?;
    let mut file = std::fs::File::from(file);
    // The process's umask must not keep the gate from reading it.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    rustix::fs::renameat(dir, temporary, dir, name)?;
    let directory = rustix::fs::openat(
        dir,
        ".",
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::fs::fsync(directory)?;
    Ok(())
}

fn cut(reason: &str) -> &str {
    reason
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= MAX_REASON)
        .last()
        .map_or("", |end| &reason[..end])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    fn pods() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let gate = root
            .path()
            .join("uid/volumes/kubernetes.io~empty-dir/ark-restore-gate");
        fs::create_dir_all(&gate).unwrap();
        (root, gate)
    }

    #[test]
    fn answers_are_files_anybody_can_read() {
        let (root, gate) = pods();
        assert!(!is_done(root.path(), "uid", "data").unwrap());
        write(root.path(), "n/p", "uid", "data", &Answer::Done).unwrap();
        assert!(is_done(root.path(), "uid", "data").unwrap());
        let failed = Answer::Failed("no snapshot".to_owned());
        write(root.path(), "n/p", "uid", "logs", &failed).unwrap();
        let file = gate.join("logs.failed");
        assert_eq!(fs::read_to_string(&file).unwrap(), "no snapshot");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o644
        );
        let mut left: Vec<_> = fs::read_dir(&gate)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["data.done", "logs.failed"]);
    }

    #[test]
    fn writing_again_changes_nothing() {
        let (root, _gate) = pods();
        for _ in 0..2 {
            write(root.path(), "n/p", "uid", "data", &Answer::Done).unwrap();
        }
        assert!(is_done(root.path(), "uid", "data").unwrap());
    }

    #[test]
    fn planted_links_are_replaced_not_followed() {
        let (root, gate) = pods();
        let victim = root.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, gate.join("data.done")).unwrap();
        symlink(
            &victim,
            gate.join(format!(".data.done.{}", std::process::id())),
        )
        .unwrap();
        assert!(
            !is_done(root.path(), "uid", "data").unwrap(),
            "a link is no answer"
        );
        write(root.path(), "n/p", "uid", "data", &Answer::Done).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(is_done(root.path(), "uid", "data").unwrap());
    }

    #[test]
    fn a_volume_name_cannot_lead_out_of_the_gate() {
        let (root, gate) = pods();
        assert!(write(root.path(), "n/p", "uid", "../data", &Answer::Done).is_err());
        assert!(write(root.path(), "n/p", "..", "data", &Answer::Done).is_err());
        assert_eq!(fs::read_dir(gate.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_gate_that_is_a_link_is_refused() {
        let (root, gate) = pods();
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::remove_dir(&gate).unwrap();
        symlink(&elsewhere, &gate).unwrap();
        assert!(write(root.path(), "n/p", "uid", "data", &Answer::Done).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn reasons_are_cut_at_a_character() {
        let long = "é".repeat(4000);
        assert!(cut(&long).len() <= MAX_REASON);
        assert!(cut(&long).chars().all(|c| c == 'é'));
        assert_eq!(cut("short"), "short");
    }
}
