//! One backup, disturbed at many points: each point starts from the same repository and the same
//! source, and ends in a repository that is whole.

use std::{
    fs,
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use ark_engine::{
    Cancel, LockTiming, OpenOptions, Policy, Progress, Repository, Result, Secret, Store,
    StoreConfig, check,
};
use tokio::runtime::Handle;

use super::{
    Bench, PASSWORD, archive, compare::assert_same, request, restic::Restic, restore, trees,
};

/// Points that are looked at the same time.
const PARALLEL: usize = 4;

/// A repository with a snapshot of an older state of the source.
pub struct Points {
    pub bench: Bench,
    next: AtomicU64,
}

impl Points {
    pub fn new() -> Self {
        let bench = Bench::in_memory();
        let source = bench.source();
        trees::plain(&source, 8, 3000);
        fs::write(source.join("same"), trees::noise(100, 1 << 20)).unwrap();
        let repo = bench.init();
        bench.archive(&repo);
        // What is new: more than one pack.
        trees::plain(&source, 12, 5000);
        for n in 0..3 {
            fs::write(
                source.join(format!("new {n}")),
                trees::noise(200 + n, 6 << 20),
            )
            .unwrap();
        }
        Self::of(bench)
    }

    /// Of a repository made elsewhere.
    pub fn of(bench: Bench) -> Self {
        Self {
            bench,
            next: AtomicU64::new(0),
        }
    }

    /// Looks at points `0..count`, several at a time.
    pub fn each(&self, count: u64, look: impl Fn(&Self, u64, &Path) + Sync) {
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL {
                scope.spawn(|| {
                    loop {
                        let point = self.next.fetch_add(1, Ordering::Relaxed);
                        if point >= count {
                            break;
                        }
                        let dir = self.bench.dir.path().join(format!("point-{point}"));
                        copy(&self.bench.repo_dir(), &dir.join("repo"));
                        look(self, point, &dir);
                        fs::remove_dir_all(&dir).unwrap();
                    }
                });
            }
        });
    }

    /// Whatever happened to the backup: nothing is damaged, every snapshot can be restored, and the
    /// next backup is what the source is.
    pub fn is_whole(&self, point: u64, dir: &Path) {
        let handle = self.bench.runtime.handle();
        // The disturbed run is over, and its lock with it; waiting for that would take half an
        // hour.
        let locks = dir.join("repo/locks");
        if locks.exists() {
            fs::remove_dir_all(&locks).unwrap();
            fs::create_dir(&locks).unwrap();
        }
        let store = open_store(&dir.join("repo"));
        let repo = open(store, handle).unwrap();
        let found = check(&repo, false, &Cancel::new()).unwrap();
        assert!(found.is_ok(), "point {point}: {found:?}");
        let snapshots = repo.snapshots().unwrap();
        assert!(
            (1..=2).contains(&snapshots.len()),
            "point {point}: {snapshots:?}"
        );
        for (n, snapshot) in snapshots.iter().enumerate() {
            // The older one was not touched: the check has looked at all it needs.
            if n == 0 && !point.is_multiple_of(8) {
                continue;
            }
            let target = dir.join(format!("target-{n}"));
            fs::create_dir(&target).unwrap();
            let report = restore(&repo, &snapshot.id, &target).unwrap();
            assert_eq!(report.errors, [], "point {point}");
            if n == 1 {
                assert_same(&self.bench.source(), &target);
            }
        }
        let report = archive(&repo, &request(&self.bench.source())).unwrap();
        assert_eq!(report.errors, [], "point {point}");
        let target = dir.join("target-next");
        fs::create_dir(&target).unwrap();
        let restored = restore(&repo, &report.snapshot_id, &target).unwrap();
        assert_eq!(restored.errors, [], "point {point}");
        assert_same(&self.bench.source(), &target);
        if point.is_multiple_of(20) {
            Restic::local(&dir.join("repo")).check();
        }
    }
}

pub fn open_store(root: &Path) -> Store {
    Store::open(&StoreConfig::Local {
        root: root.to_owned(),
    })
    .unwrap()
}

/// Opens with a short wait for rivals: there are none, or who it is knows.
pub fn open(store: Store, handle: &Handle) -> Result<Repository> {
    open_with(store, PASSWORD, handle)
}

/// The same, with another password.
pub fn open_with(store: Store, password: &str, handle: &Handle) -> Result<Repository> {
    let options = OpenOptions {
        lock_timing: LockTiming {
            settle: Some(Duration::from_millis(5)),
            ..LockTiming::default()
        },
        ..OpenOptions::default()
    };
    Repository::open(store, &[Secret::new(password)], options, handle.clone())
}

/// Limits that make a faulty store's end come soon.
pub fn impatient() -> Policy {
    Policy {
        attempts: 2,
        timeout: Duration::from_secs(3),
        min_bytes_per_second: 16 << 20,
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
    }
}

/// Runs something that must end; what hangs for two minutes never does.
pub fn ends<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || drop(send.send(run())));
    match receive.recv_timeout(Duration::from_mins(2)) {
        Ok(done) => done,
        Err(why) => panic!("{what}: {why}"),
    }
}

pub fn backup(repo: &Repository, source: &Path) -> Result<ark_engine::ArchiveReport> {
    ark_engine::archive(repo, &request(source), &Progress::new(), &Cancel::new())
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // Nothing changes an object, so that all may share it.
            fs::hard_link(entry.path(), &target).unwrap();
        }
    }
}
