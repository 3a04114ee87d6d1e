//! Locks: written, honoured, refreshed, released, and taken from the dead only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use ark_engine::{
    Cancel, Class, Error, Holder, HolderLiveness, LockTiming, OpenOptions, Progress, Repository,
    Secret, Snapshot,
    browse::{self, FindNames, FindRequest, FindWhat},
    maintain::{self, CheckRequest, GroupBy, PruneRequest, Unused},
    stats::{self, StatsMode, StatsRequest},
    storage::fault::{Fault, Faults, Operation},
};
use common::{Bench, PASSWORD, archive, points, restore, trees, wait_until};

fn holder(host: &str, pid: u32) -> Holder {
    Holder {
        host_name: host.to_owned(),
        user_name: "tester".to_owned(),
        pid,
    }
}

fn locks(bench: &Bench) -> Vec<PathBuf> {
    let mut files = common::files(&bench.repo_dir().join("locks"));
    // Files still being written have longer names.
    files.retain(|file| file.file_name().unwrap().len() == 64);
    files
}

/// A lock file of somebody else, made by holding up a backup of another process identity: its file
/// is copied while it is held.
fn foreign_lock(bench: &Bench, host: &str, pid: u32) -> PathBuf {
    // It is cancelled long before it could go on.
    let lock_timing = LockTiming {
        settle: Some(Duration::from_mins(10)),
        ..LockTiming::default()
    };
    let options = OpenOptions {
        holder: holder(host, pid),
        lock_timing,
        ..OpenOptions::default()
    };
    let repo = bench.open_with(options).unwrap();
    let cancel = Cancel::new();
    let copy = bench.dir.path().join("copy");
    let name = std::thread::scope(|scope| {
        let run =
            scope.spawn(|| ark_engine::archive(&repo, &bench.request(), &Progress::new(), &cancel));
        let mut name = None;
        wait_until("a lock appears", || {
            name = locks(bench).pop();
            name.as_ref()
                .is_some_and(|name| fs::copy(name, &copy).is_ok_and(|len| len > 0))
        });
        cancel.cancel();
        run.join().unwrap().unwrap_err();
        name.unwrap()
    });
    fs::rename(copy, &name).unwrap();
    name
}

/// The same, but exclusive: as stock restic writes it.
fn exclusive_lock(bench: &Bench) -> PathBuf {
    let mut child = bench.restic().command();
    // A check of a repository locks it exclusively; it is stopped while it holds the lock.
    let mut child = child
        .args(["check", "--read-data"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let copy = bench.dir.path().join("copy");
    let mut name = None;
    wait_until("restic locks", || {
        name = locks(bench).pop();
        name.as_ref()
            .is_some_and(|name| fs::copy(name, &copy).is_ok_and(|len| len > 0))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let name = name.unwrap();
    fs::rename(copy, &name).unwrap();
    name
}

fn prepared() -> (Bench, Repository) {
    let bench = Bench::new();
    trees::plain(&bench.source(), 60, 1 << 20);
    let repo = bench.init();
    bench.archive(&repo);
    (bench, repo)
}

#[test]
fn an_exclusive_lock_is_honoured_by_everything() {
    let (bench, repo) = prepared();
    let name = exclusive_lock(&bench);
    let before = common::files(&bench.repo_dir());
    let snapshot = repo.snapshots().unwrap().remove(0).id;
    for result in [
        archive(&repo, &bench.request()).map(drop),
        restore(&repo, &snapshot, &bench.target()).map(drop),
        ark_engine::check(&repo, false, &Cancel::new()).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        assert_eq!(error.class(), Class::Waiting);
    }
    assert_eq!(common::files(&bench.repo_dir()), before);
    fs::remove_file(name).unwrap();
    bench.archive(&repo);
}

#[test]
fn whoever_is_faster_finds_nothing_written_and_nothing_restored() {
    let (bench, repo) = prepared();
    let rival = Rival::of(&bench);
    let snapshot = repo.snapshots().unwrap().remove(0).id;
    // More than a pack of new data is read before it is known who was faster.
    fs::write(bench.source().join("new"), trees::noise(7, 40 << 20)).unwrap();
    let before = common::files(&bench.repo_dir());
    let repo = rival.beside(Fault::None);
    let backup = || archive(&repo, &bench.request()).map(drop);
    rival.refuses("backup", backup);
    assert_eq!(common::files(&bench.repo_dir()), before);
    let restored = || restore(&repo, &snapshot, &bench.target()).map(drop);
    rival.refuses("restore", restored);
    assert_eq!(common::files(&bench.repo_dir()), before);
    assert_eq!(fs::read_dir(bench.target()).unwrap().count(), 0);
    bench.archive(&repo);
}

/// Somebody who excludes others and is faster: whoever writes a lock has seen none before, and then
/// finds theirs.
struct Rival<'a> {
    bench: &'a Bench,
    name: PathBuf,
    lock: Vec<u8>,
    comes: Arc<AtomicBool>,
}

impl<'a> Rival<'a> {
    fn of(bench: &'a Bench) -> Self {
        let name = exclusive_lock(bench);
        let lock = fs::read(&name).unwrap();
        fs::remove_file(&name).unwrap();
        Self {
            bench,
            name,
            lock,
            comes: Arc::default(),
        }
    }

    /// An open repository beside it whose locks take long to settle. `index`: what happens to reads
    /// of index files.
    fn beside(&self, index: Fault) -> Repository {
        let (name, lock, comes) = (self.name.clone(), self.lock.clone(), self.comes.clone());
        let faults = Faults::new(move |call| {
            let of = |operation, dir| call.operation == operation && call.path.starts_with(dir);
            if of(Operation::Write, "locks/") && comes.load(Ordering::SeqCst) {
                fs::write(&name, &lock).unwrap();
            }
            if of(Operation::Read, "index/") {
                index
            } else {
                Fault::None
            }
        });
        let store = self.bench.store().with_faults(&faults);
        let (secrets, handle) = ([Secret::new(PASSWORD)], self.bench.runtime.handle());
        Repository::open(store, &secrets, slow_settling(), handle.clone()).unwrap()
    }

    /// Something begins early, is refused, ends, and leaves no lock.
    fn refuses(&self, what: &str, run: impl FnOnce() -> Result<(), Error>) {
        self.comes.store(true, Ordering::SeqCst);
        let error = run().unwrap_err();
        self.comes.store(false, Ordering::SeqCst);
        assert!(matches!(error, Error::Locked { .. }), "{what}: {error}");
        wait_until("only the rival's lock is there", || {
            locks(self.bench) == [self.name.clone()]
        });
        fs::remove_file(&self.name).unwrap();
    }
}

fn slow_settling() -> OpenOptions {
    OpenOptions {
        lock_timing: LockTiming {
            settle: Some(Duration::from_secs(2)),
            ..LockTiming::default()
        },
        ..OpenOptions::default()
    }
}

/// What was begun early ends when the lock turns out not to be had, and the lock goes, however long
/// a read would take.
#[test]
fn a_refused_lock_does_not_stay_for_work_begun_early() {
    let (bench, repo) = prepared();
    let rival = Rival::of(&bench);
    let snapshot = repo.snapshots().unwrap().remove(0);
    let before = common::files(&bench.repo_dir());
    let repo = rival.beside(Fault::Hang);
    let (progress, cancel) = (Progress::new(), Cancel::new());
    rival.refuses("backup", || archive(&repo, &bench.request()).map(drop));
    rival.refuses("restore", || {
        restore(&repo, &snapshot.id, &bench.target()).map(drop)
    });
    rival.refuses("list", || {
        browse::list(&repo, &snapshot, Path::new("/"), true, &cancel, &mut |_| {
            Ok(())
        })
    });
    rival.refuses("prune", || {
        maintain::prune(&repo, &PruneRequest::default(), &progress, &cancel).map(drop)
    });
    assert_eq!(common::files(&bench.repo_dir()), before);
}

/// Something that reads, and begins before its lock is held.
type Work<'a> = &'a dyn Fn() -> Result<(), Error>;

#[test]
fn whoever_is_faster_hears_nothing_told() {
    let (bench, repo) = prepared();
    let rival = Rival::of(&bench);
    let snapshot = repo.snapshots().unwrap().remove(0);
    let before = common::files(&bench.repo_dir());
    let repo = rival.beside(Fault::None);
    let cancel = Cancel::new();
    let find = || {
        let what = FindWhat::Names(FindNames {
            patterns: vec!["*".to_owned()],
            ..FindNames::default()
        });
        let request = FindRequest {
            what,
            ..FindRequest::default()
        };
        let told = &mut |_: &_, _| panic!("told before the lock was held");
        browse::find(&repo, &request, &cancel, told).map(drop)
    };
    let list = || {
        let told = &mut |_| panic!("told before the lock was held");
        browse::list(&repo, &snapshot, Path::new("/"), true, &cancel, told)
    };
    let dump = || {
        let (mut out, progress) = (Vec::new(), Progress::new());
        let root = Path::new("/");
        let done = browse::dump(&repo, &snapshot, root, &mut out, &progress, &cancel);
        assert_eq!(out, b"", "written before the lock was held");
        done.map(drop)
    };
    let counts = StatsRequest::default();
    let overview = || stats::stats(&repo, &counts, GroupBy::default(), &cancel).map(drop);
    let count = || stats::count(&repo, &counts, StatsMode::RawData, &cancel).map(drop);
    let check = || ark_engine::check(&repo, true, &cancel).map(drop);
    let prune = || {
        let request = PruneRequest {
            max_unused: Unused::Bytes(0),
            ..PruneRequest::default()
        };
        maintain::prune(&repo, &request, &Progress::new(), &cancel).map(drop)
    };
    let operations: [(&str, Work<'_>); 7] = [
        ("find", &find),
        ("list", &list),
        ("dump", &dump),
        ("stats", &overview),
        ("count", &count),
        ("check", &check),
        ("prune", &prune),
    ];
    for (what, run) in operations {
        rival.refuses(what, run);
    }
    assert_eq!(common::files(&bench.repo_dir()), before);
    assert!(check().is_ok() && overview().is_ok() && dump_is_whole(&repo, &snapshot));
}

fn dump_is_whole(repo: &Repository, snapshot: &Snapshot) -> bool {
    let (mut out, cancel) = (Vec::new(), Cancel::new());
    let root = Path::new("/");
    browse::dump(repo, snapshot, root, &mut out, &Progress::new(), &cancel).is_ok_and(|n| n > 0)
}

#[test]
fn what_was_checked_before_an_index_file_was_gone_is_checked_anew() {
    let (bench, repo) = prepared();
    assert!(
        ark_engine::check(&repo, true, &Cancel::new())
            .unwrap()
            .is_ok()
    );
    let index = common::files(&bench.repo_dir().join("index")).remove(0);
    let (request, progress) = (CheckRequest::default(), Progress::new());
    let (gone, checked, written) = (index.clone(), progress.clone(), AtomicBool::new(false));
    let store = bench.store().with_faults(&Faults::new(move |call| {
        let of_locks = call.path.starts_with("locks");
        if of_locks && call.operation == Operation::Write {
            written.store(true, Ordering::SeqCst);
        }
        // The second look whether anybody else has a lock.
        let is_look = of_locks && call.operation == Operation::List;
        if is_look && written.load(Ordering::SeqCst) && gone.exists() {
            tokio::task::block_in_place(|| {
                wait_until("directories were checked", || {
                    checked.snapshot().files_done > 0
                });
            });
            fs::remove_file(&gone).unwrap();
        }
        Fault::None
    }));
    let repo = points::open(store, bench.runtime.handle()).unwrap();
    let report = maintain::check_with(&repo, &request, &progress, &Cancel::new()).unwrap();
    assert!(!index.exists());
    assert!(!report.is_ok(), "what was found early was told");
    assert_eq!((report.packs, report.trees), (0, 0));
}

#[test]
fn shared_locks_do_not_conflict() {
    let (bench, repo) = prepared();
    foreign_lock(&bench, "another", 77);
    bench.archive(&repo);
    assert_eq!(locks(&bench).len(), 1);
}

#[test]
fn a_lock_not_refreshed_for_half_an_hour_by_the_stores_clock_is_removed() {
    let (bench, repo) = prepared();
    let name = exclusive_lock(&bench);
    let age = |minutes: u64| {
        let then = SystemTime::now() - Duration::from_mins(minutes);
        fs::File::options()
            .append(true)
            .open(&name)
            .unwrap()
            .set_modified(then)
            .unwrap();
    };
    age(29);
    let error = archive(&repo, &bench.request()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    age(31);
    archive(&repo, &bench.request()).unwrap();
    assert_eq!(locks(&bench), Vec::<PathBuf>::new());
}

struct Oracle(Option<bool>);

impl HolderLiveness for Oracle {
    fn is_alive(&self, _host_name: &str) -> Option<bool> {
        self.0
    }
}

#[test]
fn liveness_decides_before_time() {
    let (bench, _) = prepared();
    let with = |answer| {
        let options = OpenOptions {
            liveness: Some(Arc::new(Oracle(answer))),
            ..OpenOptions::default()
        };
        bench.open_with(options).unwrap()
    };
    let name = exclusive_lock(&bench);
    for answer in [Some(true), None] {
        let error = archive(&with(answer), &bench.request()).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
    }
    // Alive, however old its file looks.
    let then = SystemTime::now() - Duration::from_hours(5);
    fs::File::options()
        .append(true)
        .open(&name)
        .unwrap()
        .set_modified(then)
        .unwrap();
    archive(&with(Some(true)), &bench.request()).unwrap_err();
    assert!(name.exists());
    archive(&with(Some(false)), &bench.request()).unwrap();
    assert_eq!(locks(&bench), Vec::<PathBuf>::new());
}

#[test]
fn an_unreadable_lock_counts_as_held() {
    let (bench, repo) = prepared();
    let name = bench.repo_dir().join("locks").join("ab".repeat(32));
    fs::create_dir_all(bench.repo_dir().join("locks")).unwrap();
    fs::write(&name, "not a lock").unwrap();
    let error = archive(&repo, &bench.request()).unwrap_err();
    assert!(
        matches!(&error, Error::Locked { holder, .. } if holder.contains("unreadable")),
        "{error}"
    );
    // One that is being created at this moment is empty.
    fs::write(&name, "").unwrap();
    archive(&repo, &bench.request()).unwrap();
    fs::remove_file(&name).unwrap();
}

fn quick() -> LockTiming {
    LockTiming {
        refresh: Duration::from_millis(50),
        overdue: Duration::from_secs(20),
        settle: Some(Duration::from_millis(1)),
        ..LockTiming::default()
    }
}

#[test]
fn the_lock_is_refreshed_by_new_files_and_gone_at_the_end() {
    let (bench, _) = prepared();
    let options = OpenOptions {
        lock_timing: quick(),
        ..OpenOptions::default()
    };
    let repo = bench.open_with(options).unwrap();
    let request = ark_engine::ArchiveRequest {
        reread_all: true,
        ..bench.request()
    };
    let seen = std::thread::scope(|scope| {
        let run = scope.spawn(|| archive(&repo, &request).unwrap());
        let mut seen = std::collections::BTreeSet::new();
        while !run.is_finished() {
            seen.extend(locks(&bench));
        }
        run.join().unwrap();
        seen
    });
    assert!(seen.len() >= 2, "{seen:?}");
    assert_eq!(locks(&bench), Vec::<PathBuf>::new());
}

#[test]
fn a_lock_removed_by_somebody_ends_the_backup_without_a_snapshot() {
    let (bench, _) = prepared();
    let options = OpenOptions {
        lock_timing: quick(),
        ..OpenOptions::default()
    };
    let repo = bench.open_with(options).unwrap();
    let before = repo.snapshots().unwrap();
    trees::plain(&bench.source(), 400, 1 << 20);
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| archive(&repo, &bench.request()).unwrap_err());
        while !run.is_finished() {
            for lock in locks(&bench) {
                fs::remove_file(lock).unwrap_or_default();
            }
        }
        run.join().unwrap()
    });
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
    assert_eq!(error.class(), Class::Transient);
    assert_eq!(repo.snapshots().unwrap(), before);
    assert_eq!(locks(&bench), Vec::<PathBuf>::new());
}

#[test]
fn a_predecessor_with_our_identity_is_dead() {
    let (bench, repo) = prepared();
    // Shared locks never conflict with shared ones; what counts is that it is not left for others.
    let name = foreign_lock(&bench, "pod-1", 7);
    assert!(name.exists());
    let options = OpenOptions {
        holder: holder("pod-1", 7),
        ..OpenOptions::default()
    };
    drop(repo);
    let repo = bench.open_with(options).unwrap();
    archive(&repo, &bench.request()).unwrap();
    assert!(!name.exists(), "a predecessor's lock is left");
}
