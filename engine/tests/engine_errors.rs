//! What goes wrong is a typed error or a row, and never a snapshot that is not whole.

mod common;

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ark_engine::{
    ArchiveRequest, Cancel, Class, Error, FileOperation, InitOptions, OpenOptions, Outcome, Policy,
    Progress, Repository, RestoreRequest, Secret, Store, StoreConfig,
};
use common::{Bench, PASSWORD, archive, restore, trees};

fn open(bench: &Bench, password: &str) -> ark_engine::Result<Repository> {
    let handle = bench.runtime.handle().clone();
    Repository::open(
        bench.store(),
        &[Secret::new(password)],
        OpenOptions::default(),
        handle,
    )
}

#[test]
fn wrong_password_missing_repository_and_missing_store_are_three_errors() {
    let bench = Bench::new();
    let error = open(&bench, PASSWORD).unwrap_err();
    assert!(matches!(error, Error::NoRepository { .. }), "{error}");
    assert_eq!(error.class(), Class::Waiting);
    assert!(
        !bench
            .runtime
            .block_on(Repository::exists(&bench.store()))
            .unwrap()
    );
    bench.init();
    assert!(
        bench
            .runtime
            .block_on(Repository::exists(&bench.store()))
            .unwrap()
    );
    let error = open(&bench, "wrong").unwrap_err();
    assert!(
        matches!(error, Error::WrongPassword { tried: 1, .. }),
        "{error}"
    );
    assert!(!error.to_string().contains("wrong"), "{error}");
    let root = bench.dir.path().join("nowhere");
    let error = Store::open(&StoreConfig::Local { root: root.clone() }).unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }), "{error}");
    // A root that disappears later is no empty store either.
    fs::create_dir(&root).unwrap();
    let store = Store::open(&StoreConfig::Local { root: root.clone() }).unwrap();
    fs::remove_dir(&root).unwrap();
    let error = bench.runtime.block_on(store.list("")).unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }), "{error}");
    let error = bench
        .runtime
        .block_on(store.write("x", "y".into()))
        .unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }), "{error}");
    assert!(!root.exists());
}

#[test]
fn the_second_password_may_fit() {
    let bench = Bench::new();
    let repo = bench.init();
    let passwords = [Secret::new("old"), Secret::new(PASSWORD)];
    let handle = bench.runtime.handle().clone();
    let again =
        Repository::open(bench.store(), &passwords, OpenOptions::default(), handle).unwrap();
    assert_eq!(again.id(), repo.id());
    assert_eq!(again.version(), 2);
}

#[test]
fn init_never_touches_what_is_there() {
    let bench = Bench::new();
    let repo = bench.init();
    let before = common::files(&bench.repo_dir());
    let init = |password: &str| {
        let handle = bench.runtime.handle().clone();
        Repository::init(
            bench.store(),
            &Secret::new(password),
            InitOptions::default(),
            handle,
        )
    };
    for password in [PASSWORD, "other"] {
        let error = init(password).unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    }
    assert_eq!(common::files(&bench.repo_dir()), before);

    // Interrupted between the key and the configuration: only the same password finishes it.
    fs::remove_file(bench.repo_dir().join("config")).unwrap();
    let error = open(&bench, PASSWORD).unwrap_err();
    assert!(matches!(error, Error::NoRepository { .. }), "{error}");
    let error = init("other").unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    let finished = init(PASSWORD).unwrap();
    assert_ne!(finished.id(), repo.id());
    assert_eq!(common::files(&bench.repo_dir()).len(), before.len());

    // With data there, a missing configuration is damage, not a fresh start.
    trees::plain(&bench.source(), 1, 10);
    bench.archive(&finished);
    fs::remove_file(bench.repo_dir().join("config")).unwrap();
    let error = init(PASSWORD).unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
}

#[test]
fn two_inits_at_once_make_one_repository() {
    let bench = Bench::new();
    let results: Vec<_> = std::thread::scope(|scope| {
        let init = || {
            let handle = bench.runtime.handle().clone();
            let options = InitOptions {
                random_password: true,
                ..InitOptions::default()
            };
            Repository::init(bench.store(), &Secret::new(PASSWORD), options, handle)
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(init)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let ids: Vec<_> = results
        .iter()
        .flatten()
        .map(|repo| repo.id().to_owned())
        .collect();
    let repo = bench.open();
    assert!(!ids.is_empty());
    for id in ids {
        assert_eq!(id, repo.id());
    }
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    }
    trees::plain(&bench.source(), 3, 1000);
    bench.archive(&repo);
    bench.restic().check();
}

#[test]
fn an_unreachable_endpoint_says_so_quickly() {
    let bench = Bench::new();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let store = Store::open(&StoreConfig::S3 {
        bucket: "bucket".to_owned(),
        prefix: "a/prefix".to_owned(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        region: None,
        access_key_id: Secret::new("id"),
        secret_access_key: Secret::new("hunter2"),
        session_token: None,
        ca_cert: None,
        path_style: true,
        insecure_skip_tls_verify: false,
    })
    .unwrap();
    let started = Instant::now();
    let error = bench.runtime.block_on(store.check()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Transient);
    assert!(started.elapsed() < Duration::from_secs(15));
    assert!(!format!("{error:?} {error} {store:?}").contains("hunter2"));
}

#[test]
fn a_silent_endpoint_times_out_and_cancel_ends_a_request() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let store = Store::open(&StoreConfig::S3 {
        bucket: "bucket".to_owned(),
        prefix: String::new(),
        endpoint: Some(endpoint),
        region: None,
        access_key_id: Secret::new("id"),
        secret_access_key: Secret::new("key"),
        session_token: None,
        ca_cert: None,
        path_style: true,
        insecure_skip_tls_verify: false,
    })
    .unwrap();
    let policy = Policy {
        attempts: 2,
        timeout: Duration::from_millis(300),
        ..Policy::default()
    };
    let impatient = store.with_policy(policy);
    let error = bench.runtime.block_on(impatient.list("")).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    let cancel = Cancel::new();
    let cancelled = store.with_cancel(cancel.clone());
    let started = Instant::now();
    let error = bench.runtime.block_on(async {
        let request = tokio::spawn(async move { cancelled.read("x", 10).await });
        tokio::task::yield_now().await;
        cancel.cancel();
        request.await.unwrap().unwrap_err()
    });
    assert!(matches!(error, Error::Cancelled), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn cancel_leaves_no_snapshot_and_no_lock() {
    let bench = Bench::new();
    let repo = bench.init();
    trees::plain(&bench.source(), 200, 1 << 20);
    // At the very start, and in the middle of the data.
    for until in [0, 20 << 20, 100 << 20] {
        let (progress, cancel) = (Progress::new(), Cancel::new());
        let (error, ended_in) = std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                let request = ArchiveRequest {
                    reread_all: true,
                    ..bench.request()
                };
                let result = ark_engine::archive(&repo, &request, &progress, &cancel);
                (result, Instant::now())
            });
            common::wait_until("data is read", || progress.snapshot().bytes_done >= until);
            let cancelled = Instant::now();
            cancel.cancel();
            let (result, ended) = run.join().unwrap();
            (result.unwrap_err(), ended - cancelled)
        });
        assert!(matches!(error, Error::Cancelled), "{error:?}");
        assert!(ended_in < Duration::from_secs(2), "{ended_in:?}");
        assert_eq!(repo.snapshots().unwrap(), []);
        assert_eq!(
            common::files(&bench.repo_dir().join("locks")),
            Vec::<std::path::PathBuf>::new()
        );
    }
    bench.restic().check();
    let report = bench.archive(&repo);
    bench.restore(&repo, &report.snapshot_id);
    common::compare::assert_same(&bench.source(), &bench.target());
}

#[test]
fn cancel_ends_a_restore() {
    let bench = Bench::new();
    let repo = bench.init();
    trees::plain(&bench.source(), 50, 1 << 20);
    let report = bench.archive(&repo);
    let (progress, cancel) = (Progress::new(), Cancel::new());
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let request = RestoreRequest {
                snapshot: report.snapshot_id.clone(),
                target: bench.target(),
                sparse: false,
                restore_owner: true,
            };
            ark_engine::restore(&repo, &request, &progress, &cancel)
        });
        common::wait_until("data is written", || {
            progress.snapshot().bytes_done > 3 << 20
        });
        cancel.cancel();
        run.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, Error::Cancelled), "{error:?}");
}

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
fn a_missing_source_or_target_is_an_error() {
    let bench = Bench::new();
    let repo = bench.init();
    let request = ArchiveRequest {
        source: bench.dir.path().join("none"),
        ..bench.request()
    };
    let error = archive(&repo, &request).unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error}");
    let report = bench.archive(&repo);
    let error = restore(&repo, &report.snapshot_id, &bench.dir.path().join("none")).unwrap_err();
    assert!(matches!(error, Error::Target { .. }), "{error}");
    let error = restore(&repo, "0123456789", &bench.target()).unwrap_err();
    assert!(matches!(error, Error::SnapshotNotFound { .. }), "{error}");
    bench.archive(&repo);
    let error = restore(&repo, "", &bench.target()).unwrap_err();
    assert!(matches!(error, Error::SnapshotNotFound { .. }), "{error}");
    let snapshots = repo.snapshots().unwrap();
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots[0].time <= snapshots[1].time);
}

#[test]
fn a_full_target_is_one_error() {
    let bench = Bench::new();
    fs::write(bench.source().join("big"), trees::noise(1, 8 << 20)).unwrap();
    let repo = bench.init();
    let report = bench.archive(&repo);
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(bench.target())
        .status()
        .unwrap();
    assert!(
        mounted.success(),
        "this test mounts a small tmpfs, which needs root"
    );
    let result = restore(&repo, &report.snapshot_id, &bench.target());
    let left = common::files(&bench.target());
    assert!(
        Command::new("umount")
            .arg(bench.target())
            .status()
            .unwrap()
            .success()
    );
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Target { .. }), "{error}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn other_file_systems_are_entered_only_if_asked_and_never_restored_into() {
    let bench = Bench::new();
    let inner = bench.source().join("inner");
    fs::create_dir(&inner).unwrap();
    let mount = |on: &std::path::Path| {
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
    let umount =
        |on: &std::path::Path| assert!(Command::new("umount").arg(on).status().unwrap().success());
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
