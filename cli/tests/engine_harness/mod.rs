//! A repository in a temporary directory, the real command and the real restic on it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

#[path = "../../../engine/tests/common/newest_restic.rs"]
mod newest_restic;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub const PASSWORD: &str = "a password for tests";

/// What a program did.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub raw: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            raw: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "out: {}\nerr: {}",
            self.out,
            self.err
        );
        self
    }

    /// The output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// The output as lines of JSON.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(line).collect()
    }
}

pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    /// Directories for a repository, a source and a target; no repository yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["source", "target"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    /// With a repository made by `ark engine init`.
    pub fn with_repository() -> Self {
        let place = Self::new();
        place.ark(&["init"]).ends(0);
        place
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// `ark engine` on this repository.
    pub fn ark_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ark"));
        command.arg("engine").args(args);
        self.environment(&mut command);
        command
    }

    pub fn restic_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command.arg("--no-cache").args(args);
        self.environment(&mut command);
        command
    }

    /// The newest restic, which tells more than the installed one, and has exit codes for locks.
    pub fn newest_restic_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(newest_restic::newest());
        command.arg("--no-cache").args(args);
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars() {
            if name.starts_with("RESTIC_") || name.starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .env("RESTIC_REPOSITORY", self.at("repo"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
    }

    pub fn ark(&self, args: &[&str]) -> Ran {
        Ran::of(self.ark_command(args).output().unwrap())
    }

    /// Stock restic, which must succeed.
    #[track_caller]
    pub fn restic(&self, args: &[&str]) -> Ran {
        Ran::of(self.restic_command(args).output().unwrap()).ends(0)
    }

    /// The newest restic, which must succeed.
    #[track_caller]
    pub fn newest_restic(&self, args: &[&str]) -> Ran {
        Ran::of(self.newest_restic_command(args).output().unwrap()).ends(0)
    }

    /// `backup --stdin` of a program that does not come to its end, once it holds its lock.
    pub fn hanging(&self, mut command: Command) -> Child {
        let child = command
            .args(["backup", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Both look for rivals once more 200 ms after they wrote a lock, and give way to one that came
        // in between: only a lock that is older than that is held.
        wait_until("a lock is held", || {
            let locks = self.locks();
            let old = |lock: &PathBuf| {
                let written = fs::metadata(lock).and_then(|meta| meta.modified());
                written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_secs(2)))
            };
            !locks.is_empty() && locks.iter().all(old)
        });
        child
    }

    /// Complete lock files.
    pub fn locks(&self) -> Vec<PathBuf> {
        let mut found = files(&self.at("repo/locks"));
        found.retain(|file| {
            file.file_name().unwrap().len() == 64
                && fs::metadata(file).is_ok_and(|meta| meta.len() > 0)
        });
        found
    }

    /// A few files, different for each seed.
    pub fn fill(&self, seed: u8) {
        let source = self.at("source");
        fs::create_dir_all(source.join("sub/deeper")).unwrap();
        for (n, size) in (0..).zip([0, 1, 5000, 3 << 20]) {
            let content = noise(seed, n, size);
            fs::write(source.join(format!("f{n}")), content).unwrap();
        }
        fs::write(source.join("sub/deeper/ü \n x"), [seed]).unwrap();
        let link = source.join("link");
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink("f1", link).unwrap();
        }
    }

    pub fn backup(&self) -> String {
        let ran = self
            .ark(&["backup", "--json", &self.text("source")])
            .ends(0);
        let summary = ran.lines().pop().unwrap();
        summary["snapshot_id"].as_str().unwrap().to_owned()
    }

    /// Compares the source with what was restored into a new directory of this name.
    pub fn assert_restored(&self, name: &str) {
        let source = self.at("source");
        let restored = self.at(name).join(source.strip_prefix("/").unwrap());
        assert_same(&source, &restored);
    }
}

/// Bytes that do not compress.
pub fn noise(seed: u8, n: u8, size: usize) -> Vec<u8> {
    let mut state = (u64::from(seed) << 8) | u64::from(n) | (1 << 40);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33).to_le_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !so() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// All entries below a directory that are no directories.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let Ok(entries) = fs::read_dir(dir) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    let names = |root: &Path| -> Vec<PathBuf> {
        let strip = |path: PathBuf| path.strip_prefix(root).unwrap().to_owned();
        files(root).into_iter().map(strip).collect()
    };
    assert_eq!(names(a), names(b));
    assert!(!names(a).is_empty());
    for name in names(a) {
        let (a, b) = (a.join(&name), b.join(&name));
        let (meta, other) = (
            fs::symlink_metadata(&a).unwrap(),
            fs::symlink_metadata(&b).unwrap(),
        );
        assert_eq!(
            meta.permissions(),
            other.permissions(),
            "{}",
            name.display()
        );
        assert_eq!(
            meta.modified().unwrap(),
            other.modified().unwrap(),
            "{}",
            name.display()
        );
        if meta.is_symlink() {
            assert_eq!(fs::read_link(&a).unwrap(), fs::read_link(&b).unwrap());
        } else {
            assert!(
                fs::read(&a).unwrap() == fs::read(&b).unwrap(),
                "{}",
                name.display()
            );
        }
    }
}

/// The ids of snapshots in a JSON list, sorted.
pub fn ids(list: &Value) -> Vec<String> {
    let id = |snapshot: &Value| snapshot["id"].as_str().unwrap().to_owned();
    let mut ids: Vec<_> = list
        .as_array()
        .map(|list| list.iter().map(id).collect())
        .unwrap_or_default();
    ids.sort();
    ids
}
