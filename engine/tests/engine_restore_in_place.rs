//! Restoring into a directory that has something in it already, and saying beforehand what that
//! would do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;
#[path = "engine_restore_in_place/deletion.rs"]
mod deletion;
#[path = "engine_restore_in_place/successors.rs"]
mod successors;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use ark_engine::{
    Cancel, Progress, Repository,
    RestoreAction::{self, Create, Delete, Metadata, Replace, Update},
    RestoreReport, RestoreRequest, Result,
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

/// Everything that a write or a change of metadata leaves behind.
fn state(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u32, u64)> {
    let mut state = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let seen = (
            meta.ino(),
            meta.ctime(),
            meta.ctime_nsec(),
            meta.mode(),
            meta.size(),
        );
        state.insert(path, seen);
    }
    state
}

fn plan(report: &RestoreReport) -> Vec<(&str, RestoreAction)> {
    let changes = report.plan.iter();
    changes
        .map(|change| (change.path.as_str(), change.action))
        .collect()
}

/// A snapshot of `everything`, restored once.
fn restored() -> (Bench, Repository, RestoreRequest) {
    let bench = Bench::new();
    trees::everything(&bench.source());
    let repo = bench.init();
    let report = bench.archive(&repo);
    let request = request(&bench, &report.snapshot_id);
    let report = run(&repo, &request).unwrap();
    assert_eq!((report.errors, report.files_unchanged), (vec![], 0));
    assert_eq!(report.files, report.files_written);
    (bench, repo, request)
}

#[test]
fn what_is_right_is_not_touched() {
    let (bench, repo, request) = restored();
    let before = state(&bench.target());
    let report = run(&repo, &request).unwrap();
    assert_eq!(report.errors, []);
    assert_eq!(state(&bench.target()), before);
    assert_eq!(
        (report.files_written, report.files),
        (0, report.files_unchanged)
    );
    assert_eq!((report.bytes_written, report.bytes_fetched), (0, 0));
    assert!(report.bytes > 70 << 20);
    let dry = run(
        &repo,
        &RestoreRequest {
            dry_run: true,
            ..request
        },
    )
    .unwrap();
    assert_eq!(plan(&dry), []);
}

#[test]
fn only_what_differs_of_a_file_is_fetched() {
    let bench = Bench::new();
    fs::write(bench.source().join("big"), trees::noise(7, 40 << 20)).unwrap();
    let repo = bench.init();
    let report = bench.archive(&repo);
    let request = request(&bench, &report.snapshot_id);
    run(&repo, &request).unwrap();
    let big = bench.target().join("big");
    let inode = fs::metadata(&big).unwrap().ino();
    let change = |what: &dyn Fn(&fs::File)| {
        let file = fs::OpenOptions::new().write(true).open(&big).unwrap();
        what(&file);
    };
    for what in [
        &(|file: &fs::File| file.write_all_at(b"x", 20 << 20).unwrap()) as &dyn Fn(&fs::File),
        &|file| file.set_len(39 << 20).unwrap(),
        &|file| file.set_len(50 << 20).unwrap(),
        &|file| file.write_all_at(&vec![0; 1 << 20], 5 << 20).unwrap(),
    ] {
        change(what);
        let report = run(&repo, &request).unwrap();
        assert_eq!((report.errors, report.files_written), (vec![], 1));
        assert!(report.bytes_fetched < 20 << 20, "{}", report.bytes_fetched);
        assert_eq!(fs::metadata(&big).unwrap().ino(), inode);
        assert_same(&bench.source(), &bench.target());
    }
}

#[test]
fn zeros_are_put_back_where_data_was() {
    let bench = Bench::new();
    let mut data = trees::noise(7, 8 << 20);
    data[1 << 20..6 << 20].fill(0);
    fs::write(bench.source().join("file"), data).unwrap();
    let repo = bench.init();
    let report = bench.archive(&repo);
    for sparse in [true, false] {
        fs::write(bench.target().join("file"), trees::noise(8, 9 << 20)).unwrap();
        let request = RestoreRequest {
            sparse,
            ..request(&bench, &report.snapshot_id)
        };
        let report = run(&repo, &request).unwrap();
        assert_eq!(report.errors, []);
        assert_same(&bench.source(), &bench.target());
        let blocks = fs::metadata(bench.target().join("file")).unwrap().blocks() * 512;
        assert_eq!(blocks < 6 << 20, sparse, "{blocks}");
    }
}

#[test]
fn times_decide_nothing() {
    let (bench, repo, request) = restored();
    let large = bench.target().join("large");
    fs::write(&large, trees::noise(99, 5 << 20)).unwrap();
    fs::set_permissions(&large, fs::Permissions::from_mode(0o640)).unwrap();
    trees::set_mtime(&large, 1, 1);
    let report = run(&repo, &request).unwrap();
    assert_eq!((report.errors, report.files_written), (vec![], 1));
    assert_same(&bench.source(), &bench.target());
}

#[test]
fn metadata_alone_is_set_without_writing() {
    let (bench, repo, request) = restored();
    let target = bench.target();
    let inode = |name: &str| fs::symlink_metadata(target.join(name)).unwrap().ino();
    let names = ["small", "large", "dir", "link", "fifo", "null"];
    let inodes = names.map(inode);
    trees::set_mtime(&target.join("small"), 5, 5);
    fs::set_permissions(target.join("large"), fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::lchown(target.join("link"), Some(1), Some(1)).unwrap();
    std::os::unix::fs::chown(target.join("null"), Some(1), Some(1)).unwrap();
    trees::set_mtime(&target.join("fifo"), 5, 5);
    let extra = |name: &str, key: &str| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(target.join(name), key, b"no", flags).unwrap();
    };
    extra("dir", "user.extra");
    extra("empty", "user.extra");
    extra("large", "user.other");
    let dry = RestoreRequest {
        dry_run: true,
        ..request.clone()
    };
    let dry = run(&repo, &dry).unwrap();
    // A file with several names is told by its first.
    assert_eq!(
        plan(&dry),
        [
            "dir",
            "dir/small too",
            "empty",
            "fifo",
            "large",
            "link",
            "null"
        ]
        .map(|name| (name, Metadata))
    );
    let report = run(&repo, &request).unwrap();
    assert_eq!((report.errors, report.files_written), (vec![], 0));
    assert_eq!(names.map(inode), inodes);
    assert_same(&bench.source(), &target);
}

#[test]
fn names_outside_the_restore_are_not_harmed() {
    let bench = Bench::new();
    let source = bench.source();
    for name in ["same", "other", "group 1"] {
        fs::write(source.join(name), trees::noise(3, 700_000)).unwrap();
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::hard_link(source.join("group 1"), source.join("group 2")).unwrap();
    let repo = bench.init();
    let report = bench.archive(&repo);
    let request = request(&bench, &report.snapshot_id);
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for (name, content) in [
        ("same", trees::noise(3, 700_000)),
        ("other", trees::noise(4, 700_000)),
        ("group 1", trees::noise(3, 700_000)),
    ] {
        fs::write(outside.join(name), content).unwrap();
        fs::set_permissions(outside.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        trees::set_mtime(&outside.join(name), 77, 7);
        fs::hard_link(outside.join(name), bench.target().join(name)).unwrap();
    }
    // Two names, as in the snapshot, and one of them is not in it.
    let content = |name: &str| {
        let meta = fs::metadata(outside.join(name)).unwrap();
        let content = fs::read(outside.join(name)).unwrap();
        (content, meta.mode(), meta.mtime())
    };
    let names = ["same", "other", "group 1"];
    let before = names.map(content);
    let report = run(&repo, &request).unwrap();
    assert_eq!(report.errors, []);
    assert_eq!(names.map(content), before);
    for name in names {
        assert_eq!(
            fs::metadata(outside.join(name)).unwrap().nlink(),
            1,
            "{name}"
        );
    }
    assert_same(&source, &bench.target());
}

#[test]
fn names_that_belong_together_stay_together() {
    let bench = Bench::new();
    let source = bench.source();
    fs::create_dir(source.join("d")).unwrap();
    fs::write(source.join("a"), trees::noise(3, 700_000)).unwrap();
    for name in ["d/b", "z"] {
        fs::hard_link(source.join("a"), source.join(name)).unwrap();
    }
    let repo = bench.init();
    let report = bench.archive(&repo);
    let request = request(&bench, &report.snapshot_id);
    run(&repo, &request).unwrap();
    assert_same(&source, &bench.target());
    let before = state(&bench.target());
    let report = run(&repo, &request).unwrap();
    assert_eq!((report.files_unchanged, report.bytes_fetched), (3, 0));
    assert_eq!(state(&bench.target()), before);
    // Written through all three.
    fs::write(bench.target().join("z"), "changed").unwrap();
    let report = run(&repo, &request).unwrap();
    assert_eq!(report.errors, []);
    assert_same(&source, &bench.target());
    // One of them torn off.
    fs::remove_file(bench.target().join("d/b")).unwrap();
    fs::write(bench.target().join("d/b"), "something else").unwrap();
    let report = run(&repo, &request).unwrap();
    assert_eq!(report.errors, []);
    assert_same(&source, &bench.target());
}

#[test]
fn extras_go_only_when_asked_and_a_dry_run_says_which() {
    let (bench, repo, request) = restored();
    let target = bench.target();
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    fs::create_dir_all(target.join("extra/deep/er")).unwrap();
    fs::write(target.join("extra/deep/file"), "x").unwrap();
    symlink(&outside, target.join("extra/link")).unwrap();
    fs::write(target.join("dir/more"), "x").unwrap();
    // A directory with something in it where a file belongs.
    fs::remove_file(target.join("large")).unwrap();
    fs::create_dir(target.join("large")).unwrap();
    fs::write(target.join("large/inside"), "x").unwrap();

    let kept = run(&repo, &request).unwrap();
    assert_eq!(kept.deleted, 0);
    assert_eq!(kept.errors.len(), 1);
    assert!(target.join("extra/deep/file").exists() && target.join("large/inside").exists());

    let request = RestoreRequest {
        delete_extra: true,
        ..request
    };
    let before = state(&target);
    let dry = RestoreRequest {
        dry_run: true,
        ..request.clone()
    };
    let dry = run(&repo, &dry).unwrap();
    assert_eq!(state(&target), before);
    let planned: Vec<_> = plan(&dry)
        .into_iter()
        .filter(|(_, action)| *action != Metadata)
        .collect();
    assert_eq!(
        planned,
        [
            ("dir/more", Delete),
            ("extra", Delete),
            ("extra/deep", Delete),
            ("extra/deep/er", Delete),
            ("extra/deep/file", Delete),
            ("extra/link", Delete),
            ("large", Replace),
            ("large/inside", Delete),
        ]
    );
    let report = run(&repo, &request).unwrap();
    assert_eq!(report.errors, []);
    assert_eq!((report.deleted, dry.deleted), (7, 7));
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
    assert_same(&bench.source(), &target);
}

#[test]
fn a_dry_run_says_exactly_what_the_run_then_does() {
    let (bench, repo, request) = restored();
    let target = bench.target();
    fs::write(target.join("small"), "changed").unwrap();
    fs::remove_file(target.join("link")).unwrap();
    fs::write(target.join("link"), "a file where a link was").unwrap();
    fs::remove_dir_all(target.join("dir")).unwrap();
    symlink("/nowhere", target.join("dir")).unwrap();
    fs::remove_file(target.join("zeros")).unwrap();
    fs::remove_file(target.join("fifo")).unwrap();
    fs::write(target.join("sparse"), "short").unwrap();
    fs::write(target.join("extra"), "x").unwrap();
    let before = state(&target);
    for delete_extra in [false, true] {
        let dry = RestoreRequest {
            dry_run: true,
            delete_extra,
            ..request.clone()
        };
        let report = run(&repo, &dry).unwrap();
        assert_eq!(state(&target), before);
        assert_eq!((report.errors, report.bytes_fetched), (vec![], 0));
    }
    let request = RestoreRequest {
        delete_extra: true,
        ..request
    };
    let dry = RestoreRequest {
        dry_run: true,
        ..request.clone()
    };
    let dry = run(&repo, &dry).unwrap();
    assert_eq!(
        plan(&dry),
        [
            (".", Metadata),
            ("dir", Replace),
            ("dir/empty dir", Create),
            ("dir/file", Create),
            ("dir/small too", Create),
            ("extra", Delete),
            ("fifo", Create),
            ("link", Replace),
            ("small", Replace),
            ("sparse", Update),
            ("zeros", Create),
        ]
    );
    let done = run(&repo, &request).unwrap();
    assert_eq!(done.errors, []);
    let counts = |report: &RestoreReport| {
        (
            report.files,
            report.files_unchanged,
            report.files_written,
            report.dirs,
            report.deleted,
            report.bytes,
            report.bytes_written,
        )
    };
    assert_eq!(counts(&dry), counts(&done));
    assert_eq!(done.plan, []);
    assert_same(&bench.source(), &target);
}

#[test]
fn a_dry_run_into_an_empty_directory() {
    let bench = Bench::new();
    trees::everything(&bench.source());
    let repo = bench.init();
    let report = bench.archive(&repo);
    let request = RestoreRequest {
        dry_run: true,
        ..request(&bench, &report.snapshot_id)
    };
    let dry = run(&repo, &request).unwrap();
    assert_eq!(dry.errors, []);
    assert_eq!((dry.files, dry.dirs), (report.files, report.dirs));
    assert_eq!(dry.files_written, dry.files);
    let created = dry.plan.iter().filter(|change| change.path != ".");
    assert!(created.clone().all(|change| change.action == Create));
    assert_eq!(created.count() as u64, report.files + report.dirs);
    assert_eq!(fs::read_dir(bench.target()).unwrap().count(), 0);
}
