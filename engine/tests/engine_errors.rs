//! What goes wrong is a typed error or a row, and never a snapshot that is not whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use ark_engine::{
    ArchiveRequest, Cancel, Class, Error, InitOptions, OpenOptions, Policy, Progress, Repository,
    RestoreRequest, Secret, Store, StoreConfig,
    maintain::{PruneRequest, prune},
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
        // None was ever made, perhaps.
        let locks = bench.repo_dir().join("locks");
        assert!(!locks.exists() || common::files(&locks).is_empty());
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
                ..RestoreRequest::default()
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

/// What is taken for forgotten must be said in full: a misspelt id would make the dry run's figures
/// wrong.
#[test]
fn a_prune_takes_only_full_ids_for_forgotten_and_only_in_a_dry_run() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 2, 1000);
    let repo = bench.init();
    let id = bench.archive(&repo).snapshot_id;
    let run = |dry_run, assume_forgotten: &[&str]| {
        let request = PruneRequest {
            dry_run,
            assume_forgotten: assume_forgotten.iter().map(ToString::to_string).collect(),
            ..PruneRequest::default()
        };
        prune(&repo, &request, &Progress::new(), &Cancel::new())
    };
    assert!(run(true, &[&id]).unwrap().deleted_bytes > 0);
    for (dry_run, ids, said) in [
        (true, [&id[..], &id[..8]], &id[..8]),
        (true, [&id, "no id"], "no id"),
        (true, [&id, ""], "full id"),
        (false, [&id, &id], "only a dry run"),
    ] {
        let error = run(dry_run, &ids).unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn a_missing_source_or_target_is_an_error() {
    let bench = Bench::new();
    let repo = bench.init();
    let request = ArchiveRequest {
        source: ark_engine::Source::Directory(bench.dir.path().join("none")),
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

/// Who can write to the store, and has no key, may put an old snapshot where a new one was.
#[test]
fn a_file_under_the_name_of_another_is_damaged() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 3, 1000);
    let repo = bench.init();
    let old = bench.archive(&repo).snapshot_id;
    trees::plain(&bench.source(), 6, 1000);
    let new = bench.archive(&repo).snapshot_id;
    let snapshots = bench.repo_dir().join("snapshots");
    fs::copy(snapshots.join(old), snapshots.join(&new)).unwrap();
    let error = repo.find_snapshot(&new).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    let error = restore(&repo, &new, &bench.target()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    fs::remove_file(snapshots.join(new)).unwrap();

    let index = bench.repo_dir().join("index");
    let files = common::files(&index);
    fs::copy(&files[0], &files[1]).unwrap();
    // A backup does without it, and who removes does not.
    archive(&repo, &bench.request()).unwrap();
    let left_out = repo.left_out();
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    let request = PruneRequest::default();
    let error = prune(&repo, &request, &Progress::new(), &Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

/// What is read ahead of a directory is not worth more than the directory.
#[test]
fn directories_before_the_end_of_a_cut_pack_are_restored() {
    let bench = Bench::new();
    let source = bench.source();
    for n in 0..30 {
        let dir = source.join(format!("dir {n:02}"));
        fs::create_dir(&dir).unwrap();
        trees::plain(&dir, 20, 3000);
    }
    let repo = bench.init();
    bench.archive(&repo);
    let packs = common::files(&bench.repo_dir().join("data"));
    let len = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let trees = packs.into_iter().min_by_key(len).unwrap();
    // A root of its own, in another pack; of the first one the end is lost, where its root was.
    fs::write(source.join("new"), "new").unwrap();
    let snapshot = bench.archive(&repo).snapshot_id;
    let file = fs::File::options().write(true).open(&trees).unwrap();
    file.set_len(len(&trees) - 200).unwrap();
    let report = restore(&repo, &snapshot, &bench.target()).unwrap();
    assert_eq!(report.errors, []);
    common::compare::assert_same(&source, &bench.target());
}

/// What is there and cannot be listed or read is never taken for empty or absent: a file in the
/// place of a directory, a link that leads nowhere, a directory that is gone.
#[test]
fn what_cannot_be_listed_is_not_empty() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 2, 1000);
    let repo = bench.init();
    bench.archive(&repo);
    let root = bench.repo_dir();
    let packs = common::files(&root.join("data"));
    let everything = PruneRequest {
        strays_older_than: Duration::ZERO,
        ..PruneRequest::default()
    };
    let pruned = || prune(&bench.open(), &everything, &Progress::new(), &Cancel::new());
    let store = bench.store();
    for dir in ["snapshots", "index", "data"] {
        let (path, kept) = (root.join(dir), bench.dir.path().join("kept"));
        fs::rename(&path, &kept).unwrap();
        for broken in ["a file", "a link to nowhere", "nothing at all"] {
            match broken {
                "a file" => fs::write(&path, "").unwrap(),
                "a link to nowhere" => {
                    std::os::unix::fs::symlink(bench.dir.path().join("unmounted"), &path).unwrap();
                }
                _ => {}
            }
            if broken != "nothing at all" {
                let listed = bench.runtime.block_on(store.list(dir));
                assert!(
                    matches!(listed, Err(Error::Store { .. })),
                    "{dir}: {broken}: {listed:?}"
                );
                let below = bench.runtime.block_on(store.stat(&format!("{dir}/x")));
                assert!(
                    matches!(below, Err(Error::Store { .. })),
                    "{dir}: {broken}: {below:?}"
                );
            }
            let done = pruned();
            assert!(done.is_err(), "{dir}: {broken}: {done:?}");
            if broken != "nothing at all" {
                fs::remove_file(&path).unwrap();
            }
        }
        fs::rename(&kept, &path).unwrap();
        assert_eq!(common::files(&root.join("data")), packs, "{dir}");
    }
    // A snapshot that is elsewhere, and out of reach.
    let file = common::files(&root.join("snapshots")).remove(0);
    fs::rename(&file, bench.dir.path().join("kept")).unwrap();
    std::os::unix::fs::symlink(bench.dir.path().join("unmounted"), &file).unwrap();
    assert!(matches!(pruned(), Err(Error::Store { .. })));
    assert_eq!(common::files(&root.join("data")), packs);
    fs::remove_file(&file).unwrap();
    // Really none: a directory without a snapshot.
    pruned().unwrap();
    assert_eq!(common::files(&root.join("data")).len(), 0);
}

/// What a dump that failed at once writes is no backup.
#[test]
fn a_stream_without_a_byte_is_no_backup_unless_asked_for() {
    let bench = Bench::new();
    let repo = bench.init();
    let run = |allow_empty, content: &[u8]| {
        let request = ark_engine::StreamRequest {
            file_name: "db.sql".to_owned(),
            host: "test".to_owned(),
            allow_empty,
            ..ark_engine::StreamRequest::default()
        };
        ark_engine::archive_stream(&repo, &request, content, &Progress::new(), &Cancel::new())
    };
    let error = run(false, b"").unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(repo.snapshots().unwrap(), []);
    run(false, b"x").unwrap();
    let empty = run(true, b"").unwrap();
    assert_eq!((empty.files, empty.bytes_total), (1, 0));
    assert_eq!(repo.snapshots().unwrap().len(), 2);
}

/// A proxy that wants somebody to log in, an error with status 200, an empty answer: none of them
/// is an empty bucket.
#[test]
fn an_answer_that_is_no_listing_is_no_empty_bucket() {
    use std::io::{Read as _, Write as _};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listing = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    for (answer, is_listing) in [
        (listing, true),
        ("<html><body>Log in to go on</body></html>", false),
        (
            "<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>",
            false,
        ),
        ("", false),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut request = [0; 8192];
                let mut length = 0;
                while !request[..length].windows(4).any(|end| end == b"\r\n\r\n") {
                    match client.read(&mut request[length..]) {
                        Ok(0) | Err(_) => break,
                        Ok(read) => length += read,
                    }
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    answer.len()
                );
                // Whoever asked may be gone.
                drop(client.write_all(format!("{head}{answer}").as_bytes()));
            }
        });
        let config = StoreConfig::S3 {
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
        };
        let policy = Policy {
            attempts: 2,
            first_wait: Duration::from_millis(1),
            ..Policy::default()
        };
        let store = Store::open(&config).unwrap().with_policy(policy);
        let listed = runtime.block_on(store.list("snapshots"));
        assert_eq!(listed.is_ok(), is_listing, "{answer:?}: {listed:?}");
    }
}
