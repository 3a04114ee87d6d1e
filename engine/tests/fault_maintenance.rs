//! Forgetting, pruning and changes of passwords that end at any write or removal leave a valid
//! repository, and can be done again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ark_engine::{
    Cancel, Error, NewKey, OpenOptions, Outcome, Progress, Repository, Result, Secret, Store,
    StoreConfig,
    maintain::{Forget, PruneRequest, Unused, forget, prune},
    storage::fault::{Fault, Faults, Operation},
};
use common::{Bench, PASSWORD, archive, files, restic::Restic, trees};

/// The password that takes the place of the first.
const NEW: &str = "another password";

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// From the nth write or removal on every one goes wrong this way; what is only read works. `hit`
/// counts those.
fn faults_from(nth: u64, fault: Fault, hit: &Arc<AtomicU64>) -> Faults {
    let (changes, hit) = (AtomicU64::new(0), Arc::clone(hit));
    Faults::new(move |call| {
        if !matches!(call.operation, Operation::Write | Operation::Delete) {
            return Fault::None;
        }
        if changes.fetch_add(1, Ordering::SeqCst) + 1 < nth {
            return Fault::None;
        }
        hit.fetch_add(1, Ordering::SeqCst);
        fault
    })
}

fn open(bench: &Bench, dir: &Path, faults: Option<&Faults>, password: &str) -> Result<Repository> {
    let store = Store::open(&StoreConfig::Local {
        root: dir.to_owned(),
    })
    .unwrap()
    .with_policy(common::minio::quick());
    let store = match faults {
        Some(faults) => store.with_faults(faults),
        None => store,
    };
    let options = OpenOptions::default();
    let handle = bench.runtime.handle().clone();
    Repository::open(store, &[Secret::new(password)], options, handle)
}

/// Three snapshots that share some data; the first two are to go.
fn prepared(bench: &Bench) -> Vec<String> {
    let repo = bench.init();
    trees::plain(&bench.source(), 20, 200 << 10);
    let first = bench.archive(&repo).snapshot_id;
    trees::plain(&bench.source(), 10, (200 << 10) + 1);
    let second = bench.archive(&repo).snapshot_id;
    trees::plain(&bench.source(), 5, (200 << 10) + 2);
    bench.archive(&repo);
    vec![first, second]
}

/// Runs an operation on copies of a repository, with the fault from each change on, until it is not
/// met any more; looks at each copy as it is left, and after the operation was done again.
fn at_every_change(
    bench: &Bench,
    fault: Fault,
    work: impl Fn(&Repository) -> Result<()>,
    whole: impl Fn(&Path),
) {
    let mut met = 0;
    for nth in 1.. {
        let dir = bench.dir.path().join("copy");
        copy(&bench.repo_dir(), &dir);
        let hit = Arc::new(AtomicU64::new(0));
        let faults = faults_from(nth, fault, &hit);
        let ended = work(&open(bench, &dir, Some(&faults), PASSWORD).unwrap());
        if let Err(error) = &ended {
            assert!(!matches!(error, Error::Bug(_)), "{nth}: {error}");
        }
        whole(&dir);
        if hit.load(Ordering::SeqCst) == 0 {
            ended.unwrap();
            fs::remove_dir_all(&dir).unwrap();
            break;
        }
        met += 1;
        fs::remove_dir_all(&dir).unwrap();
    }
    assert!(met > 3, "only {met} changes were met");
}

fn is_whole(bench: &Bench, dir: &Path, snapshots: std::ops::RangeInclusive<usize>) {
    let restic = Restic::local(dir);
    restic.run(&["unlock", "--remove-all"]);
    restic.check();
    let repo = open(bench, dir, None, PASSWORD).unwrap();
    let found = repo.snapshots().unwrap();
    assert!(snapshots.contains(&found.len()), "{}", found.len());
    for snapshot in found {
        fs::remove_dir_all(bench.target()).unwrap();
        fs::create_dir(bench.target()).unwrap();
        let restored = common::restore(&repo, &snapshot.id, &bench.target()).unwrap();
        assert_eq!(restored.outcome(), Outcome::Complete);
    }
}

fn pruned(repo: &Repository) -> Result<()> {
    let request = PruneRequest {
        max_unused: Unused::Bytes(0),
        strays_older_than: std::time::Duration::ZERO,
        ..PruneRequest::default()
    };
    prune(repo, &request, &Progress::new(), &Cancel::new()).map(drop)
}

fn prune_ends_anywhere(fault: Fault) {
    let bench = Bench::in_memory();
    let old = prepared(&bench);
    let repo = bench.open();
    forget(&repo, &Forget::Ids(old), false, &Cancel::new()).unwrap();
    let before = files(&bench.repo_dir().join("data")).len();
    at_every_change(&bench, fault, pruned, |dir| {
        is_whole(&bench, dir, 1..=1);
        // And it can be done again, and ends with what is needed.
        pruned(&open(&bench, dir, None, PASSWORD).unwrap()).unwrap();
        is_whole(&bench, dir, 1..=1);
        assert!(files(&dir.join("data")).len() < before);
    });
}

#[test]
fn a_prune_that_is_refused_from_any_change_on() {
    prune_ends_anywhere(Fault::Refuse);
}

#[test]
fn a_prune_whose_answers_are_lost() {
    prune_ends_anywhere(Fault::Lost);
}

#[test]
fn a_prune_that_can_never_write_whole_packs() {
    prune_ends_anywhere(Fault::Truncate);
}

#[test]
fn forgetting_ends_anywhere() {
    let bench = Bench::in_memory();
    let old = prepared(&bench);
    let work = |repo: &Repository| {
        let old = old.iter().filter(|id| repo.find_snapshot(id).is_ok());
        forget(
            repo,
            &Forget::Ids(old.cloned().collect()),
            false,
            &Cancel::new(),
        )
        .map(drop)
    };
    at_every_change(&bench, Fault::Refuse, work, |dir| {
        is_whole(&bench, dir, 1..=3);
    });
}

#[test]
fn a_password_is_replaced_or_not() {
    let bench = Bench::in_memory();
    prepared(&bench);
    let new = NewKey {
        random_password: true,
        ..NewKey::new(Secret::new(NEW))
    };
    for fault in [Fault::Refuse, Fault::Lost] {
        let work = |repo: &Repository| repo.change_password(&new, &Cancel::new()).map(drop);
        at_every_change(&bench, fault, work, |dir| {
            let opens =
                |password| open(&bench, dir, None, password).map(|repo| repo.id().to_owned());
            let (old, new) = (opens(PASSWORD), opens(NEW));
            let id = old.or(new).expect("one of the passwords opens it");
            assert_eq!(id, bench.open().id());
        });
    }
}

#[test]
fn a_store_that_changes_what_it_is_given_gets_no_new_password() {
    let bench = Bench::in_memory();
    bench.init();
    let store = Faults::new(|call| {
        let key = call.path.starts_with("keys/") && call.operation == Operation::Read;
        // After the first, which opens the repository.
        if key && call.number > 6 {
            Fault::Truncate
        } else {
            Fault::None
        }
    });
    let repo = open(&bench, &bench.repo_dir(), Some(&store), PASSWORD).unwrap();
    let new = NewKey {
        random_password: true,
        ..NewKey::new(Secret::new("new"))
    };
    let error = repo.change_password(&new, &Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(files(&bench.repo_dir().join("keys")).len(), 1);
    open(&bench, &bench.repo_dir(), None, PASSWORD).unwrap();
}

#[test]
fn cancelled_maintenance_changes_nothing() {
    let bench = Bench::in_memory();
    let old = prepared(&bench);
    let repo = bench.open();
    let cancel = Cancel::new();
    cancel.cancel();
    let before = files(&bench.repo_dir());
    let request = PruneRequest::default();
    let ended = [
        forget(&repo, &Forget::Ids(old), false, &cancel).map(drop),
        prune(&repo, &request, &Progress::new(), &cancel).map(drop),
        repo.change_password(&NewKey::new(Secret::new("x")), &cancel)
            .map(drop),
    ];
    for ended in ended {
        assert!(matches!(ended, Err(Error::Cancelled)));
    }
    common::wait_until("locks are gone", || files(&bench.repo_dir()) == before);
}

#[test]
fn a_backup_in_a_repository_opened_for_reading_writes_nothing() {
    let bench = Bench::in_memory();
    prepared(&bench);
    let options = OpenOptions {
        no_lock: true,
        ..OpenOptions::default()
    };
    let repo = bench.open_with(options).unwrap();
    trees::plain(&bench.source(), 5, 300 << 10);
    let before = files(&bench.repo_dir());
    archive(&repo, &bench.request()).unwrap_err();
    pruned(&repo).unwrap_err();
    repo.add_key(&NewKey::new(Secret::new("x")), &Cancel::new())
        .unwrap_err();
    assert_eq!(files(&bench.repo_dir()), before);
}
