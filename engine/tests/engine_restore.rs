//! Restores of a part, restores that end early, and restores from a repository that lost something.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
};

use ark_engine::{
    Cancel, Error, FileOperation, Outcome, Progress, Repository, RestoreReport, RestoreRequest,
    Result,
};
use common::{Bench, compare::assert_same, trees};

fn request(bench: &Bench, snapshot: &str) -> RestoreRequest {
    RestoreRequest {
        snapshot: snapshot.to_owned(),
        target: bench.target(),
        restore_owner: true,
        ..RestoreRequest::default()
    }
}

fn run(repo: &Repository, request: &RestoreRequest) -> Result<RestoreReport> {
    ark_engine::restore(repo, request, &Progress::new(), &Cancel::new())
}

#[test]
fn selected_paths_and_nothing_else() {
    let bench = Bench::new();
    let source = bench.source();
    trees::everything(&source);
    let repo = bench.init();
    let snapshot = bench.archive(&repo).snapshot_id;
    let before = fs::metadata(bench.target()).unwrap().mode();
    let select = |paths: &[&str]| RestoreRequest {
        select: paths.iter().map(PathBuf::from).collect(),
        ..request(&bench, &snapshot)
    };
    let report = run(
        &repo,
        &select(&["/dir/file", "/deep/level 0/level 1", "/link"]),
    )
    .unwrap();
    assert_eq!(report.errors, []);
    let target = bench.target();
    assert_eq!(fs::metadata(&target).unwrap().mode(), before);
    let mut names: Vec<_> = fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["deep", "dir", "link"]);
    assert_eq!(fs::read_dir(target.join("dir")).unwrap().count(), 1);
    assert_same(
        &source.join("deep/level 0/level 1"),
        &target.join("deep/level 0/level 1"),
    );
    // A directory made on the way has its own metadata; one that was there keeps what it has.
    assert_eq!(
        fs::metadata(target.join("dir")).unwrap().mode() & 0o7777,
        0o2775
    );
    fs::set_permissions(target.join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(target.join("dir/extra"), "x").unwrap();
    let deleting = RestoreRequest {
        delete_extra: true,
        ..select(&["/dir/file"])
    };
    let report = run(&repo, &deleting).unwrap();
    assert_eq!((report.errors, report.deleted), (vec![], 0));
    assert_eq!(
        fs::metadata(target.join("dir")).unwrap().mode() & 0o7777,
        0o700
    );

    let report = run(&repo, &select(&["/none", "/small/below", "/dir"])).unwrap();
    assert_eq!(report.outcome(), Outcome::Partial);
    let rows: Vec<_> = report.errors.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(rows, ["none", "small/below"]);
    let error = run(&repo, &select(&["relative"])).unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
}

#[test]
fn a_cancelled_restore_is_gone_on_with() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 60, 1 << 20);
    let repo = bench.init();
    let snapshot = bench.archive(&repo).snapshot_id;
    let request = request(&bench, &snapshot);
    let (progress, cancel) = (Progress::new(), Cancel::new());
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| ark_engine::restore(&repo, &request, &progress, &cancel));
        common::wait_until("files are complete", || progress.snapshot().files_done > 5);
        cancel.cancel();
        run.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, Error::Cancelled), "{error:?}");
    // What is there is whole.
    let there = common::files(&bench.target());
    assert!(there.len() > 5 && there.len() < 60, "{}", there.len());
    for file in &there {
        let name = file.strip_prefix(bench.target()).unwrap();
        assert!(fs::read(file).unwrap() == fs::read(bench.source().join(name)).unwrap());
    }
    let report = run(&repo, &request).unwrap();
    assert_eq!(report.errors, []);
    assert_eq!(report.files_unchanged, there.len() as u64);
    let missing = 60 - report.files_unchanged;
    assert!(report.bytes_fetched < (missing + 1) * (1 << 20) + (1 << 20));
    assert_same(&bench.source(), &bench.target());
}

#[test]
fn a_store_that_goes_away_is_an_error_and_no_file_is_half() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 60, 1 << 20);
    let repo = bench.init();
    let snapshot = bench.archive(&repo).snapshot_id;
    let request = request(&bench, &snapshot);
    let progress = Progress::new();
    let (data, away) = (bench.repo_dir(), bench.dir.path().join("away"));
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| ark_engine::restore(&repo, &request, &progress, &Cancel::new()));
        common::wait_until("files are complete", || progress.snapshot().files_done > 2);
        fs::rename(&data, &away).unwrap();
        let error = run.join().unwrap().unwrap_err();
        fs::rename(&away, &data).unwrap();
        error
    });
    assert!(matches!(error, Error::NoStore { .. }), "{error:?}");
    for file in common::files(&bench.target()) {
        assert_eq!(fs::metadata(&file).unwrap().len(), 1 << 20);
    }
    let report = run(&repo, &request).unwrap();
    assert_eq!(report.errors, []);
    assert!(report.files_unchanged > 2);
    assert_same(&bench.source(), &bench.target());
}

#[test]
fn lost_and_truncated_packs_cost_the_files_in_them() {
    for lose in [true, false] {
        let bench = Bench::new();
        trees::plain(&bench.source(), 60, 1 << 20);
        let repo = bench.init();
        let snapshot = bench.archive(&repo).snapshot_id;
        let mut packs = common::files(&bench.repo_dir().join("data"));
        packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
        let pack = packs.pop().unwrap();
        if lose {
            fs::remove_file(&pack).unwrap();
        } else {
            let half = fs::metadata(&pack).unwrap().len() / 2;
            fs::OpenOptions::new()
                .write(true)
                .open(&pack)
                .unwrap()
                .set_len(half)
                .unwrap();
        }
        let report = run(&repo, &request(&bench, &snapshot)).unwrap();
        assert_eq!(report.outcome(), Outcome::Partial);
        let failed = report.errors.len() as u64;
        assert!(
            report
                .errors
                .iter()
                .all(|row| row.operation == FileOperation::Read)
        );
        assert!(
            failed >= if lose { 10 } else { 5 } && failed < 20,
            "{failed}"
        );
        assert_eq!(report.files + failed, 60);
        for row in &report.errors {
            assert!(!bench.target().join(&row.path).exists(), "{}", row.path);
        }
        for file in common::files(&bench.target()) {
            let name = file.strip_prefix(bench.target()).unwrap();
            assert!(fs::read(&file).unwrap() == fs::read(bench.source().join(name)).unwrap());
        }
        assert_eq!(common::files(&bench.target()).len() as u64, report.files);
    }
}

#[test]
fn names_of_a_file_that_cannot_be_completed_go_together() {
    let bench = Bench::new();
    let source = bench.source();
    fs::create_dir(source.join("d")).unwrap();
    fs::write(source.join("a"), trees::noise(3, 3 << 20)).unwrap();
    fs::hard_link(source.join("a"), source.join("d/b")).unwrap();
    fs::write(source.join("good"), "good").unwrap();
    let repo = bench.init();
    let snapshot = bench.archive(&repo).snapshot_id;
    let mut packs = common::files(&bench.repo_dir().join("data"));
    packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
    let pack = packs.pop().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let report = run(&repo, &request(&bench, &snapshot)).unwrap();
    let rows: Vec<_> = report.errors.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(rows, ["a", "d/b"]);
    assert_eq!(report.files, 1);
    assert_eq!(
        common::files(&bench.target()),
        [bench.target().join("good")]
    );
}
