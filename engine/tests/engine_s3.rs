//! The store on S3, against a real MinIO: contract, errors, and a repository that restic can read.
//!
//! Needs MinIO's binary: `ARK_TEST_MINIO`, `minio` in `PATH`, or the cache that `cargo xtask`
//! fills.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{fs, process::Command, time::Duration};

use ark_engine::{
    Cancel, Class, Error, InitOptions, OpenOptions, Policy, Progress, Repository, Secret, Store,
    StoreConfig,
};
use common::{
    Bench, PASSWORD,
    compare::assert_same,
    minio::{KEY, MinIo, SECRET, config, minio, quick},
    proxy::{CLOSED, CUT, FLAKY, PASS, Proxy, SILENT},
    trees, wait_until,
};
use futures::TryStreamExt as _;

/// What every store must do, the local one as well.
async fn contract(store: &Store) {
    assert_eq!(store.list("").await.unwrap(), []);
    assert_eq!(store.list("none/at/all").await.unwrap(), []);
    assert_eq!(store.stat("a").await.unwrap(), None);
    assert_eq!(store.read("a", 10).await.unwrap(), None);
    store.delete("a").await.unwrap();
    assert!(matches!(
        store.read_range("a", 0, 1).await.unwrap_err(),
        Error::ObjectMissing { .. }
    ));
    assert!(matches!(
        store.stream("a").await.err().unwrap(),
        Error::ObjectMissing { .. }
    ));

    store.write("a", "12345".into()).await.unwrap();
    store.write("dir/b c+d&e=\u{e9}", "x".into()).await.unwrap();
    store.write("dir/sub/c", "".into()).await.unwrap();
    store.write("dir.d", "y".into()).await.unwrap();
    assert_eq!(store.read("a", 5).await.unwrap().unwrap(), "12345");
    assert!(matches!(
        store.read("a", 4).await.unwrap_err(),
        Error::ObjectTooLarge { limit: 4, .. }
    ));
    assert_eq!(store.read("dir/sub/c", 5).await.unwrap().unwrap(), "");
    assert_eq!(store.read("dir", 5).await.unwrap(), None);
    assert_eq!(store.stat("dir").await.unwrap(), None);
    assert_eq!(
        store.read("dir/b c+d&e=\u{e9}", 5).await.unwrap().unwrap(),
        "x"
    );
    assert_eq!(store.stat("a").await.unwrap().unwrap().size, 5);
    assert!(store.stat("a").await.unwrap().unwrap().modified.is_some());
    assert_eq!(store.read_range("a", 1, 3).await.unwrap(), "234");
    assert_eq!(store.read_range("a", 5, 0).await.unwrap(), "");
    for (offset, len) in [(3, 3), (5, 1), (100, 1), (u64::MAX - 1, 1)] {
        let error = store.read_range("a", offset, len).await.unwrap_err();
        assert!(
            matches!(error, Error::ObjectShort { .. }),
            "{offset} {len} {error:?}"
        );
        assert_ne!(error.class(), Class::Transient, "{error:?}");
    }
    store.write("a", "replaced".into()).await.unwrap();
    assert_eq!(store.read("a", 99).await.unwrap().unwrap(), "replaced");

    listings(store).await;
    conditional_and_large(store).await;
    for bad in BAD_PATHS {
        let error = store.read(bad, 1).await.unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }), "{bad:?}");
    }
    for name in [
        "a",
        "once",
        "race",
        "big",
        "huge",
        "huge2",
        "dir.d",
        "dir/sub/c",
    ] {
        store.delete(name).await.unwrap();
        assert_eq!(store.stat(name).await.unwrap(), None);
    }
}

const BAD_PATHS: &[&str] = &["", "/a", "a/", "a//b", "../a", "a/./b", "a/..", "a\0b"];

async fn listings(store: &Store) {
    let names = |entries: Vec<ark_engine::Entry>| {
        entries
            .into_iter()
            .map(|e| (e.name, e.is_dir, e.size))
            .collect::<Vec<_>>()
    };
    let entry = |name: &str, dir, size| (name.to_owned(), dir, size);
    assert_eq!(
        names(store.list("").await.unwrap()),
        [
            entry("a", false, 8),
            entry("dir", true, 0),
            entry("dir.d", false, 1)
        ]
    );
    let inside = [entry("b c+d&e=\u{e9}", false, 1), entry("sub", true, 0)];
    assert_eq!(names(store.list("dir").await.unwrap()), inside);
    assert_eq!(names(store.list("dir/").await.unwrap()), inside);
    assert_eq!(names(store.child("dir").list("").await.unwrap()), inside);
    assert_eq!(
        names(store.list_recursive("dir").await.unwrap()),
        [entry("b c+d&e=\u{e9}", false, 1), entry("sub/c", false, 0)]
    );
    assert_eq!(
        store
            .child("/dir/sub/")
            .read("c", 1)
            .await
            .unwrap()
            .unwrap(),
        ""
    );
}

async fn conditional_and_large(store: &Store) {
    assert!(store.write_if_absent("once", "first".into()).await.unwrap());
    assert!(
        !store
            .write_if_absent("once", "second".into())
            .await
            .unwrap()
    );
    assert_eq!(store.read("once", 10).await.unwrap().unwrap(), "first");
    let racers = (0..8).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.write_if_absent("race", vec![n].into()).await.unwrap() })
    });
    let won = futures::future::join_all(racers)
        .await
        .into_iter()
        .filter(|won| *won.as_ref().unwrap())
        .count();
    assert_eq!(won, 1);

    let big = trees::noise(1, 9 << 20);
    store.write("big", big.clone().into()).await.unwrap();
    let streamed: Vec<bytes::Bytes> = store
        .stream("big")
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(streamed.len() > 1);
    assert_eq!(streamed.concat(), big);
    let file = tempfile::NamedTempFile::new().unwrap();
    let huge = trees::noise(2, 40 << 20);
    fs::write(file.path(), &huge).unwrap();
    store.write_file("huge", file.path()).await.unwrap();
    assert!(store.read("huge", 40 << 20).await.unwrap().unwrap() == huge);
    store.write("huge2", huge.clone().into()).await.unwrap();
    assert_eq!(
        store.read_range("huge2", 39 << 20, 1 << 20).await.unwrap(),
        huge[39 << 20..]
    );
}

#[test]
fn contract_local() {
    let bench = Bench::new();
    bench.runtime.block_on(contract(&bench.store()));
    let left = common::files(&bench.repo_dir());
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn contract_s3() {
    let bench = Bench::new();
    bench.runtime.block_on(async {
        contract(&minio().store("contract/deep")).await;
        contract(&minio().store("/slashes/")).await;
    });
}

#[test]
fn more_objects_than_a_page() {
    let bench = Bench::new();
    let store = minio().store("pages");
    bench.runtime.block_on(async {
        let writes = (0..1100).map(|n| {
            let store = store.clone();
            async move { store.write(&format!("many/{n:05}"), "x".into()).await }
        });
        let all: Vec<()> = futures::StreamExt::buffer_unordered(futures::stream::iter(writes), 32)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(all.len(), 1100);
        let entries = store.list("many").await.unwrap();
        assert_eq!(entries.len(), 1100);
        assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name));
    });
}

#[test]
fn wrong_credentials_bucket_and_endpoint_are_told_apart() {
    let bench = Bench::new();
    let address = minio().address;
    let check = |config: StoreConfig| {
        let store = Store::open(&config).unwrap();
        bench.runtime.block_on(store.check())
    };
    check(config(address, "bucket", "", SECRET)).unwrap();
    let error = check(config(address, "bucket", "", "wrong-secret")).unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Waiting);
    assert!(!error.to_string().contains("wrong-secret"));
    let error = check(config(address, "no-such-bucket", "p", SECRET)).unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }), "{error:?}");
    for prefix in ["../up", "a//b"] {
        assert!(Store::open(&config(address, "bucket", prefix, SECRET)).is_err());
    }
    for endpoint in ["http://host/path", "http://user:pw@host", "ftp://host", ""] {
        let mut config = config(address, "bucket", "", SECRET);
        if let StoreConfig::S3 { endpoint: slot, .. } = &mut config {
            *slot = Some(endpoint.to_owned());
        }
        // An empty one means Amazon's.
        assert_eq!(
            Store::open(&config).is_err(),
            !endpoint.is_empty(),
            "{endpoint}"
        );
    }
    let mut bad = config(address, "bucket", "", SECRET);
    if let StoreConfig::S3 { ca_cert, .. } = &mut bad {
        *ca_cert = Some(b"not a certificate".to_vec());
    }
    assert!(matches!(
        Store::open(&bad).unwrap_err(),
        Error::InvalidConfig { .. }
    ));
}

fn init(bench: &Bench, store: Store) -> Repository {
    let options = InitOptions {
        random_password: true,
        ..InitOptions::default()
    };
    Repository::init(
        store,
        &Secret::new(PASSWORD),
        options,
        bench.runtime.handle().clone(),
    )
    .unwrap()
}

#[test]
fn a_repository_on_s3_and_restic() {
    let bench = Bench::new();
    trees::everything(&bench.source());
    let store = minio().store("repo").child("restic/ns");
    let repo = init(&bench, store.clone());
    let report = bench.archive(&repo);
    assert_eq!(report.errors, []);
    let again = bench.archive(&repo);
    assert!(again.bytes_new < 100_000, "{again:?}");
    bench.restore(&repo, &report.snapshot_id);
    assert_same(&bench.source(), &bench.target());
    assert!(
        ark_engine::check(&repo, true, &Cancel::new())
            .unwrap()
            .is_ok()
    );
    let out = Command::new("restic")
        .args([
            "--repo",
            &format!("s3:http://{}/bucket/repo/restic/ns", minio().address),
            "--no-cache",
            "check",
            "--read-data",
        ])
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", common::restic::text(&out));
    let handle = bench.runtime.handle().clone();
    let again = Repository::init(
        store,
        &Secret::new(PASSWORD),
        InitOptions::default(),
        handle,
    );
    assert!(matches!(again.unwrap_err(), Error::AlreadyExists { .. }));
}

#[test]
fn passing_failures_are_repeated_and_lasting_ones_are_typed() {
    let bench = Bench::new();
    let proxy = Proxy::start();
    let store = proxy.store("proxy");
    bench.runtime.block_on(async {
        let data = trees::noise(4, 1 << 20);
        store.write("x", data.clone().into()).await.unwrap();
        proxy.set(FLAKY);
        for n in 0..10 {
            store
                .write(&format!("flaky/{n}"), "y".into())
                .await
                .unwrap();
        }
        proxy.set(CUT);
        let error = store.read("x", 2 << 20).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{error:?}");
        let error = store.read_range("x", 0, 1 << 20).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{error:?}");
        proxy.set(PASS);
        assert!(store.read("x", 2 << 20).await.unwrap().unwrap() == data);
        proxy.set(SILENT);
        let impatient = store.with_policy(Policy {
            timeout: Duration::from_millis(200),
            ..quick()
        });
        let error = impatient.list("").await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{error:?}");
        proxy.set(CLOSED);
        let error = store.list("flaky").await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{error:?}");
    });
}

#[test]
fn a_store_lost_in_the_middle_leaves_no_snapshot() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 120, 1 << 20);
    let proxy = Proxy::start();
    let repo = init(&bench, proxy.store("lost"));
    for mode in [CLOSED, SILENT] {
        proxy.set(PASS);
        let store = proxy.store("lost").with_policy(Policy {
            timeout: Duration::from_secs(1),
            ..quick()
        });
        let handle = bench.runtime.handle().clone();
        let run = Repository::open(
            store,
            &[Secret::new(PASSWORD)],
            OpenOptions::default(),
            handle,
        )
        .unwrap();
        let progress = Progress::new();
        let error = std::thread::scope(|scope| {
            let run = scope
                .spawn(|| ark_engine::archive(&run, &bench.request(), &progress, &Cancel::new()));
            wait_until("some is uploaded", || {
                progress.snapshot().bytes_uploaded > 0 || run.is_finished()
            });
            proxy.set(mode);
            run.join().unwrap().unwrap_err()
        });
        assert_eq!(error.class(), Class::Transient, "{error:?}");
    }
    proxy.set(PASS);
    assert_eq!(repo.snapshots().unwrap(), []);
    // Locks of the lost runs are left; they are shared ones of another holder, and do not stop
    // this.
    let report = bench.archive(&repo);
    bench.restore(&repo, &report.snapshot_id);
    assert_same(&bench.source(), &bench.target());
}

#[test]
fn cancel_ends_a_backup_to_a_silent_store() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 60, 1 << 20);
    let proxy = Proxy::start();
    let repo = init(&bench, proxy.store("silent"));
    let (progress, cancel) = (Progress::new(), Cancel::new());
    std::thread::scope(|scope| {
        let run = scope.spawn(|| ark_engine::archive(&repo, &bench.request(), &progress, &cancel));
        wait_until("some is read", || progress.snapshot().bytes_done > 0);
        proxy.set(SILENT);
        cancel.cancel();
        let started = std::time::Instant::now();
        let error = run.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error:?}");
        // The lock's removal is tried as well, within the limits of one request.
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{:?}",
            started.elapsed()
        );
    });
    proxy.set(PASS);
    assert_eq!(repo.snapshots().unwrap(), []);
}

#[test]
fn tls_with_a_private_ca_or_unchecked() {
    let names = vec!["127.0.0.1".to_owned()];
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let leaf = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let server = MinIo::start_tls(&leaf.pem(), &key.serialize_pem());
    let bench = Bench::new();
    let check = |trusted: Option<&str>, unchecked: bool| {
        let mut config = config(server.address, "bucket", "tls", SECRET);
        if let StoreConfig::S3 {
            endpoint,
            ca_cert,
            insecure_skip_tls_verify,
            ..
        } = &mut config
        {
            *endpoint = Some(format!("https://{}", server.address));
            *ca_cert = trusted.map(|pem| pem.as_bytes().to_vec());
            *insecure_skip_tls_verify = unchecked;
        }
        let store = Store::open(&config).unwrap().with_policy(quick());
        bench.runtime.block_on(store.check())
    };
    wait_until("MinIO is ready", || check(Some(&ca_pem), false).is_ok());
    check(None, true).unwrap();
    let error = check(None, false).unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { message, .. } if message.contains("certificate")),
        "{error:?}"
    );
}
