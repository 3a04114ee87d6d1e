//! Locks on a store that fails: a lock that is there is kept, and a cancel is heard whatever the
//! store does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ark_engine::{
    Cancel, Error, LockTiming, OpenOptions, Policy, Progress, Repository, Secret, Store,
    StreamRequest, archive_stream,
    storage::fault::{Fault, Faults, Operation},
};
use common::{
    PASSWORD,
    points::{Points, ends, impatient, open, open_store},
    request, wait_until,
};

/// A stream that ends when it is told to.
struct Held(Arc<dyn Fn() -> bool + Send + Sync>);

impl std::io::Read for Held {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        wait_until("the lock was refreshed often enough", || (self.0)());
        Ok(0)
    }
}

fn refreshed_often(store: Store, points: &Points) -> Repository {
    let options = OpenOptions {
        lock_timing: LockTiming {
            refresh: Duration::from_millis(20),
            overdue: Duration::from_mins(20),
            settle: Some(Duration::from_millis(1)),
            ..LockTiming::default()
        },
        ..OpenOptions::default()
    };
    let handle = points.bench.runtime.handle().clone();
    Repository::open(store, &[Secret::new(PASSWORD)], options, handle).unwrap()
}

#[test]
fn a_refresh_that_fails_does_not_lose_the_lock() {
    let points = Points::new();
    points.each(1, |points, _, dir| {
        let writes = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&writes);
        let faults = Faults::new(move |call| {
            let lock = call.operation == Operation::Write && call.path.starts_with("locks/");
            // The first is the lock itself; then two refreshes fail, with all their attempts.
            match lock.then(|| seen.fetch_add(1, Ordering::Relaxed)) {
                Some(1..=4) => Fault::Fail,
                _ => Fault::None,
            }
        });
        let store = open_store(&dir.join("repo"));
        let store = store.with_policy(impatient()).with_faults(&faults);
        let repo = refreshed_often(store, points);
        let counted = Arc::clone(&writes);
        let reader = Held(Arc::new(move || counted.load(Ordering::Relaxed) > 8));
        let request = StreamRequest {
            file_name: "stream".to_owned(),
            host: "host".to_owned(),
            allow_empty: true,
            ..StreamRequest::default()
        };
        let report =
            archive_stream(&repo, &request, reader, &Progress::new(), &Cancel::new()).unwrap();
        assert_eq!(report.errors, []);
        drop(repo);
        wait_until("all locks are gone", || {
            common::files(&dir.join("repo/locks")).is_empty()
        });
    });
}

/// Wherever an operation begins with a store that never answers, and with the patience of a real
/// one.
#[test]
fn a_cancel_is_heard_while_an_operation_begins() {
    let points = Points::new();
    let kinds = [
        (Operation::List, "locks"),
        (Operation::Write, "locks/"),
        (Operation::List, "snapshots"),
        (Operation::Read, "snapshots/"),
        (Operation::Read, "index/"),
    ];
    points.each(2 * kinds.len() as u64, |points, point, dir| {
        let kind = usize::try_from(point / 2).unwrap();
        let (restore, (operation, path)) = (point % 2 == 1, kinds[kind]);
        if restore && (operation, path) == (Operation::List, "snapshots") {
            // It asks for the one it wants.
            return;
        }
        let met = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&met);
        let faults = Faults::new(move |call| {
            if call.operation == operation && call.path.starts_with(path) {
                seen.fetch_add(1, Ordering::Relaxed);
                return Fault::Hang;
            }
            Fault::None
        });
        let handle = points.bench.runtime.handle().clone();
        let plain = open(open_store(&dir.join("repo")), &handle).unwrap();
        let snapshot = plain.snapshots().unwrap().remove(0).id;
        let policy = Policy {
            timeout: Duration::from_mins(10),
            ..impatient()
        };
        let store = open_store(&dir.join("repo"));
        let store = store.with_policy(policy).with_faults(&faults);
        let repo = open(store, &handle).unwrap();
        let (source, target) = (points.bench.source(), dir.join("target"));
        std::fs::create_dir(&target).unwrap();
        let cancel = Cancel::new();
        let cancelled = cancel.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("the store does not answer", || {
                    met.load(Ordering::Relaxed) > 0
                });
                cancel.cancel();
            });
            let result = ends(&format!("{operation:?} {path}"), move || {
                if restore {
                    let request = ark_engine::RestoreRequest {
                        snapshot,
                        target,
                        ..ark_engine::RestoreRequest::default()
                    };
                    ark_engine::restore(&repo, &request, &Progress::new(), &cancelled).map(drop)
                } else {
                    ark_engine::archive(&repo, &request(&source), &Progress::new(), &cancelled)
                        .map(drop)
                }
            });
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Cancelled), "{path}: {error}");
        });
    });
}
