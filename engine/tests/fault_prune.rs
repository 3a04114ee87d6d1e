//! A backup beside a prune: at any of its requests to the store the prune is held, a backup of ours
//! or of stock restic is made, whole or in part, and the prune goes on, or dies there. Whatever
//! happens, nothing is lost: every snapshot can be restored, and both programs find nothing wrong.
//! A prune that was killed is not done again from the beginning.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

#[path = "fault_prune/alone.rs"]
mod alone;
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use ark_engine::{
    ArchiveRequest, Cancel, Error, FormatVersion, Outcome, Progress, Repository, Result, Source,
    check,
    maintain::{Forget, PruneReport, PruneRequest, Unused, forget, prune},
    storage::fault::{Fault, Faults, Operation},
};
use common::{
    Bench,
    compare::assert_same,
    points::{self, Points, impatient, open_store},
    restic::{Restic, text},
    restore, trees,
};
use tokio::runtime::Handle;

/// States of the source that were backed up; every other is forgotten.
const ROUNDS: usize = 6;

fn open(root: &Path, faults: Option<&Faults>, handle: &Handle) -> Repository {
    let store = open_store(root).with_policy(impatient());
    let store = match faults {
        Some(faults) => store.with_faults(faults),
        None => store,
    };
    points::open(store, handle).unwrap()
}

fn source(bench: &Bench, round: usize) -> PathBuf {
    bench.dir.path().join(format!("source-{round}"))
}

fn request(bench: &Bench, round: usize, reread_all: bool) -> ArchiveRequest {
    ArchiveRequest {
        source: Source::Directory(source(bench, round)),
        tags: vec![format!("round={round}")],
        reread_all,
        ..common::request(&bench.source())
    }
}

/// Snapshots of six states of a directory, which share files; three of them were forgotten.
fn prepared(version: FormatVersion) -> Bench {
    let bench = Bench::in_memory();
    let repo = bench.init_version(version);
    for round in 0..ROUNDS {
        let dir = source(&bench, round);
        fs::create_dir_all(dir.join("below")).unwrap();
        for file in 0..8 {
            // Half of the files are those of the state before.
            let seed = if file % 2 == 0 { round } else { round / 2 };
            let content = trees::noise((seed * 100 + file) as u64, 20_000 + file);
            let name = format!("{}{file}", if file < 4 { "" } else { "below/" });
            fs::write(dir.join(name), content).unwrap();
        }
        common::archive(&repo, &request(&bench, round, true)).unwrap();
    }
    let old = repo.snapshots().unwrap().into_iter().step_by(2);
    let old = Forget::Ids(old.map(|snapshot| snapshot.id).collect());
    forget(&repo, &old, false, &Cancel::new()).unwrap();
    bench
}

fn everything() -> PruneRequest {
    PruneRequest {
        max_unused: Unused::Bytes(0),
        strays_older_than: Duration::ZERO,
        ..PruneRequest::default()
    }
}

fn pruned(repo: &Repository) -> Result<PruneReport> {
    prune(repo, &everything(), &Progress::new(), &Cancel::new())
}

/// Holds an operation at one of its requests.
struct Gate {
    /// Says that it is held, and whether it was alone by then.
    reached: Receiver<bool>,
    go_on: Sender<()>,
    faults: Faults,
}

impl Gate {
    /// At the nth request; if it `dies`, this and all later ones are refused.
    fn at(nth: u64, dies: bool) -> Self {
        let (send, reached) = mpsc::channel();
        let (go_on, wait) = mpsc::channel();
        let wait = Mutex::new(wait);
        let locks = AtomicU64::new(0);
        let faults = Faults::new(move |call| {
            // The second lock that it writes is the one that excludes others.
            let is_lock = call.operation == Operation::Write && call.path.starts_with("locks/");
            let before = locks.fetch_add(u64::from(is_lock), Ordering::SeqCst);
            if call.number == nth {
                _ = send.send(before >= 2);
                _ = wait.lock().unwrap().recv_timeout(Duration::from_mins(1));
            }
            if dies && call.number >= nth {
                Fault::Refuse
            } else {
                Fault::None
            }
        });
        Self {
            reached,
            go_on,
            faults,
        }
    }
}

/// What is done while the prune is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beside {
    /// A whole backup of ours.
    Ours,
    /// A whole backup of restic's.
    Restics,
    /// A backup of ours begins, the prune ends, the backup ends.
    Crossing,
    /// The prune dies there, then a backup of ours is made.
    Death,
}

impl Beside {
    fn of(point: u64) -> Self {
        match point % 8 {
            0 | 3 | 6 => Self::Ours,
            1 => Self::Restics,
            2 | 5 | 7 => Self::Crossing,
            _ => Self::Death,
        }
    }
}

/// Whether a backup was made; the only excuse is that the prune was alone.
fn excused(made: Result<()>, alone: bool, point: u64) -> bool {
    match made {
        Ok(()) => true,
        Err(Error::Locked { .. }) if alone => false,
        Err(why) => panic!("{point}: {why}"),
    }
}

fn by_restic(root: &Path, source: &Path, round: usize) -> Output {
    let tag = format!("round={round}");
    let mut command = Restic::newest(root).command();
    let command = command.args(["backup", "-q", "--force", "--host", "test", "--tag", &tag]);
    command.arg(source).output().unwrap()
}

/// One interleaving; returns how many snapshots there have to be.
fn meet(bench: &Bench, root: &Path, point: u64, (opening, all): (u64, u64)) -> usize {
    let dice = trees::noise(point + 1, 8);
    let nth = opening + point * 7919 % (all - opening) + 1;
    let beside = Beside::of(point);
    // Of a state that was forgotten, half of the time: what it needs is what is to go.
    let round = usize::from(dice[0]) % ROUNDS;
    let request = request(bench, round, dice[1].is_multiple_of(2));
    let gate = Gate::at(nth, beside == Beside::Death);
    let second = Gate::at(u64::from(dice[2]) % 25 + 4, false);
    let (ours, theirs) = (
        tokio::runtime::Runtime::new().unwrap(),
        tokio::runtime::Runtime::new().unwrap(),
    );
    let opened = open(root, None, ours.handle());
    let backup = |repo: &Repository| common::archive(repo, &request).map(drop);
    let made = std::thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            let repo = open(root, Some(&gate.faults), theirs.handle());
            pruned(&repo)
        });
        let Ok(alone) = gate.reached.recv_timeout(Duration::from_mins(1)) else {
            panic!("{point}: the prune never came to request {nth}");
        };
        let made = match beside {
            Beside::Ours => excused(backup(&opened), alone, point),
            Beside::Restics => {
                let out = by_restic(root, &source(bench, round), round);
                let code = out.status.code();
                assert_eq!(code, Some(if alone { 11 } else { 0 }), "{}", text(&out));
                !alone
            }
            Beside::Crossing => {
                let crossing = scope.spawn(|| {
                    let repo = open(root, Some(&second.faults), ours.handle());
                    let made = backup(&repo);
                    drop(repo);
                    made
                });
                // Held, or at its end.
                let held = loop {
                    match second.reached.recv_timeout(Duration::from_millis(5)) {
                        Ok(_) => break true,
                        Err(_) if crossing.is_finished() => break false,
                        Err(_) => {}
                    }
                };
                _ = gate.go_on.send(());
                let ended = pruning.join().unwrap();
                _ = second.go_on.send(());
                let made = crossing.join().unwrap();
                // Held before it has its lock, it may meet the other's later.
                let made = excused(made, alone || held, point);
                match ended {
                    Ok(_) => {}
                    Err(Error::Locked { .. }) => assert!(held, "{point}"),
                    Err(why) => panic!("{point}: {why}"),
                }
                return made;
            }
            Beside::Death => {
                _ = gate.go_on.send(());
                let ended = pruning.join().unwrap();
                assert!(!matches!(ended, Err(Error::Bug(_))), "{point}: {ended:?}");
                opened.unlock(true, &Cancel::new()).unwrap();
                backup(&opened).unwrap();
                return true;
            }
        };
        _ = gate.go_on.send(());
        let ended = pruning.join().unwrap();
        assert!(ended.is_ok(), "{point} {nth} {beside:?}: {ended:?}");
        made
    });
    ROUNDS / 2 + usize::from(made)
}

fn is_whole(bench: &Bench, root: &Path, dir: &Path, point: u64, snapshots: usize) {
    let repo = open(root, None, bench.runtime.handle());
    let found = check(&repo, true, &Cancel::new()).unwrap();
    assert!(found.is_ok(), "{point}: {found:?}");
    let all = repo.snapshots().unwrap();
    assert_eq!(all.len(), snapshots, "{point}");
    for snapshot in all {
        let round = snapshot
            .tags
            .iter()
            .find_map(|tag| tag.strip_prefix("round="));
        let source = source(bench, round.unwrap().parse().unwrap());
        let target = dir.join("target");
        fs::create_dir(&target).unwrap();
        let restored = restore(&repo, &snapshot.id, &target).unwrap();
        assert_eq!(restored.outcome(), Outcome::Complete, "{point}");
        if snapshot.program_version.starts_with("restic") {
            assert_same(&source, &target.join(source.strip_prefix("/").unwrap()));
        } else {
            assert_same(&source, &target);
        }
        fs::remove_dir_all(&target).unwrap();
    }
}

/// How many requests opening a repository takes, and how many that and a prune.
fn requests(bench: &Bench) -> (u64, u64) {
    let root = bench.dir.path().join("alone");
    points::copy(&bench.repo_dir(), &root);
    let faults = Faults::new(|_| Fault::None);
    let repo = open(&root, Some(&faults), bench.runtime.handle());
    let opening = faults.calls();
    pruned(&repo).unwrap();
    fs::remove_dir_all(root).unwrap();
    (opening, faults.calls())
}

fn interleavings(version: FormatVersion, count: u64) {
    let bench = prepared(version);
    let requests = requests(&bench);
    assert!(requests.1 - requests.0 > 25, "{requests:?}");
    let points = Points::of(bench);
    points.each(count, |all, point, dir| {
        let root = dir.join("repo");
        let snapshots = meet(&all.bench, &root, point, requests);
        if point % 10 == 0 {
            Restic::newest(&root).run(&["unlock", "--remove-all"]);
            Restic::newest(&root).check();
        }
        is_whole(&all.bench, &root, dir, point, snapshots);
        let repo = open(&root, None, all.bench.runtime.handle());
        repo.unlock(true, &Cancel::new()).unwrap();
        let again = pruned(&repo).unwrap();
        assert_eq!(again.unused_bytes, 0, "{point}");
        is_whole(&all.bench, &root, dir, point, snapshots);
        if point % 10 == 5 {
            Restic::newest(&root).check();
        }
        // Nothing is left to be done.
        let last = pruned(&repo).unwrap();
        assert_eq!(
            (
                last.repacked_blobs,
                last.deleted_blobs,
                last.unreferenced_packs
            ),
            (0, 0, 0),
            "{point}"
        );
    });
}

#[test]
fn a_backup_meets_a_prune_anywhere() {
    interleavings(FormatVersion::V2, 240);
}

#[test]
fn a_backup_meets_a_prune_of_an_old_repository_anywhere() {
    interleavings(FormatVersion::V1, 80);
}
