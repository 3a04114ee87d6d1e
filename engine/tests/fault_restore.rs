//! A store that fails, at any request and in any way: a restore and a dump end in success or a
//! typed error, nothing outside the target is touched, and with a healthy store the same restore
//! makes the target right.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use ark_engine::{
    Cancel, Class, Progress, Repository, RestoreReport, RestoreRequest, Result,
    browse::dump,
    storage::fault::{Call, Fault, Faults},
};
use common::{
    compare::assert_same,
    faults::{mix, plan},
    files,
    points::{Points, ends, impatient, open, open_store},
    trees,
};

const POINTS: u64 = 72;

/// Of the file that is dumped.
const NAME: &str = "new 1";

/// Snapshots of an older state of the source, and of what it is.
struct Prepared {
    points: Points,
    older: String,
    newest: String,
}

fn prepared() -> Prepared {
    let points = Points::new();
    symlink("same", points.bench.source().join("link")).unwrap();
    let repo = points.bench.open();
    let newest = points.bench.archive(&repo).snapshot_id;
    let older = repo.snapshots().unwrap().remove(0).id;
    Prepared {
        points,
        older,
        newest,
    }
}

fn restore(repo: &Repository, snapshot: &str, target: &Path) -> Result<RestoreReport> {
    let request = RestoreRequest {
        snapshot: snapshot.to_owned(),
        target: target.to_owned(),
        delete_extra: true,
        restore_owner: true,
        ..RestoreRequest::default()
    };
    ark_engine::restore(repo, &request, &Progress::new(), &Cancel::new())
}

fn dump_one(repo: &Repository, snapshot: &str, out: &mut Vec<u8>) -> Result<u64> {
    let snapshot = repo.find_snapshot(snapshot)?;
    let path = Path::new("/").join(NAME);
    dump(
        repo,
        &snapshot,
        &path,
        out,
        &Progress::new(),
        &Cancel::new(),
    )
}

/// A target that is empty, has an older state, or has things that lead outside; and what must stay
/// as it is.
struct Place {
    dir: PathBuf,
    target: PathBuf,
    before: BTreeSet<PathBuf>,
}

impl Place {
    fn new(prepared: &Prepared, point: u64, dir: &Path) -> Self {
        let (target, outside) = (dir.join("target"), dir.join("outside"));
        fs::create_dir(&target).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "not the restore's").unwrap();
        match point % 3 {
            0 => {}
            1 => {
                let handle = prepared.points.bench.runtime.handle();
                let repo = open(open_store(&dir.join("repo")), handle).unwrap();
                restore(&repo, &prepared.older, &target).unwrap();
                fs::write(target.join("extra"), "to be deleted").unwrap();
                let same = fs::File::options().write(true).open(target.join("same"));
                same.unwrap().write_all_at(b"changed", 1 << 19).unwrap();
            }
            _ => {
                symlink("../outside", target.join("d1")).unwrap();
                fs::hard_link(outside.join("canary"), target.join("same")).unwrap();
                fs::write(target.join("new 0"), trees::noise(1, 1000)).unwrap();
            }
        }
        Self {
            before: regular(&target),
            dir: dir.to_owned(),
            target,
        }
    }

    /// Whatever happened: nothing outside was touched, and what is new is right.
    fn is_sound(&self, source: &Path, what: &str) {
        let names: BTreeSet<_> = fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        let expected = ["outside", "repo", "target"].map(Into::into);
        assert_eq!(names, expected.into(), "{what}");
        let outside = self.dir.join("outside");
        let canary = outside.join("canary");
        assert_eq!(fs::read(&canary).unwrap(), b"not the restore's", "{what}");
        assert_eq!(files(&outside), [canary], "{what}");
        // What was there before may be a mixture until the next restore.
        for name in regular(&self.target).difference(&self.before) {
            let content = fs::read(self.target.join(name)).unwrap();
            let right = fs::read(source.join(name)).unwrap();
            assert!(content == right, "{what}: {}", name.display());
        }
    }
}

/// Regular files below a directory, by their paths in it.
fn regular(dir: &Path) -> BTreeSet<PathBuf> {
    let below = |file: PathBuf| file.strip_prefix(dir).unwrap().to_owned();
    let regular = |file: &PathBuf| fs::symlink_metadata(file).unwrap().is_file();
    files(dir).into_iter().filter(regular).map(below).collect()
}

/// Requests of opening, and of what is done then, undisturbed.
fn calls<T>(prepared: &Prepared, work: impl FnOnce(&Repository) -> Result<T>) -> (u64, u64) {
    let faults = Faults::new(|_| Fault::None);
    let bench = &prepared.points.bench;
    let repo = open(bench.store().with_faults(&faults), bench.runtime.handle()).unwrap();
    let opened = faults.calls();
    work(&repo).unwrap();
    (opened, faults.calls() - opened)
}

/// Does something with a store that fails as planned.
fn disturbed<T: Send + 'static>(
    prepared: &Prepared,
    (what, dir): (&str, &Path),
    decide: impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static,
    work: impl FnOnce(&Repository) -> Result<T> + Send + 'static,
) -> Result<T> {
    let store = open_store(&dir.join("repo")).with_policy(impatient());
    let store = store.with_faults(&Faults::new(decide));
    let handle = prepared.points.bench.runtime.handle().clone();
    let done = ends(what, move || {
        open(store, &handle).and_then(|repo| work(&repo))
    });
    if let Err(error) = &done {
        assert!(error.class() != Class::Bug, "{what}: {error}");
        assert!(!error.hint().is_empty(), "{what}");
    }
    done
}

/// With a healthy store the same restore makes the target right.
fn goes_on(prepared: &Prepared, place: &Place, what: &str) {
    let bench = &prepared.points.bench;
    let repo = open(open_store(&place.dir.join("repo")), bench.runtime.handle()).unwrap();
    let report = restore(&repo, &prepared.newest, &place.target).unwrap();
    assert_eq!(report.errors, [], "{what}");
    assert_same(&bench.source(), &place.target);
    place.is_sound(&bench.source(), what);
}

#[test]
fn every_fault_ends_a_restore_and_the_next_one_makes_it_right() {
    let prepared = prepared();
    let empty = tempfile::tempdir().unwrap();
    let (opened, calls) = calls(&prepared, |repo| {
        restore(repo, &prepared.newest, empty.path())
    });
    assert!(calls > 10, "only {calls} requests");
    let [failed, partial, done] = [(); 3].map(|()| AtomicU64::new(0));
    prepared.points.each(POINTS, |points, point, dir| {
        let what = format!("point {point}");
        let place = Place::new(&prepared, point, dir);
        let (newest, target) = (prepared.newest.clone(), place.target.clone());
        // Some when it is opened, most later.
        let decide = match point % 8 {
            0 => plan(point, 0, opened),
            _ => plan(point, opened, calls),
        };
        let work = move |repo: &Repository| restore(repo, &newest, &target);
        let counter = match disturbed(&prepared, (&what, dir), decide, work) {
            Ok(report) if report.errors.is_empty() => {
                assert_same(&points.bench.source(), &place.target);
                &done
            }
            Ok(_) => &partial,
            Err(_) => &failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        place.is_sound(&points.bench.source(), &what);
        goes_on(&prepared, &place, &what);
    });
    let [failed, partial, done] = [failed, partial, done].map(AtomicU64::into_inner);
    assert!(
        failed >= POINTS / 10 && done >= POINTS / 10,
        "{failed} failed, {partial} in part, {done} did not"
    );
}

#[test]
fn every_fault_ends_a_dump_that_wrote_nothing_wrong() {
    let prepared = prepared();
    let right = fs::read(prepared.points.bench.source().join(NAME)).unwrap();
    let (opened, calls) = calls(&prepared, |repo| {
        dump_one(repo, &prepared.newest, &mut Vec::new())
    });
    assert!(calls > 5, "only {calls} requests");
    let (failed, done) = (AtomicU64::new(0), AtomicU64::new(0));
    prepared.points.each(POINTS, |_, point, dir| {
        let (what, newest) = (format!("point {point}"), prepared.newest.clone());
        let written = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&written);
        let work = move |repo: &Repository| dump_one(repo, &newest, &mut out.lock().unwrap());
        let result = disturbed(&prepared, (&what, dir), plan(point, opened, calls), work);
        let written = written.lock().unwrap();
        if let Ok(length) = result {
            assert_eq!(length, right.len() as u64, "{what}");
            assert!(*written == right, "{what}");
            done.fetch_add(1, Ordering::Relaxed);
        } else {
            assert!(right.starts_with(&written), "{what}");
            failed.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (failed, done) = (failed.into_inner(), done.into_inner());
    assert!(
        failed >= POINTS / 10 && done >= POINTS / 10,
        "{failed} failed, {done} did not"
    );
}

/// From one request on there is never an answer.
#[test]
fn a_store_that_falls_silent_ends_a_restore() {
    const SILENT: u64 = 12;
    let prepared = prepared();
    let empty = tempfile::tempdir().unwrap();
    let (opened, calls) = calls(&prepared, |repo| {
        restore(repo, &prepared.newest, empty.path())
    });
    let timeouts = AtomicU64::new(0);
    prepared.points.each(SILENT, |points, point, dir| {
        let what = format!("point {point}");
        let place = Place::new(&prepared, point, dir);
        let (newest, target) = (prepared.newest.clone(), place.target.clone());
        let at = opened + mix(point) % calls + 1;
        let decide = move |call: &Call<'_>| {
            if call.number < at {
                Fault::None
            } else {
                Fault::Hang
            }
        };
        let work = move |repo: &Repository| restore(repo, &newest, &target);
        if let Err(error) = disturbed(&prepared, (&what, dir), decide, work) {
            let timeout = matches!(error, ark_engine::Error::Timeout { .. });
            assert!(timeout, "{what}: {error}");
            timeouts.fetch_add(1, Ordering::Relaxed);
        }
        place.is_sound(&points.bench.source(), &what);
        goes_on(&prepared, &place, &what);
    });
    assert!(timeouts.into_inner() >= SILENT / 2);
}
