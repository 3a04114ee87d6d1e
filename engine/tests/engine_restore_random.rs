//! Restoring random trees, into nothing and over each other, while somebody plays tricks, and
//! within a ceiling.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, lchown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use ark_engine::{
    Cancel, OpenOptions, Progress, Repository, RestoreReport, RestoreRequest, Secret, Store,
    StoreConfig,
};
use common::{Bench, compare::assert_same, trees};

/// Small numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// A tree of few names, so that two of them have much in common, and nothing else the same.
fn grow(dir: &Path, dice: &mut Dice, depth: u64, files: &mut Vec<PathBuf>) {
    for n in 0..dice.roll(9) {
        let path = dir.join(format!("n{n}"));
        match dice.roll(10) {
            0..=4 => {
                // Few different pieces: the same blobs in many files.
                let piece = |dice: &mut Dice| trees::noise(dice.roll(4), 1 << 18);
                let mut data = Vec::new();
                for _ in 0..dice.roll(12) {
                    data.extend(piece(dice));
                }
                data.truncate(
                    data.len()
                        .saturating_sub(usize::try_from(dice.roll(300_000)).unwrap()),
                );
                if dice.one_in(4) {
                    let at = data.len() / 2;
                    data[at..].fill(0);
                }
                fs::write(&path, data).unwrap();
                files.push(path.clone());
            }
            5 | 6 if depth > 0 => {
                fs::create_dir(&path).unwrap();
                grow(&path, dice, depth - 1, files);
            }
            7 => symlink(format!("to {}", dice.roll(3)), &path).unwrap(),
            8 if !files.is_empty() => {
                let first = &files[usize::try_from(dice.roll(files.len() as u64)).unwrap()];
                fs::hard_link(first, &path).unwrap();
            }
            9 => {
                let kind = rustix::fs::FileType::Fifo;
                let mode = rustix::fs::Mode::RUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
            }
            _ => continue,
        }
        metadata(&path, dice);
    }
    metadata(dir, dice);
}

fn metadata(path: &Path, dice: &mut Dice) {
    let id = |dice: &mut Dice| Some(u32::try_from(dice.roll(3)).unwrap() * 1000);
    lchown(path, id(dice), id(dice)).unwrap();
    if !path.is_symlink() {
        let mode = [0o755, 0o700, 0o4750, 0o2775, 0o1777, 0o000, 0o444];
        let mode = mode[usize::try_from(dice.roll(7)).unwrap()];
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let meta = fs::symlink_metadata(path).unwrap();
        if (meta.is_file() || meta.is_dir()) && dice.one_in(3) {
            let name = format!("user.{}", dice.roll(2));
            let value = trees::noise(dice.roll(2), 300);
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::lsetxattr(path, name, &value, flags).unwrap();
        }
    }
    let (seconds, nanos) = (dice.roll(1 << 31), dice.roll(1_000_000_000));
    trees::set_mtime(
        path,
        i64::try_from(seconds).unwrap(),
        i64::try_from(nanos).unwrap(),
    );
}

fn run(repo: &Repository, request: &RestoreRequest) -> RestoreReport {
    ark_engine::restore(repo, request, &Progress::new(), &Cancel::new()).unwrap()
}

/// Several trees, each restored over the one before, with every combination of options.
#[test]
fn random_trees_come_back_whatever_was_there() {
    let bench = Bench::new();
    let repo = bench.init();
    let mut snapshots = Vec::new();
    for seed in 0..8 {
        let source = bench.dir.path().join(format!("source {seed}"));
        fs::create_dir(&source).unwrap();
        grow(&source, &mut Dice(seed * 77 + 1), 4, &mut Vec::new());
        let request = common::request(&source);
        let report = common::archive(&repo, &request).unwrap();
        assert_eq!(report.errors, []);
        snapshots.push((report.snapshot_id, source));
    }
    for (n, (snapshot, source)) in snapshots.iter().enumerate() {
        let request = RestoreRequest {
            snapshot: snapshot.clone(),
            target: bench.target(),
            sparse: n % 2 == 0,
            restore_owner: true,
            delete_extra: true,
            memory: if n % 3 == 0 { 0 } else { 64 << 20 },
            ..RestoreRequest::default()
        };
        let dry = RestoreRequest {
            dry_run: true,
            ..request.clone()
        };
        let dry = run(&repo, &dry);
        let done = run(&repo, &request);
        assert_eq!((dry.errors, done.errors.clone()), (vec![], vec![]), "{n}");
        assert_same(source, &bench.target());
        let counts = |report: &RestoreReport| {
            (
                report.files,
                report.files_written,
                report.dirs,
                report.deleted,
                report.bytes,
                report.bytes_written,
            )
        };
        let dry = RestoreReport {
            errors: Vec::new(),
            ..dry
        };
        assert_eq!(counts(&dry), counts(&done), "{n}");
        let again = run(&repo, &request);
        assert_eq!((again.files_written, again.deleted), (0, 0), "{n}");
        assert_same(source, &bench.target());
    }
    assert_eq!(snapshots.len(), 8);
}

/// Somebody who may write to the target swaps a directory for a link to another place, all the
/// time.
#[test]
fn a_directory_swapped_for_a_link_never_leads_outside() {
    let bench = Bench::new();
    let source = bench.source();
    for n in 0..200 {
        let dir = source.join(format!("d/{}", n % 5));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{n}")), trees::noise(n, 20_000)).unwrap();
        fs::write(
            dir.join(format!("g{n}")),
            trees::noise(n, 600_000 * usize::from(n % 20 == 0)),
        )
        .unwrap();
    }
    let repo = bench.init();
    let snapshot = bench.archive(&repo).snapshot_id;
    let outside = bench.dir.path().join("outside");
    for n in 0..5 {
        fs::create_dir_all(outside.join(n.to_string())).unwrap();
        fs::write(outside.join(format!("{n}/f{n}")), "precious").unwrap();
    }
    let seen = || {
        let files = common::files(&outside);
        let content: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        (files, content)
    };
    let before = seen();
    let request = RestoreRequest {
        snapshot,
        target: bench.target(),
        restore_owner: true,
        delete_extra: true,
        ..RestoreRequest::default()
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let target = bench.target();
            let aside = bench.dir.path().join("aside");
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                // Each step may fail when the restore was faster.
                let name = if n % 3 == 0 {
                    "d".to_owned()
                } else {
                    format!("d/{}", n % 5)
                };
                let inner = outside.join(if n % 3 == 0 {
                    String::new()
                } else {
                    (n % 5).to_string()
                });
                if fs::rename(target.join(&name), &aside).is_ok() {
                    drop(symlink(&inner, target.join(&name)));
                    std::thread::yield_now();
                    drop(fs::remove_file(target.join(&name)));
                    if fs::rename(&aside, target.join(&name)).is_err() {
                        drop(fs::remove_dir_all(&aside));
                    }
                }
                n += 1;
            }
        });
        for _ in 0..15 {
            let done = ark_engine::restore(&repo, &request, &Progress::new(), &Cancel::new());
            drop(done);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(seen(), before);
    let report = run(&repo, &request);
    assert_eq!(report.errors, []);
    assert_same(&source, &bench.target());
}

/// Peak memory of this process, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[test]
fn memory_stays_within_the_ceiling() {
    let bench = Bench::new();
    let source = bench.source();
    fs::write(source.join("large"), trees::noise(1, 160 << 20)).unwrap();
    fs::create_dir(source.join("small")).unwrap();
    for n in 0..12_000 {
        fs::write(
            source.join(format!("small/a name of some length {n}")),
            trees::noise(n, 6000),
        )
        .unwrap();
    }
    let repo = bench.init();
    bench.archive(&repo);
    // In a process of its own, which has used no memory for anything else.
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_restores_within_a_ceiling",
            "--ignored",
            "--nocapture",
        ])
        .env("ARK_TEST_DIR", bench.dir.path())
        .status();
    assert!(child.unwrap().success());
    assert_same(&source, &bench.target());
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_restores_within_a_ceiling() {
    let dir = PathBuf::from(std::env::var_os("ARK_TEST_DIR").unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = StoreConfig::Local {
        root: dir.join("repo"),
    };
    let repo = Repository::open(
        Store::open(&config).unwrap(),
        &[Secret::new(common::PASSWORD)],
        OpenOptions::default(),
        runtime.handle().clone(),
    );
    let repo = repo.unwrap();
    let request = RestoreRequest {
        snapshot: repo.snapshots().unwrap().remove(0).id,
        target: dir.join("target"),
        restore_owner: true,
        memory: 32 << 20,
        ..RestoreRequest::default()
    };
    let before = peak();
    let report = run(&repo, &request);
    assert_eq!(report.errors, []);
    let grown = peak() - before;
    // The ceiling, the trees' documents, the index, and what the allocator keeps.
    assert!(grown < 56 << 20, "{grown}");
}
