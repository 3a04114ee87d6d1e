//! A store that fails, at any request and in any way: a backup ends in success or a typed error,
//! and what is there afterwards is whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ark_engine::{
    Cancel, Class, Error, Progress, Repository, Result, StreamRequest, archive_stream, check,
    maintain::{PruneRequest, prune},
    storage::fault::{Fault, Faults, Operation},
};
use common::{
    faults::plan,
    points::{Points, backup, ends, impatient, open, open_store},
    restore,
};

const POINTS: u64 = 300;

/// Requests of an undisturbed backup.
fn calls(points: &Points) -> u64 {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    points.each(1, move |points, _, dir| {
        let faults = Faults::new(|_| Fault::None);
        let store = open_store(&dir.join("repo")).with_faults(&faults);
        let repo = open(store, points.bench.runtime.handle()).unwrap();
        backup(&repo, &points.bench.source()).unwrap();
        counted.store(faults.calls(), Ordering::Relaxed);
    });
    calls.load(Ordering::Relaxed)
}

#[test]
fn every_fault_leaves_the_repository_whole() {
    let calls = calls(&Points::new());
    assert!(calls > 15, "only {calls} requests");
    let points = Points::new();
    let (failed, done) = (AtomicU64::new(0), AtomicU64::new(0));
    points.each(POINTS, |points, point, dir| {
        let (source, handle) = (points.bench.source(), points.bench.runtime.handle().clone());
        let faults = Faults::new(plan(point, 0, calls));
        let store = open_store(&dir.join("repo"));
        let store = store.with_policy(impatient()).with_faults(&faults);
        let result = ends(&format!("point {point}"), move || {
            open(store, &handle).and_then(|repo| backup(&repo, &source))
        });
        match result {
            Ok(report) => {
                done.fetch_add(1, Ordering::Relaxed);
                // It is there, and it is what the source is.
                let repo = open(open_store(&dir.join("repo")), points.bench.runtime.handle());
                let snapshot = repo.unwrap().find_snapshot(&report.snapshot_id);
                assert_eq!(snapshot.unwrap().id, report.snapshot_id, "point {point}");
                assert_eq!(report.errors, [], "point {point}");
            }
            Err(error) => {
                failed.fetch_add(1, Ordering::Relaxed);
                assert!(error.class() != Class::Bug, "point {point}: {error}");
                assert!(!error.hint().is_empty());
            }
        }
        points.is_whole(point, dir);
    });
    let (failed, done) = (failed.into_inner(), done.into_inner());
    assert!(
        failed >= POINTS / 10 && done >= POINTS / 10,
        "{failed} failed, {done} did not"
    );
}

/// Around the one write that counts: lost before, the snapshot is not there; lost after, it is,
/// whole, although the backup says that it failed.
#[test]
fn the_connection_is_lost_around_the_snapshot() {
    let points = Points::new();
    points.each(8, |points, point, dir| {
        let after = point % 2 == 1;
        let dead = AtomicBool::new(false);
        let faults = Faults::new(move |call| {
            let snapshot =
                call.operation == Operation::Write && call.path.starts_with("snapshots/");
            if snapshot && !dead.swap(true, Ordering::Relaxed) && after {
                return Fault::Lost;
            }
            if dead.load(Ordering::Relaxed) {
                Fault::Fail
            } else {
                Fault::None
            }
        });
        let store = open_store(&dir.join("repo"));
        let store = store.with_policy(impatient()).with_faults(&faults);
        let (source, handle) = (points.bench.source(), points.bench.runtime.handle().clone());
        let result = ends("a lost connection", move || {
            open(store, &handle).and_then(|repo| backup(&repo, &source))
        });
        assert_eq!(result.unwrap_err().class(), Class::Transient);
        let snapshots = std::fs::read_dir(dir.join("repo/snapshots"))
            .unwrap()
            .count();
        assert_eq!(snapshots, if after { 2 } else { 1 });
        points.is_whole(point, dir);
    });
}

/// The time a request may take follows from what it moves, not from the most it could.
#[test]
fn a_file_that_never_comes_is_waited_for_as_long_as_its_size_asks() {
    type Work = fn(&Repository, &Path) -> Result<()>;
    let archive: Work = |repo, source| backup(repo, source).map(drop);
    let checked: Work = |repo, _| check(repo, true, &Cancel::new()).map(drop);
    let pruned: Work = |repo, _| {
        let (request, progress) = (PruneRequest::default(), Progress::new());
        prune(repo, &request, &progress, &Cancel::new()).map(drop)
    };
    let found: Work = |repo, _| repo.find_snapshot(&"0".repeat(64)).map(drop);
    let all = [
        ("index/", archive),
        ("snapshots/", archive),
        ("index/", checked),
        ("snapshots/", checked),
        ("data/", checked),
        ("index/", pruned),
        ("snapshots/", pruned),
    ];
    let points = Points::new();
    let handle = points.bench.runtime.handle();
    let nothing = found(&open(points.bench.store(), handle).unwrap(), Path::new(""));
    assert!(matches!(nothing, Err(Error::SnapshotNotFound { .. })));
    points.each(all.len() as u64, |points, point, dir| {
        let (kind, work) = all[usize::try_from(point).unwrap()];
        let faults = Faults::new(move |call| {
            if call.operation == Operation::Read && call.path.starts_with(kind) {
                Fault::Hang
            } else {
                Fault::None
            }
        });
        let policy = ark_engine::Policy {
            min_bytes_per_second: 1 << 20,
            ..impatient()
        };
        let store = open_store(&dir.join("repo"));
        let store = store.with_policy(policy).with_faults(&faults);
        let (source, handle) = (points.bench.source(), points.bench.runtime.handle().clone());
        let result = ends(&format!("point {point}, {kind}"), move || {
            open(store, &handle).and_then(|repo| work(&repo, &source))
        });
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{point}: {error}");
    });
}

/// Whichever thread panics, the operation ends with an error: nobody waits for what the thread
/// would have done.
#[test]
fn a_panic_on_any_thread_ends_the_operation() {
    const LATER: u64 = 4;
    struct Panicking;
    impl std::io::Read for Panicking {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("a reader that panics, on purpose")
        }
    }
    let points = Points::new();
    let panicked = AtomicU64::new(0);
    points.each(2 + LATER, |points, point, dir| {
        let left = AtomicU64::new(point.saturating_sub(2));
        let faults = Faults::new(move |call| {
            let wanted = match point {
                0 => Some(Operation::Write),
                1 => None,
                _ => Some(Operation::Read),
            };
            let hit = Some(call.operation) == wanted && call.path.starts_with("data/");
            let now = hit
                && left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    .is_err();
            assert!(!now, "a store that panics, on purpose");
            Fault::None
        });
        let store = open_store(&dir.join("repo")).with_faults(&faults);
        let repo = open(store, points.bench.runtime.handle()).unwrap();
        let (source, target) = (points.bench.source(), dir.join("panics"));
        std::fs::create_dir(&target).unwrap();
        let result = ends("a panic", move || match point {
            0 => backup(&repo, &source).map(drop),
            1 => {
                let (request, progress) = (StreamRequest::default(), Progress::new());
                archive_stream(&repo, &request, Panicking, &progress, &Cancel::new()).map(drop)
            }
            _ => {
                let newest = repo.snapshots().unwrap().pop().unwrap().id;
                restore(&repo, &newest, &target).map(drop)
            }
        });
        if let Err(error) = result {
            panicked.fetch_add(1, Ordering::Relaxed);
            assert_eq!(error.class(), Class::Bug, "point {point}: {error}");
            assert!(error.to_string().contains("panicked"), "{error}");
        } else {
            // There were not so many reads.
            assert!(point > 2);
        }
        points.is_whole(point, dir);
    });
    // The writer, the reader, and reads of directories as well as of content.
    assert!(panicked.into_inner() >= 4);
}
