//! Killed (SIGKILL) at every write and removal of a prune, a forget and a change of keys, and at
//! seeded moments around them: what is left is whole, can be opened and restored, and the work can
//! be done again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use ark_engine::{
    Cancel, NewKey, Progress, Repository, Result, Secret, Snapshot, check,
    maintain::{Forget, PruneRequest, Unused, forget, prune},
};
use common::{
    Bench, PASSWORD,
    compare::assert_same,
    files,
    killed::{self, Told, open},
    points::Points,
    restic::Restic,
    restore, trees,
};
use tokio::runtime::Handle;

/// A password that is added, removed, or takes the place of the first.
const OTHER: &str = "another password";
/// The test that is the child.
const CHILD: &str = "child_works_and_kills_itself";

/// What is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Prune,
    Forget,
    AddKey,
    RemoveKey,
    ChangePassword,
}

impl Work {
    const ALL: [Self; 5] = [
        Self::Prune,
        Self::Forget,
        Self::AddKey,
        Self::RemoveKey,
        Self::ChangePassword,
    ];

    fn run(self, repo: &Repository) -> Result<()> {
        let cancel = Cancel::new();
        match self {
            Self::Prune => {
                let request = PruneRequest {
                    max_unused: Unused::Bytes(0),
                    strays_older_than: std::time::Duration::ZERO,
                    ..PruneRequest::default()
                };
                prune(repo, &request, &Progress::new(), &cancel).map(drop)
            }
            Self::Forget => {
                let old = repo.snapshots()?.into_iter().filter(goes);
                let old = old.map(|snapshot| snapshot.id).collect();
                forget(repo, &Forget::Ids(old), false, &cancel).map(drop)
            }
            Self::AddKey => repo.add_key(&other(), &cancel).map(drop),
            Self::RemoveKey => {
                let keys = repo.keys()?;
                let second = keys.iter().find(|key| !key.current);
                // Gone already, when it is done again.
                second.map_or(Ok(()), |key| repo.remove_key(&key.id, &cancel).map(drop))
            }
            Self::ChangePassword => repo.change_password(&other(), &cancel).map(drop),
        }
    }
}

fn other() -> NewKey {
    NewKey {
        random_password: true,
        ..NewKey::new(Secret::new(OTHER))
    }
}

/// Every other snapshot is to be forgotten.
fn goes(snapshot: &Snapshot) -> bool {
    snapshot.tags.contains(&"goes".to_owned())
}

/// Does its work and kills itself at a write or removal, named by its number, or so many
/// microseconds later.
#[test]
#[ignore = "run by the other tests"]
fn child_works_and_kills_itself() {
    let told = Told::get();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let root = told.dir.join("repo");
    let repo = open(&root, Some(&told.faults), PASSWORD, runtime.handle()).unwrap();
    Work::ALL[told.work].run(&repo).unwrap();
    told.ended();
}

/// Eight snapshots that share data; four are to go. The last one is what the source is.
fn prepared() -> Bench {
    let bench = Bench::in_memory();
    let repo = bench.init();
    for round in 0..8 {
        trees::plain(&bench.source(), 6 + round, 30_000 + round);
        let mut request = bench.request();
        if round % 2 == 0 {
            request.tags.push("goes".to_owned());
        }
        common::archive(&repo, &request).unwrap();
    }
    bench
}

fn size(root: &Path) -> u64 {
    let packs = files(&root.join("data"));
    packs
        .iter()
        .map(|pack| fs::metadata(pack).unwrap().len())
        .sum()
}

/// The repository a point left, opened as it can be.
fn left_open(work: Work, root: &Path, handle: &Handle) -> Repository {
    let old = open(root, None, PASSWORD, handle);
    match (work, old) {
        // Only a change of the password may take the first one away, and then the other works.
        (Work::ChangePassword, Err(_)) => open(root, None, OTHER, handle).unwrap(),
        (_, old) => old.unwrap(),
    }
}

/// Nothing is damaged, nothing that stays is lost, and every snapshot can be restored.
fn is_whole(bench: &Bench, repo: &Repository, dir: &Path) {
    let found = check(repo, true, &Cancel::new()).unwrap();
    assert!(found.is_ok(), "{found:?}");
    let snapshots = repo.snapshots().unwrap();
    let stay = snapshots.iter().filter(|snapshot| !goes(snapshot));
    assert_eq!(stay.count(), 4);
    for snapshot in &snapshots {
        let target = tempfile::tempdir_in(dir).unwrap();
        let report = restore(repo, &snapshot.id, target.path()).unwrap();
        assert_eq!(report.errors, []);
        if snapshot.id == snapshots.last().unwrap().id {
            assert_same(&bench.source(), target.path());
        }
    }
}

fn killed_anywhere(work: Work, bench: Bench, seeded: u64) {
    let all = Points::of(bench);
    // Undisturbed: how many changes there are, and what is left afterwards.
    let whole = all.bench.dir.path().join("undisturbed");
    let number = Work::ALL.iter().position(|other| *other == work).unwrap();
    let changes = killed::undisturbed(CHILD, number, &all.bench.repo_dir(), &whole);
    assert!(changes >= 3, "{changes}");
    let smallest = size(&whole.join("repo"));
    let died = AtomicU64::new(0);
    all.each(changes + seeded, |all, point, dir| {
        let (at, later) = killed::moment(point, changes);
        let status = killed::child(CHILD, number, dir, (at, later));
        if status.signal() == Some(9) {
            died.fetch_add(1, Ordering::Relaxed);
        } else {
            assert!(status.success() && later > 0, "{at}+{later}: {status}");
        }
        let root = dir.join("repo");
        let handle = all.bench.runtime.handle();
        let repo = left_open(work, &root, handle);
        // Whose lock it was is over, which nobody can know here for half an hour.
        repo.unlock(true, &Cancel::new()).unwrap();
        if point % 10 == 0 {
            let restic = Restic::local(&root);
            let password = if open(&root, None, PASSWORD, handle).is_ok() {
                PASSWORD
            } else {
                OTHER
            };
            let mut check = restic.command();
            let check = check.args(["check", "--read-data"]);
            let out = check.env("RESTIC_PASSWORD", password).output().unwrap();
            assert!(out.status.success(), "{}", common::restic::text(&out));
        }
        is_whole(&all.bench, &repo, dir);
        work.run(&repo)
            .unwrap_or_else(|why| panic!("{at}+{later}: {why}"));
        let snapshots = repo.snapshots().unwrap();
        if point % 4 == 0 {
            is_whole(&all.bench, &repo, dir);
        }
        match work {
            // What the killed run left behind is gone as well.
            Work::Prune => {
                let left = size(&root);
                assert!(left <= smallest + smallest / 50, "{left} {smallest}");
            }
            Work::Forget => assert_eq!(snapshots.len(), 4),
            Work::AddKey | Work::ChangePassword => {
                open(&root, None, OTHER, handle).unwrap();
            }
            Work::RemoveKey => {
                open(&root, None, OTHER, handle).unwrap_err();
                open(&root, None, PASSWORD, handle).unwrap();
            }
        }
        // And backups go on.
        common::archive(&repo, &common::request(&all.bench.source())).unwrap();
    });
    let died = died.into_inner();
    assert!(died >= changes + seeded / 4, "only {died} were killed");
}

#[test]
fn a_prune_killed_anywhere() {
    let bench = prepared();
    Work::Forget.run(&bench.open()).unwrap();
    killed_anywhere(Work::Prune, bench, 80);
}

#[test]
fn a_forget_killed_anywhere() {
    killed_anywhere(Work::Forget, prepared(), 30);
}

#[test]
fn a_new_key_killed_anywhere() {
    killed_anywhere(Work::AddKey, prepared(), 25);
}

#[test]
fn a_removed_key_killed_anywhere() {
    let bench = prepared();
    bench.open().add_key(&other(), &Cancel::new()).unwrap();
    killed_anywhere(Work::RemoveKey, bench, 25);
}

#[test]
fn a_replaced_password_killed_anywhere() {
    killed_anywhere(Work::ChangePassword, prepared(), 25);
}
