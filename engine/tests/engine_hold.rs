//! Several operations in a row on one open repository: under one lock, reading each document once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use ark_engine::{
    Cancel, Error, LockTiming, OpenOptions, Progress, Repository, Secret,
    maintain::{self, PruneRequest},
    storage::fault::{Fault, Faults, Operation},
};
use common::{Bench, PASSWORD, archive, restore, trees, wait_until};

/// How often each object was asked for in which way.
type Calls = Arc<Mutex<BTreeMap<(String, String), u32>>>;

fn counted(bench: &Bench, options: OpenOptions) -> (Repository, Calls) {
    let calls = Calls::default();
    let count = Arc::clone(&calls);
    let faults = Faults::new(move |call| {
        let operation = match call.operation {
            Operation::Read => "read",
            Operation::Write => "write",
            _ => "other",
        };
        let key = (operation.to_owned(), call.path.to_owned());
        *count.lock().unwrap().entry(key).or_default() += 1;
        Fault::None
    });
    let store = bench.store().with_faults(&faults);
    let handle = bench.runtime.handle().clone();
    let repo = Repository::open(store, &[Secret::new(PASSWORD)], options, handle).unwrap();
    (repo, calls)
}

fn how_often(calls: &Calls, operation: &str, below: &str) -> Vec<u32> {
    let calls = calls.lock().unwrap();
    let of = calls
        .iter()
        .filter(|((op, path), _)| op == operation && path.starts_with(below));
    of.map(|(_, times)| *times).collect()
}

fn locks(bench: &Bench) -> usize {
    let dir = bench.repo_dir().join("locks");
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn operations_in_a_row_are_under_one_lock_and_read_each_document_once() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 20, 1 << 16);
    bench.archive(&bench.init());
    let options = OpenOptions {
        remember: 1 << 20,
        ..OpenOptions::default()
    };
    let (repo, calls) = counted(&bench, options);
    let hold = repo.hold(&Cancel::new()).unwrap();
    let another = repo.hold(&Cancel::new()).unwrap();
    let mut last = String::new();
    for n in 0..4_u8 {
        fs::write(bench.source().join("new"), [n; 5000]).unwrap();
        last = archive(&repo, &bench.request()).unwrap().snapshot_id;
    }
    drop(hold);
    restore(&repo, &last, &bench.target()).unwrap();
    assert_eq!(
        fs::read(bench.target().join("new")).unwrap(),
        vec![3; 5000],
        "what the operations before wrote is seen"
    );
    assert_eq!(how_often(&calls, "write", "locks/"), [1]);
    for kind in ["index/", "snapshots/"] {
        let reads = how_often(&calls, "read", kind);
        assert!(reads.len() > 2, "{kind}: {reads:?}");
        assert!(reads.iter().all(|times| *times == 1), "{kind}: {reads:?}");
    }
    assert_eq!(locks(&bench), 1);
    another.release();
    assert_eq!(locks(&bench), 0);
    // Without it everything is as it was.
    archive(&repo, &bench.request()).unwrap();
    assert_eq!(how_often(&calls, "write", "locks/").len(), 2);
    assert_eq!(locks(&bench), 0);
}

#[test]
fn a_kept_lock_holds_off_whoever_must_be_alone_until_it_goes() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 5, 1 << 10);
    let repo = bench.init();
    bench.archive(&repo);
    let hold = repo.hold(&Cancel::new()).unwrap();
    let other = bench.open();
    let prune = || {
        let request = PruneRequest::default();
        maintain::prune(&other, &request, &Progress::new(), &Cancel::new()).map(drop)
    };
    let error = prune().unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    hold.release();
    prune().unwrap();
}

#[test]
fn a_kept_lock_that_somebody_removed_is_replaced_by_the_next() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 5, 1 << 10);
    bench.archive(&bench.init());
    let lock_timing = LockTiming {
        refresh: Duration::from_millis(20),
        ..LockTiming::default()
    };
    let repo = bench
        .open_with(OpenOptions {
            lock_timing,
            ..OpenOptions::default()
        })
        .unwrap();
    let lost = repo.hold(&Cancel::new()).unwrap();
    wait_until("another lock is kept", || {
        for file in common::files(&bench.repo_dir().join("locks")) {
            // It may be refreshed at this moment.
            drop(fs::remove_file(file));
        }
        let next = repo.hold(&Cancel::new()).unwrap();
        let replaced = format!("{next:?}") != format!("{lost:?}") && locks(&bench) > 0;
        drop(next);
        replaced
    });
    archive(&repo, &bench.request()).unwrap();
}

#[test]
fn a_repository_that_was_made_anew_at_its_place_is_not_taken_for_the_one_that_was_opened() {
    let bench = Bench::new();
    let repo = bench.init();
    fs::remove_dir_all(bench.repo_dir()).unwrap();
    fs::create_dir(bench.repo_dir()).unwrap();
    let error = repo.hold(&Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::NoRepository { .. }), "{error}");
    bench.init();
    let error = repo.hold(&Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::RepositoryChanged { .. }), "{error}");
    bench.open().hold(&Cancel::new()).unwrap().release();
}
