//! Backups into a repository that is already damaged: whole, or a typed error, never a broken snapshot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{fs, path::PathBuf};

use ark_engine::{
    Cancel, Class, Error, Outcome, Snapshot,
    browse::{self, FindNames, FindRequest, FindWhat, Found},
    stats::StatsMode,
};
use common::{Bench, archive, compare::assert_same, files, limits::count, trees};

/// A repository with one snapshot, and its packs, smallest first: the directories' pack is the smallest.
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

/// All is in two packs, as after two backups at the same time, and those of one of them are damaged or gone.
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
fn a_damaged_index_is_an_error() {
    let (bench, repo, _) = prepared();
    let index = files(&bench.repo_dir().join("index")).remove(0);
    fs::write(&index, b"nothing of the kind").unwrap();
    let error = archive(&repo, &bench.request()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn a_damaged_snapshot_costs_the_parent_only() {
    let (bench, repo, _) = prepared();
    let snapshot = files(&bench.repo_dir().join("snapshots")).remove(0);
    fs::write(&snapshot, b"nothing of the kind").unwrap();
    assert!(matches!(
        repo.snapshots().unwrap_err(),
        Error::Damaged { .. }
    ));
    let report = archive(&repo, &bench.request()).unwrap();
    assert_eq!(report.parent, None);
    bench.restore(&repo, &report.snapshot_id);
    assert_same(&bench.source(), &bench.target());
}
