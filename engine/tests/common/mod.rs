//! What the engine's tests share: a repository in a temporary directory, a source tree with
//! everything a file system has, and a comparison of two trees down to the nanosecond.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

pub mod compare;
pub mod faults;
pub mod killed;
pub mod limits;
pub mod minio;
pub mod newest_restic;
pub mod points;
pub mod proxy;
pub mod restic;
pub mod trees;
pub mod written;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ark_engine::{
    ArchiveReport, ArchiveRequest, Cancel, FormatVersion, InitOptions, OpenOptions, Progress,
    Repository, RestoreReport, RestoreRequest, Result, Secret, Source, Store, StoreConfig,
};
use tokio::runtime::Runtime;

pub const PASSWORD: &str = "a password for tests";

/// A directory for a repository, one for a source, one for a target, and a runtime.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
}

impl Bench {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// In memory, if the machine offers that: where a process is killed hundreds of times, a disk
    /// that syncs each time would only make it slow.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        Self::at(if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        })
    }

    fn at(dir: tempfile::TempDir) -> Self {
        for name in ["repo", "source", "target"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self {
            dir,
            runtime: Runtime::new().unwrap(),
        }
    }

    pub fn repo_dir(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    pub fn store(&self) -> Store {
        Store::open(&StoreConfig::Local {
            root: self.repo_dir(),
        })
        .unwrap()
    }

    pub fn init(&self) -> Repository {
        self.init_version(FormatVersion::default())
    }

    pub fn init_version(&self, version: FormatVersion) -> Repository {
        let options = InitOptions {
            version,
            random_password: true,
            ..InitOptions::default()
        };
        let handle = self.runtime.handle().clone();
        Repository::init(self.store(), &Secret::new(PASSWORD), options, handle).unwrap()
    }

    pub fn open(&self) -> Repository {
        self.open_with(OpenOptions::default()).unwrap()
    }

    pub fn open_with(&self, options: OpenOptions) -> Result<Repository> {
        let handle = self.runtime.handle().clone();
        Repository::open(self.store(), &[Secret::new(PASSWORD)], options, handle)
    }

    pub fn request(&self) -> ArchiveRequest {
        request(&self.source())
    }

    pub fn archive(&self, repo: &Repository) -> ArchiveReport {
        archive(repo, &self.request()).unwrap()
    }

    pub fn restore(&self, repo: &Repository, snapshot: &str) -> RestoreReport {
        restore(repo, snapshot, &self.target()).unwrap()
    }

    pub fn restic(&self) -> restic::Restic {
        restic::Restic::local(&self.repo_dir())
    }
}

pub fn request(source: &Path) -> ArchiveRequest {
    let tags = vec!["ns=test".to_owned(), "pvc=data".to_owned()];
    ArchiveRequest {
        source: Source::Directory(source.to_owned()),
        snapshot_path: "/test/data".to_owned(),
        host: "test".to_owned(),
        parent_tags: vec![tags.clone()],
        tags,
        ..ArchiveRequest::default()
    }
}

pub fn archive(repo: &Repository, request: &ArchiveRequest) -> Result<ArchiveReport> {
    ark_engine::archive(repo, request, &Progress::new(), &Cancel::new())
}

pub fn restore(repo: &Repository, snapshot: &str, target: &Path) -> Result<RestoreReport> {
    let request = RestoreRequest {
        snapshot: snapshot.to_owned(),
        target: target.to_owned(),
        sparse: true,
        restore_owner: true,
        ..RestoreRequest::default()
    };
    ark_engine::restore(repo, &request, &Progress::new(), &Cancel::new())
}

/// Waits until something is so; fails after a minute.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !so() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All regular files below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
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

/// Waits until the files are old enough for their times to be trusted.
pub fn settle(dir: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let changed = |file: &PathBuf| std::fs::metadata(file).unwrap().ctime();
    let last = files(dir).iter().map(changed).max().unwrap();
    let old = || jiff::Timestamp::now().as_second() > last + 3;
    wait_until("files grow old", old);
}
