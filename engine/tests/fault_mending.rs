//! Killed (SIGKILL) at every write and removal of a copy to another repository and of a repair of
//! snapshots, and at seeded moments around them: what is left is no worse than before, and the work
//! can be done again, without doing anything twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ark_engine::{
    Cancel, Error, OpenOptions, Outcome, Progress, Repository, Result, Secret, check,
    maintain::{
        CopyReport, CopyRequest, Mending, RepairSnapshotsReport, RepairSnapshotsRequest, copy,
        repair_index, repair_snapshots,
    },
    storage::fault::{Fault, Faults, Operation},
};
use common::{
    Bench, PASSWORD, files,
    killed::{self, Told, open},
    points::{Points, open_store},
    restic::Restic,
    restore, trees,
};
use tokio::runtime::Handle;

/// The test that is the child.
const CHILD: &str = "child_works_and_kills_itself";
/// Works of the child.
const COPY: usize = 0;
const REPAIR: usize = 1;
const REPAIR_AND_FORGET: usize = 2;

#[test]
#[ignore = "run by the other tests"]
fn child_works_and_kills_itself() {
    let told = Told::get();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let root = told.dir.join("repo");
    let repo = open(&root, Some(&told.faults), PASSWORD, runtime.handle()).unwrap();
    match told.work {
        COPY => drop(copied(&source(&told.dir, runtime.handle()), &repo).unwrap()),
        work => drop(repaired(&repo, work == REPAIR_AND_FORGET, false).unwrap()),
    }
    told.ended();
}

/// Runs at every change and some moments more; `look` sees what each left.
fn killed_anywhere(
    work: usize,
    bench: Bench,
    seeded: u64,
    look: impl Fn(&Bench, &Repository, &Path, u64) + Sync,
) {
    let all = Points::of(bench);
    let whole = all.bench.dir.path().join("undisturbed");
    let changes = killed::undisturbed(CHILD, work, &all.bench.repo_dir(), &whole);
    // Its lock and what takes that away, packs, an index, snapshots.
    assert!(changes >= 6, "{changes}");
    let died = AtomicU64::new(0);
    all.each(changes + seeded, |all, point, dir| {
        let moment = killed::moment(point, changes);
        let status = killed::child(CHILD, work, dir, moment);
        if status.signal() == Some(9) {
            died.fetch_add(1, Ordering::Relaxed);
        } else {
            assert!(status.success() && moment.1 > 0, "{moment:?}: {status}");
        }
        let root = dir.join("repo");
        let repo = open(&root, None, PASSWORD, all.bench.runtime.handle()).unwrap();
        // Whose lock it was is over, which nobody can know here for half an hour.
        repo.unlock(true, &Cancel::new()).unwrap();
        look(&all.bench, &repo, &root, point);
    });
    let died = died.into_inner();
    assert!(died >= changes, "only {died} were killed");
}

/// The repository to copy from, which is beside those that are killed.
fn source(dir: &Path, handle: &Handle) -> Repository {
    let options = OpenOptions {
        no_lock: true,
        ..OpenOptions::default()
    };
    let store = open_store(&dir.parent().unwrap().join("from"));
    Repository::open(store, &[Secret::new(PASSWORD)], options, handle.clone()).unwrap()
}

fn copied(from: &Repository, to: &Repository) -> Result<CopyReport> {
    let request = CopyRequest::new(from.snapshots()?);
    copy(from, to, &request, &Progress::new(), &Cancel::new())
}

/// Four snapshots in a repository beside; the first of them was copied.
fn to_be_copied() -> Bench {
    let bench = Bench::in_memory();
    let repo = bench.init();
    for round in 0..4 {
        trees::plain(&bench.source(), 5 + round, 40_000 + round);
        bench.archive(&repo);
    }
    let from = bench.dir.path().join("from");
    fs::rename(bench.repo_dir(), &from).unwrap();
    fs::create_dir(bench.repo_dir()).unwrap();
    let to = bench.init();
    let from = source(&bench.repo_dir(), bench.runtime.handle());
    let first = CopyRequest::new(from.snapshots().unwrap()[..1].to_vec());
    copy(&from, &to, &first, &Progress::new(), &Cancel::new()).unwrap();
    bench
}

#[test]
fn a_copy_killed_anywhere() {
    let bench = to_be_copied();
    let handle = bench.runtime.handle().clone();
    let all = check(&source(&bench.repo_dir(), &handle), true, &Cancel::new());
    let all = all.unwrap();
    assert!(all.is_ok() && all.duplicate_blobs == 0, "{all:?}");
    killed_anywhere(COPY, bench, 20, |bench, repo, root, point| {
        let left = check(repo, true, &Cancel::new()).unwrap();
        assert!(left.is_ok(), "{point}: {left:?}");
        let from = source(&bench.repo_dir(), bench.runtime.handle());
        let report = copied(&from, repo).unwrap_or_else(|why| panic!("{point}: {why}"));
        // What an index named was not copied again.
        assert_eq!(left.blobs + report.blobs, all.blobs, "{point}");
        let whole = check(repo, true, &Cancel::new()).unwrap();
        assert!(whole.is_ok(), "{point}: {whole:?}");
        let counts = (whole.blobs, whole.duplicate_blobs, whole.unused_blobs);
        assert_eq!(counts, (all.blobs, 0, 0), "{point}");
        let snapshots = repo.snapshots().unwrap();
        let sources: Vec<_> = from.snapshots().unwrap();
        let trees = |list: &[ark_engine::Snapshot]| -> Vec<(String, jiff::Timestamp)> {
            list.iter().map(|s| (s.tree.clone(), s.time)).collect()
        };
        assert_eq!(trees(&snapshots), trees(&sources), "{point}");
        if point % 8 == 0 {
            Restic::newest(root).check();
        }
        let again = copied(&from, repo).unwrap();
        assert_eq!(again.blobs, 0, "{point}");
        assert!(again.snapshots.iter().all(|one| one.was_there), "{point}");
    });
}

fn repaired(repo: &Repository, forget: bool, dry_run: bool) -> Result<RepairSnapshotsReport> {
    let request = RepairSnapshotsRequest {
        forget,
        dry_run,
        ..RepairSnapshotsRequest::new(repo.snapshots()?)
    };
    repair_snapshots(repo, &request, &Progress::new(), &Cancel::new())
}

/// Six snapshots. Of two the content that came with them is gone, of one of these also directories;
/// later ones need some of it.
fn broken() -> Bench {
    let bench = Bench::in_memory();
    let repo = bench.init();
    let mut gone: Vec<PathBuf> = Vec::new();
    let mut known: BTreeSet<PathBuf> = BTreeSet::new();
    for round in 0..6 {
        let dir = bench.source().join(format!("round{round}"));
        trees::plain(&dir, 9, 20_000 + round * 7);
        fs::write(
            bench.source().join("changes"),
            trees::noise(round as u64, 30_000),
        )
        .unwrap();
        bench.archive(&repo);
        let all: BTreeSet<PathBuf> = files(&bench.repo_dir().join("data")).into_iter().collect();
        let mut new: Vec<PathBuf> = all.difference(&known).cloned().collect();
        known = all;
        new.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
        assert_eq!(new.len(), 2, "one of directories, one of content");
        if round == 2 {
            gone.extend(new.pop());
        }
        if round == 4 {
            gone.extend(new);
        }
    }
    for pack in gone {
        fs::remove_file(pack).unwrap();
    }
    let report = repair_index(&repo, false, false, &Cancel::new()).unwrap();
    assert_eq!(report.packs_missing, 3);
    bench
}

/// Which trees took the place of which damaged snapshots; `None` where nothing is left.
type Mended = BTreeMap<String, Option<String>>;

fn mended(repo: &Repository) -> Mended {
    let trees: BTreeMap<String, String> = repo
        .snapshots()
        .unwrap()
        .into_iter()
        .map(|snapshot| (snapshot.id, snapshot.tree))
        .collect();
    let report = repaired(repo, false, false).unwrap();
    let of = |one: &ark_engine::maintain::RepairedSnapshot| match &one.mending {
        Mending::RootLost => None,
        Mending::Mended { id, .. } => {
            let id = id.as_ref().unwrap();
            let known = trees.get(id).cloned();
            Some(known.unwrap_or_else(|| repo.find_snapshot(id).unwrap().tree))
        }
    };
    let snapshots = report.snapshots.iter();
    snapshots
        .map(|one| (one.snapshot.id.clone(), of(one)))
        .collect()
}

/// Snapshots that have no errors when they are restored.
fn sound(repo: &Repository, dir: &Path) -> BTreeSet<String> {
    let snapshots = repo.snapshots().unwrap().into_iter();
    let whole = |id: &String| {
        let target = tempfile::tempdir_in(dir).unwrap();
        restore(repo, id, target.path()).is_ok_and(|done| done.outcome() == Outcome::Complete)
    };
    snapshots.map(|s| s.id).filter(whole).collect()
}

fn a_repair_killed_anywhere(forget: bool, seeded: u64) {
    let bench = broken();
    let expected = bench.dir.path().join("expected");
    common::points::copy(&bench.repo_dir(), &expected);
    let handle = bench.runtime.handle().clone();
    let before = sound(&bench.open(), bench.dir.path());
    let expected = mended(&open(&expected, None, PASSWORD, &handle).unwrap());
    let damaged = expected.len();
    let lost = expected.values().filter(|tree| tree.is_none()).count();
    assert_eq!((before.len(), damaged, lost), (2, 4, 1), "{expected:?}");
    let work = if forget { REPAIR_AND_FORGET } else { REPAIR };
    killed_anywhere(work, bench, seeded, |bench, repo, root, point| {
        // What was whole is whole, and what is new is.
        let left = sound(repo, root);
        assert!(left.is_superset(&before), "{point}");
        let there = repo.snapshots().unwrap();
        for snapshot in &there {
            let is_new = snapshot.original.is_some();
            assert_eq!(
                is_new || before.contains(&snapshot.id),
                left.contains(&snapshot.id),
                "{point}"
            );
        }
        // None is gone without another in its place.
        for (id, tree) in &expected {
            let stays = there.iter().any(|snapshot| snapshot.id == *id);
            let of_it = |s: &&ark_engine::Snapshot| s.original.as_ref() == Some(id);
            let replaced = there.iter().find(of_it);
            assert!(stays || forget, "{point}");
            assert!(stays || tree.is_none() || replaced.is_some(), "{point}");
            if let Some(replaced) = replaced {
                assert_eq!(Some(&replaced.tree), tree.as_ref(), "{point}");
            }
        }
        let dry = repaired(repo, forget, true).unwrap();
        let again = repaired(repo, forget, false).unwrap();
        assert_eq!(dry.snapshots.len(), again.snapshots.len(), "{point}");
        assert_eq!(dry.directories, again.directories, "{point}");
        let there = repo.snapshots().unwrap();
        let new = there
            .iter()
            .filter(|snapshot| snapshot.original.is_some())
            .count();
        assert_eq!(new, damaged - lost, "{point}: each once");
        let all = if forget { 2 + new } else { 2 + damaged + new };
        assert_eq!(there.len(), all, "{point}");
        let found = check(repo, true, &Cancel::new()).unwrap();
        assert_eq!(found.is_ok(), forget, "{point}: {found:?}");
        assert_eq!(found.duplicate_blobs, 0, "{point}");
        if forget && point % 6 == 0 {
            Restic::newest(root).check();
        }
        // And backups go on.
        common::archive(repo, &common::request(&bench.source())).unwrap();
    });
}

#[test]
fn a_repair_that_keeps_killed_anywhere() {
    a_repair_killed_anywhere(false, 15);
}

#[test]
fn a_repair_that_forgets_killed_anywhere() {
    a_repair_killed_anywhere(true, 15);
}

/// A store that refuses some reads of packs, or says they are not there: an error, and no repair.
#[test]
fn what_a_store_says_is_no_loss() {
    let bench = Bench::in_memory();
    let repo = bench.init();
    trees::plain(&bench.source(), 9, 20_000);
    bench.archive(&repo);
    let before = files(&bench.repo_dir());
    let handle = bench.runtime.handle();
    for fault in [Fault::Fail, Fault::Refuse, Fault::Truncate] {
        let hit = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&hit);
        let faults = Faults::new(move |call| {
            let pack = call.operation == Operation::Read && call.path.starts_with("data/");
            if !pack {
                return Fault::None;
            }
            counted.fetch_add(1, Ordering::Relaxed);
            fault
        });
        let store = open_store(&bench.repo_dir())
            .with_policy(common::minio::quick())
            .with_faults(&faults);
        let options = OpenOptions::default();
        let passwords = [Secret::new(PASSWORD)];
        let repo = Repository::open(store, &passwords, options, handle.clone()).unwrap();
        let error = repaired(&repo, true, false).unwrap_err();
        assert!(!matches!(error, Error::Bug(_)), "{error}");
        assert!(hit.load(Ordering::Relaxed) > 0);
        assert_eq!(files(&bench.repo_dir()), before, "{fault:?}");
    }
    // A pack is away that the index names: that is for the index to say.
    let pack = files(&bench.repo_dir().join("data")).pop().unwrap();
    let away = bench.dir.path().join("away");
    fs::rename(&pack, &away).unwrap();
    let error = repaired(&bench.open(), true, false).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.hint().contains("index"), "{}", error.hint());
    fs::rename(&away, &pack).unwrap();
    assert_eq!(files(&bench.repo_dir()), before);
    assert_eq!(repaired(&bench.open(), true, false).unwrap().sound, 1);
}
