//! What cannot be read, written or kept is a row of its own, and the rest is done.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ark_engine::{
    ArchiveRequest, Cancel, FileOperation, OpenOptions, Outcome, Progress, Repository,
    RestoreRequest, Secret, Source, Store, StoreConfig, archive::Chunking,
};
use common::{Bench, PASSWORD, archive, restore, trees};

/// Runs one of this file's ignored tests in a process of user `nobody`.
fn as_nobody(test: &str, bench: &Bench) {
    fs::set_permissions(bench.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut todo = vec![bench.repo_dir(), bench.target()];
    while let Some(path) = todo.pop() {
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        if path.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    // The test binary itself may lie where nobody else can read.
    let exe = bench.dir.path().join("test-binary");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let out = Command::new(exe)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("ARK_TEST_DIR", bench.dir.path())
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", common::restic::text(&out));
    assert!(
        String::from_utf8_lossy(&out.stdout).contains("1 passed"),
        "the child ran no test"
    );
}

#[test]
fn what_cannot_be_read_is_a_row_each() {
    let bench = Bench::new();
    let source = bench.source();
    fs::write(source.join("readable"), "yes").unwrap();
    fs::write(source.join("secret"), "no").unwrap();
    fs::create_dir(source.join("closed")).unwrap();
    fs::write(source.join("closed/inside"), "no").unwrap();
    for (name, mode) in [("secret", 0o600), ("closed", 0o700)] {
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    bench.init();
    as_nobody("child_backs_up_what_it_can", &bench);
    let repo = bench.open();
    let snapshot = &repo.snapshots().unwrap()[0];
    // Restored by root: the names that could be read, and the directory's own metadata.
    restore(&repo, &snapshot.id, &bench.target()).unwrap();
    assert_eq!(fs::read(bench.target().join("readable")).unwrap(), b"yes");
    assert!(!bench.target().join("secret").exists());
    let closed = fs::metadata(bench.target().join("closed")).unwrap();
    assert_eq!(closed.permissions().mode() & 0o7777, 0o700);
}

fn child_bench() -> (std::path::PathBuf, tokio::runtime::Runtime, Repository) {
    let dir = std::path::PathBuf::from(std::env::var_os("ARK_TEST_DIR").unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Store::open(&StoreConfig::Local {
        root: dir.join("repo"),
    })
    .unwrap();
    let handle = runtime.handle().clone();
    let repo = Repository::open(
        store,
        &[Secret::new(PASSWORD)],
        OpenOptions::default(),
        handle,
    );
    (dir, runtime, repo.unwrap())
}

#[test]
#[ignore = "run by another test as an ordinary user"]
fn child_backs_up_what_it_can() {
    let (dir, _runtime, repo) = child_bench();
    let report = archive(&repo, &common::request(&dir.join("source"))).unwrap();
    assert_eq!(report.outcome(), Outcome::Partial);
    let rows: Vec<_> = report
        .errors
        .iter()
        .map(|row| (row.path.as_str(), row.operation))
        .collect();
    assert_eq!(
        rows,
        [
            ("closed", FileOperation::List),
            ("secret", FileOperation::Open)
        ]
    );
    assert!(
        report.errors[0].message.contains("denied"),
        "{:?}",
        report.errors
    );
}

#[test]
fn an_ordinary_user_restores_with_a_row_for_each_owner() {
    let bench = Bench::new();
    fs::write(bench.source().join("of-root"), "x").unwrap();
    let repo = bench.init();
    bench.archive(&repo);
    as_nobody("child_restores_as_nobody", &bench);
    assert_eq!(fs::read(bench.target().join("of-root")).unwrap(), b"x");
}

#[test]
#[ignore = "run by another test as an ordinary user"]
fn child_restores_as_nobody() {
    let (dir, _runtime, repo) = child_bench();
    let snapshot = repo.snapshots().unwrap().remove(0);
    let request = RestoreRequest {
        snapshot: snapshot.id,
        target: dir.join("target"),
        sparse: true,
        restore_owner: true,
        ..RestoreRequest::default()
    };
    let run = |request: &RestoreRequest| {
        ark_engine::restore(&repo, request, &Progress::new(), &Cancel::new()).unwrap()
    };
    let report = run(&request);
    let rows: Vec<_> = report
        .errors
        .iter()
        .map(|row| (row.path.as_str(), row.operation))
        .collect();
    assert_eq!(
        rows,
        [
            (".", FileOperation::Chown),
            ("of-root", FileOperation::Chown)
        ]
    );
    let report = run(&RestoreRequest {
        restore_owner: false,
        ..request
    });
    assert_eq!(report.errors, []);
}

#[test]
fn files_that_change_or_vanish_are_rows() {
    let bench = Bench::new();
    let source = bench.source();
    // Many files before the busy ones, so that the walk meets them while they change.
    trees::plain(&source, 40, 1 << 20);
    fs::write(source.join("z-grows"), trees::noise(5, 30 << 20)).unwrap();
    fs::create_dir(source.join("z-vanishes")).unwrap();
    let repo = bench.init();
    let stop = Arc::new(AtomicBool::new(false));
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = source.join("z-grows");
            let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"one more line\n").unwrap();
                let path = source.join(format!("z-vanishes/{}", n % 50));
                fs::write(&path, "x").unwrap();
                if n % 2 == 1 {
                    fs::remove_file(source.join(format!("z-vanishes/{}", (n - 1) % 50)))
                        .unwrap_or_default();
                }
                n += 1;
            }
        });
        let report = archive(&repo, &bench.request()).unwrap();
        stop.store(true, Ordering::Relaxed);
        report
    });
    assert_eq!(report.outcome(), Outcome::Partial);
    let grows = report
        .errors
        .iter()
        .find(|row| row.path == "z-grows")
        .unwrap();
    assert_eq!(grows.operation, FileOperation::ChangedWhileReading);
    assert!(
        report.errors.iter().all(|row| {
            matches!(
                row.operation,
                FileOperation::ChangedWhileReading | FileOperation::Vanished
            )
        }),
        "{:?}",
        report.errors
    );
    // What is stored of the growing file is what it was when it was opened: a prefix.
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(restored.errors, []);
    assert!(
        restored
            .notes
            .iter()
            .all(|note| note.path.starts_with("z-vanishes/")),
        "{:?}",
        restored.notes
    );
    let (stored, now) = (
        fs::read(bench.target().join("z-grows")).unwrap(),
        fs::read(source.join("z-grows")).unwrap(),
    );
    assert!(stored.len() >= 30 << 20 && now.starts_with(&stored));
    bench.restic().check();
}

#[test]
fn other_file_systems_are_entered_only_if_asked_and_never_restored_into() {
    let bench = Bench::new();
    let inner = bench.source().join("inner");
    fs::create_dir(&inner).unwrap();
    let mount = |on: &Path| {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(on)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "this test mounts a tmpfs, which needs root"
        );
    };
    let umount = |on: &Path| assert!(Command::new("umount").arg(on).status().unwrap().success());
    mount(&inner);
    fs::write(inner.join("file"), "x").unwrap();
    let repo = bench.init();
    let all = archive(&repo, &bench.request());
    let one = archive(
        &repo,
        &ArchiveRequest {
            one_file_system: true,
            ..bench.request()
        },
    );
    umount(&inner);
    let (all, one) = (all.unwrap(), one.unwrap());
    assert_eq!((all.files, one.files), (1, 0));
    assert_eq!(one.notes[0].path, "inner");
    assert_eq!(one.outcome(), Outcome::Complete);

    fs::create_dir(bench.target().join("inner")).unwrap();
    mount(&bench.target().join("inner"));
    let restored = restore(&repo, &all.snapshot_id, &bench.target());
    let written = common::files(&bench.target());
    umount(&bench.target().join("inner"));
    let restored = restored.unwrap();
    assert_eq!(restored.errors.len(), 1);
    assert_eq!(restored.errors[0].path, "inner");
    assert!(written.is_empty(), "{written:?}");
}

/// The longest file that the file system of the tests allows.
fn endless(path: &Path) {
    let file = fs::File::create(path).unwrap();
    let sizes = [7 << 60, 1 << 50, 15 << 40];
    let made = sizes.into_iter().any(|size| file.set_len(size).is_ok());
    assert!(made, "no file of 15 TiB can be made here");
}

#[test]
fn an_endless_hole_is_a_row_and_the_rest_is_kept() {
    let bench = Bench::in_memory();
    let source = bench.source();
    for name in ["e1", "e2", "e3"] {
        endless(&source.join(name));
    }
    fs::File::create(source.join("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let repo = bench.init();
    let report = bench.archive(&repo);
    let rows: Vec<_> = report
        .errors
        .iter()
        .map(|row| (row.path.as_str(), row.operation))
        .collect();
    assert_eq!(
        rows,
        ["e1", "e2", "e3"].map(|name| (name, FileOperation::Read))
    );
    assert!(
        report.errors[0].message.contains("memory"),
        "{:?}",
        report.errors[0]
    );
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(restored.errors, []);
    assert_eq!(fs::read(bench.target().join("file")).unwrap(), b"content");
    let sparse = fs::metadata(bench.target().join("sparse")).unwrap();
    assert_eq!(sparse.len(), 1 << 40);
}

#[test]
fn directories_deeper_than_can_be_restored_are_a_row() {
    let bench = Bench::in_memory();
    // Two chains: of many short names, and of a few long ones.
    for (top, name, depth) in [
        ("short", "d".to_owned(), 4200),
        ("long", "n".repeat(255), 200),
    ] {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        let mode = rustix::fs::Mode::RWXU;
        fs::create_dir(bench.source().join(top)).unwrap();
        let mut at: std::os::fd::OwnedFd = fs::File::open(bench.source().join(top)).unwrap().into();
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, &name, mode).unwrap();
            at = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).unwrap();
        }
    }
    let repo = bench.init();
    let report = bench.archive(&repo);
    let operations: Vec<_> = report.errors.iter().map(|row| row.operation).collect();
    assert_eq!(operations, [FileOperation::Unsupported; 2]);
    // All that is in the snapshot can be restored.
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(restored.errors, []);
    // The standard library's own removal would need as many descriptors.
    let removed = Command::new("rm")
        .arg("-rf")
        .args([bench.source(), bench.target()])
        .status();
    assert!(removed.unwrap().success());
}

/// Files of the kernel claim to be empty, or to be a page long; what there is to read is stored,
/// and nothing is said to have changed.
#[test]
fn a_file_is_read_to_its_end_whatever_size_it_claims() {
    let bench = Bench::new();
    let repo = bench.init();
    let files = [
        "/proc/filesystems",
        "/sys/kernel/uevent_seqnum",
        "/proc/kallsyms",
    ];
    let there = files
        .map(Path::new)
        .into_iter()
        .filter(|path| path.exists());
    let there: Vec<_> = there.map(Path::to_owned).collect();
    assert!(!there.is_empty());
    let request = ArchiveRequest {
        source: Source::Paths(there.clone()),
        ..bench.request()
    };
    let report = archive(&repo, &request).unwrap();
    assert_eq!(report.errors, []);
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!((restored.errors, restored.notes), (vec![], vec![]));
    for path in there {
        let stored = fs::read(bench.target().join(path.strip_prefix("/").unwrap())).unwrap();
        assert!(!stored.is_empty(), "{}", path.display());
        assert_eq!(
            stored.len(),
            fs::read(&path).unwrap().len(),
            "{}",
            path.display()
        );
    }
}

/// A file of a page cache that is larger than what is read at once, and grows between being listed
/// and read: with either kind of cuts all that is there by then is stored, and a row says that it
/// changed.
#[test]
fn a_file_that_grows_while_it_is_read_is_stored_to_its_end() {
    for chunking in [Chunking::Rabin, Chunking::Fixed] {
        let bench = Bench::new();
        let repo = bench.init();
        let path = bench.source().join("log");
        fs::write(&path, trees::noise(1, 9 << 20)).unwrap();
        let stop = AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut log = fs::File::options().append(true).open(&path).unwrap();
                let line = trees::noise(2, 64 << 10);
                let mut written = 0;
                // Not for ever: whoever reads to the end has to find one.
                while !stop.load(Ordering::Relaxed) && written < 256 {
                    log.write_all(&line).unwrap();
                    written += 1;
                }
            });
            let request = ArchiveRequest {
                chunking,
                ..bench.request()
            };
            let report = archive(&repo, &request).unwrap();
            stop.store(true, Ordering::Relaxed);
            report
        });
        bench.restore(&repo, &report.snapshot_id);
        let (stored, now) = (
            fs::read(bench.target().join("log")).unwrap(),
            fs::read(&path).unwrap(),
        );
        assert!(
            stored.len() >= 9 << 20 && now.starts_with(&stored),
            "{}",
            stored.len()
        );
    }
}
