//! Backups into a repository that is already damaged: whole, or a typed error, never a broken
//! snapshot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{fs, path::PathBuf};

use ark_engine::{
    Cancel, Class, Error, Outcome, Progress, Snapshot, SnapshotFilter,
    browse::{self, FindNames, FindRequest, FindWhat, Found},
    maintain::{
        Counts, Forget, GroupBy, Keep, KeepPolicy, PruneRequest, RepairSnapshotsRequest, forget,
        prune, repair_index, repair_snapshots,
    },
    stats::StatsMode,
};
use common::{Bench, archive, compare::assert_same, files, limits::count, trees};

/// A repository with one snapshot, and its packs, smallest first: the directories' pack is the
/// smallest.
fn prepared() -> (Bench, ark_engine::Repository, Vec<PathBuf>) {
    let bench = Bench::new();
    trees::plain(&bench.source(), 14, 200_000);
    // So that unchanged directories have the same bytes each time.
    common::settle(&bench.source());
    let repo = bench.init();
    bench.archive(&repo);
    let mut packs = files(&bench.repo_dir().join("data"));
    packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
    assert_eq!(packs.len(), 2);
    (bench, repo, packs)
}

fn whole(bench: &Bench, repo: &ark_engine::Repository) {
    let report = bench.archive(repo);
    assert_eq!(report.outcome(), Outcome::Complete);
    let restored = bench.restore(repo, &report.snapshot_id);
    assert_eq!(restored.errors, []);
    assert_same(&bench.source(), &bench.target());
    // The older snapshot may be beyond help; what it lost that the new one has is there again.
    bench.restic().check();
}

const MODES: [StatsMode; 4] = [
    StatsMode::RestoreSize,
    StatsMode::FilesByContents,
    StatsMode::BlobsPerFile,
    StatsMode::RawData,
];

/// All that fits, in all snapshots.
fn found(repo: &ark_engine::Repository, what: FindWhat) -> Vec<Found> {
    let mut all = Vec::new();
    let request = FindRequest {
        what,
        ..FindRequest::default()
    };
    let mut each = |_: &Snapshot, found| {
        all.push(found);
        Ok(())
    };
    let report = browse::find(repo, &request, &Cancel::new(), &mut each).unwrap();
    assert_eq!(report.problems, 0);
    all
}

/// All is in two packs, as after two backups at the same time, and those of one of them are damaged
/// or gone.
#[test]
fn a_blob_is_read_from_the_pack_that_is_whole() {
    let (bench, repo, first) = prepared();
    let index = files(&bench.repo_dir().join("index"));
    let hidden = bench.dir.path().join("hidden");
    fs::create_dir(&hidden).unwrap();
    let aside = |path: &PathBuf| hidden.join(path.file_name().unwrap());
    for file in &index {
        fs::rename(file, aside(file)).unwrap();
    }
    let snapshot = bench.archive(&repo).snapshot_id;
    for file in &index {
        fs::rename(aside(file), file).unwrap();
    }
    let mut second = files(&bench.repo_dir().join("data"));
    second.retain(|pack| !first.contains(pack));
    assert_eq!(second.len(), first.len());
    let ids = |packs: &[PathBuf]| -> Vec<String> {
        let names = packs.iter().map(|pack| pack.file_name().unwrap());
        names
            .map(|name| name.to_str().unwrap().to_owned())
            .collect()
    };
    let (firsts, seconds) = (ids(&first), ids(&second));
    let read = || {
        let patterns = vec!["*".to_owned()];
        let names = FindWhat::Names(FindNames {
            patterns,
            ..FindNames::default()
        });
        let packs = [&firsts, &seconds].map(|packs| FindWhat::Packs(packs.clone()));
        let found = packs
            .into_iter()
            .chain([names])
            .map(|what| found(&repo, what));
        let counted = MODES.map(|mode| count(&repo, 256 << 20, mode).unwrap());
        (found.collect::<Vec<_>>(), counted)
    };
    let before = read();
    assert!(before.0.iter().all(|found| !found.is_empty()));
    assert_eq!(before.0[0], before.0[1]);
    let restores = |what: &str| {
        let target = tempfile::tempdir_in(bench.dir.path()).unwrap();
        let report = common::restore(&repo, &snapshot, target.path()).unwrap();
        assert_eq!(report.errors, [], "{what}");
        assert_same(&bench.source(), target.path());
        // Too long to be shown.
        assert!(read() == before, "{what}");
    };
    for packs in [&first, &second] {
        for pack in packs {
            fs::rename(pack, aside(pack)).unwrap();
        }
        restores("one is gone");
        for pack in packs {
            let mut bytes = fs::read(aside(pack)).unwrap();
            bytes.iter_mut().step_by(100).for_each(|byte| *byte ^= 1);
            fs::write(pack, bytes).unwrap();
        }
        restores("one is damaged");
        for pack in packs {
            fs::remove_file(pack).unwrap();
            fs::rename(aside(pack), pack).unwrap();
        }
    }
    bench.restic().check();
}

#[test]
fn directories_lost_and_no_longer_in_the_index_are_written_again() {
    let (bench, repo, packs) = prepared();
    fs::remove_file(&packs[0]).unwrap();
    bench.restic().run(&["rebuild-index"]);
    whole(&bench, &repo);
}

/// The parent's root is there and names directories that are not.
#[test]
fn directories_lost_below_a_good_root_are_written_again() {
    let (bench, repo, packs) = prepared();
    fs::write(bench.source().join("at the root"), "x").unwrap();
    common::settle(&bench.source());
    bench.archive(&repo);
    fs::remove_file(&packs[0]).unwrap();
    bench.restic().run(&["rebuild-index"]);
    let report = bench.archive(&repo);
    assert_eq!(report.outcome(), Outcome::Complete);
    // The first snapshot's own root is lost for good.
    let first = repo.snapshots().unwrap().remove(0).id;
    bench.restic().run(&["forget", &first]);
    whole(&bench, &repo);
}

#[test]
fn data_lost_and_no_longer_in_the_index_is_read_again() {
    let (bench, repo, packs) = prepared();
    fs::remove_file(&packs[1]).unwrap();
    bench.restic().run(&["rebuild-index"]);
    whole(&bench, &repo);
}

#[test]
fn damaged_directories_still_in_the_index_are_an_error_that_names_them() {
    let (bench, repo, packs) = prepared();
    let mut bytes = fs::read(&packs[0]).unwrap();
    for byte in &mut bytes[..100] {
        *byte ^= 0x55;
    }
    fs::write(&packs[0], bytes).unwrap();
    let error = archive(&repo, &bench.request()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(error.class(), Class::Permanent);
    assert_eq!(repo.snapshots().unwrap().len(), 1);
}

#[test]
fn a_truncated_pack_of_directories_is_an_error_too() {
    let (bench, repo, packs) = prepared();
    let bytes = fs::read(&packs[0]).unwrap();
    fs::write(&packs[0], &bytes[..50]).unwrap();
    let error = archive(&repo, &bench.request()).unwrap_err();
    assert_ne!(error.class(), Class::Transient, "{error}");
    assert_eq!(repo.snapshots().unwrap().len(), 1);
}

#[test]
fn a_damaged_index_file_costs_reading_again() {
    let (bench, repo, _) = prepared();
    let index = files(&bench.repo_dir().join("index")).remove(0);
    fs::write(&index, b"nothing of the kind").unwrap();
    let report = archive(&repo, &bench.request()).unwrap();
    assert_eq!((report.files_unchanged, &report.errors[..]), (0, &[][..]));
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(restored.outcome(), Outcome::Complete);
    assert_same(&bench.source(), &bench.target());
    // It is told once, whoever met it.
    let left_out = repo.left_out();
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert!(left_out[0].0.starts_with("index "), "{left_out:?}");
    // Only who removes has to know of everything.
    let pruned = prune(
        &repo,
        &PruneRequest::default(),
        &Progress::new(),
        &Cancel::new(),
    );
    assert!(matches!(pruned, Err(Error::Damaged { .. })), "{pruned:?}");
    let repaired = repair_index(&repo, false, false, &Cancel::new()).unwrap();
    assert_eq!(
        (repaired.indexes_unreadable.len(), repaired.indexes_kept),
        (1, 0)
    );
    assert!(!index.exists());
    bench.restic().check();
}

/// What has the name of its content was written so, by whatever key. It stays.
#[test]
fn an_index_file_of_another_key_is_not_removed() {
    let (bench, repo, _) = prepared();
    let foreign = b"sealed with another key, for all that is known";
    let index = bench.repo_dir().join("index").join(sha256(foreign));
    fs::write(&index, foreign).unwrap();
    let repaired = repair_index(&repo, false, false, &Cancel::new()).unwrap();
    assert_eq!(
        (repaired.indexes_unreadable.len(), repaired.indexes_kept),
        (1, 1)
    );
    assert!(index.exists());
}

#[test]
fn a_damaged_snapshot_file_hides_no_other_and_goes_when_somebody_says_so() {
    let (bench, repo, _) = prepared();
    bench.archive(&repo);
    let there: Vec<_> = repo.snapshots().unwrap();
    let [bad, good] = [&there[0], &there[1]];
    let file = bench.repo_dir().join("snapshots").join(&bad.id);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let repo = bench.open();
    assert_eq!(repo.snapshots().unwrap(), std::slice::from_ref(good));
    assert_eq!(repo.left_out().len(), 1);
    let latest = repo.select_snapshot("latest", &SnapshotFilter::default());
    assert_eq!(&latest.unwrap(), good);
    let report = bench.archive(&repo);
    assert_eq!(report.parent.as_ref(), Some(&good.id));

    // What it needs is not known: nothing is freed as long as it is there.
    let pruned = prune(
        &repo,
        &PruneRequest::default(),
        &Progress::new(),
        &Cancel::new(),
    );
    assert!(matches!(pruned, Err(Error::Damaged { .. })), "{pruned:?}");
    let keep_all = Forget::Policy {
        policy: Box::new(KeepPolicy {
            counts: Counts {
                last: Keep::Count(1),
                ..Counts::default()
            },
            ..KeepPolicy::default()
        }),
        group_by: GroupBy::default(),
        filter: SnapshotFilter::default(),
        allow_remove_all: false,
    };
    forget(&repo, &keep_all, true, &Cancel::new()).unwrap();
    assert!(file.exists());

    let by_id = Forget::Ids(vec![bad.id[..10].to_owned()]);
    let dry = forget(&repo, &by_id, true, &Cancel::new()).unwrap();
    assert_eq!(dry.removed_unreadable, std::slice::from_ref(&bad.id));
    assert!(file.exists());
    forget(&repo, &by_id, false, &Cancel::new()).unwrap();
    assert!(!file.exists());
    prune(
        &repo,
        &PruneRequest::default(),
        &Progress::new(),
        &Cancel::new(),
    )
    .unwrap();
    bench.restic().check();
}

#[test]
fn a_snapshot_file_goes_unread_only_if_nobody_can_read_it() {
    let (bench, repo, _) = prepared();
    let snapshots = bench.repo_dir().join("snapshots");
    let foreign = b"sealed with another key, for all that is known";
    let foreign_id = sha256(foreign);
    let empty_id = "ab".repeat(32);
    fs::write(snapshots.join(&foreign_id), foreign).unwrap();
    fs::write(snapshots.join(&empty_id), b"").unwrap();
    let by_id = |id: &str| Forget::Ids(vec![id.to_owned()]);
    let error = forget(&repo, &by_id(&foreign_id), false, &Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");

    let repair = |unreadable| {
        let request = RepairSnapshotsRequest {
            forget: true,
            unreadable,
            ..RepairSnapshotsRequest::new(repo.snapshots().unwrap())
        };
        repair_snapshots(&repo, &request, &Progress::new(), &Cancel::new()).unwrap()
    };
    let removed = |report: &ark_engine::maintain::RepairSnapshotsReport| {
        let removed = report.unreadable.iter().filter(|one| one.removed);
        removed.map(|one| one.id.clone()).collect::<Vec<_>>()
    };
    let report = repair(false);
    assert_eq!((report.unreadable.len(), removed(&report)), (2, vec![]));
    assert_eq!(removed(&repair(true)), std::slice::from_ref(&empty_id));
    assert!(snapshots.join(&foreign_id).exists() && !snapshots.join(&empty_id).exists());
    assert_eq!(repo.snapshots().unwrap().len(), 1);
}

/// An empty lock file, and one of noise: they stand in nobody's way for ever.
#[test]
fn damaged_locks_go_when_somebody_unlocks() {
    let (bench, repo, _) = prepared();
    let locks = bench.repo_dir().join("locks");
    fs::create_dir_all(&locks).unwrap();
    for (name, content) in [("ab", &b""[..]), ("cd", b"not a lock")] {
        fs::write(locks.join(name.repeat(32)), content).unwrap();
    }
    // It may be one of another key.
    let foreign = b"sealed with another key, for all that is known";
    fs::write(locks.join(sha256(foreign)), foreign).unwrap();
    assert_eq!(repo.unlock(false, &Cancel::new()).unwrap(), 2);
    assert_eq!(files(&locks).len(), 1);
}

#[test]
fn a_damaged_key_file_stands_in_nobodys_way_and_can_be_removed() {
    let (bench, _, _) = prepared();
    let name = "ef".repeat(32);
    fs::write(bench.repo_dir().join("keys").join(&name), b"").unwrap();
    let repo = bench.open();
    let damaged: Vec<_> = repo
        .keys()
        .unwrap()
        .into_iter()
        .filter(|key| key.damage.is_some())
        .collect();
    assert_eq!(damaged.len(), 1);
    repo.remove_key(&damaged[0].id, &Cancel::new()).unwrap();
    assert_eq!(repo.keys().unwrap().len(), 1);
}

#[test]
fn a_damaged_snapshot_costs_the_parent_only() {
    let (bench, repo, _) = prepared();
    let snapshot = files(&bench.repo_dir().join("snapshots")).remove(0);
    fs::write(&snapshot, b"nothing of the kind").unwrap();
    let report = archive(&repo, &bench.request()).unwrap();
    assert_eq!(report.parent, None);
    bench.restore(&repo, &report.snapshot_id);
    assert_same(&bench.source(), &bench.target());
}

fn sha256(content: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(content))
}
