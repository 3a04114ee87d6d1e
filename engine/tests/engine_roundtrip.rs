//! Archive and restore give back what was there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{fs, os::unix::fs::MetadataExt as _};

use ark_engine::{
    ArchiveRequest, Cancel, FileOperation, Outcome, Progress,
    maintain::{Forget, forget},
};
use common::{Bench, archive, compare::assert_same, files, restore, trees};

#[test]
fn everything_comes_back() {
    let bench = Bench::new();
    trees::everything(&bench.source());
    let repo = bench.init();
    let report = bench.archive(&repo);
    assert_eq!(report.errors, []);
    assert_eq!(report.outcome(), Outcome::Complete);
    assert_eq!(report.snapshot_id.len(), 64);
    let restored = bench.restore(&repo, &report.snapshot_id[..10]);
    assert_eq!(restored.errors, []);
    assert_eq!(restored.notes, []);
    assert_same(&bench.source(), &bench.target());
    assert_eq!((restored.files, restored.dirs), (report.files, report.dirs));
    let blocks = |name: &str| fs::metadata(bench.target().join(name)).unwrap().blocks();
    assert!(blocks("sparse") * 512 < 1 << 20, "{}", blocks("sparse"));
    assert_eq!(blocks("zeros"), 0);
    assert!(
        bench
            .dir
            .path()
            .join("repo/locks")
            .read_dir()
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn an_empty_directory() {
    let bench = Bench::new();
    let repo = bench.init();
    let report = bench.archive(&repo);
    assert_eq!((report.files, report.dirs, report.bytes_total), (0, 0, 0));
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(restored.outcome(), Outcome::Complete);
    assert_same(&bench.source(), &bench.target());
}

#[test]
fn unchanged_files_are_not_read_again_and_changed_ones_are() {
    let bench = Bench::new();
    let source = bench.source();
    trees::plain(&source, 30, 10_000);
    for file in files(&source) {
        trees::set_mtime(&file, 1_700_000_000, 7);
    }
    common::settle(&source);
    let repo = bench.init();
    let first = bench.archive(&repo);
    assert_eq!((first.files_unchanged, first.parent), (0, None));
    let second = bench.archive(&repo);
    assert_eq!(second.files_unchanged, 30);
    assert_eq!(second.parent.as_ref(), Some(&first.snapshot_id));
    assert_eq!(second.bytes_new, 0);

    // The same size, and the times set back: only the ctime tells.
    fs::write(source.join("d1/f1"), trees::noise(99, 10_000)).unwrap();
    trees::set_mtime(&source.join("d1/f1"), 1_700_000_000, 7);
    let third = bench.archive(&repo);
    assert_eq!(third.files_unchanged, 29);
    bench.restore(&repo, &third.snapshot_id);
    assert_same(&source, &bench.target());

    let request = ArchiveRequest {
        reread_all: true,
        ..bench.request()
    };
    let reread = archive(&repo, &request).unwrap();
    assert_eq!((reread.files_unchanged, reread.parent), (0, None));
    assert_eq!(reread.bytes_total, third.bytes_total);
}

#[test]
fn a_file_that_just_changed_is_read_again() {
    let bench = Bench::new();
    let file = bench.source().join("file");
    fs::write(&file, "one").unwrap();
    let repo = bench.init();
    bench.archive(&repo);
    // Nothing changed, but that cannot be known: it may have changed within the clock's grain.
    let second = bench.archive(&repo);
    assert_eq!(second.files_unchanged, 0);
}

#[test]
fn restore_in_place_replaces_what_differs_and_keeps_what_is_extra() {
    let bench = Bench::new();
    trees::everything(&bench.source());
    let repo = bench.init();
    let report = bench.archive(&repo);
    let target = bench.target();
    bench.restore(&repo, &report.snapshot_id);
    fs::write(target.join("small"), "changed, and longer than before").unwrap();
    fs::remove_file(target.join("link")).unwrap();
    fs::write(target.join("link"), "a file where a link was").unwrap();
    fs::remove_dir_all(target.join("dir")).unwrap();
    fs::write(target.join("dir"), "a file where a directory was").unwrap();
    fs::create_dir(target.join("zeros.d")).unwrap();
    fs::write(target.join("extra"), "stays").unwrap();
    let again = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(again.errors, []);
    assert_eq!(fs::read(target.join("extra")).unwrap(), b"stays");
    fs::remove_file(target.join("extra")).unwrap();
    fs::remove_dir(target.join("zeros.d")).unwrap();
    trees::set_mtime(&target, 1_234_567_890, 42);
    assert_same(&bench.source(), &target);
}

#[test]
fn a_directory_that_is_not_empty_is_not_replaced_by_a_file() {
    let bench = Bench::new();
    fs::write(bench.source().join("name"), "a file").unwrap();
    fs::write(bench.source().join("other"), "another").unwrap();
    let repo = bench.init();
    let report = bench.archive(&repo);
    fs::create_dir(bench.target().join("name")).unwrap();
    fs::write(bench.target().join("name/inside"), "precious").unwrap();
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(restored.outcome(), Outcome::Partial);
    assert_eq!(restored.errors[0].path, "name");
    assert_eq!(restored.errors[0].operation, FileOperation::Create);
    assert_eq!(
        fs::read(bench.target().join("name/inside")).unwrap(),
        b"precious"
    );
    assert_eq!(fs::read(bench.target().join("other")).unwrap(), b"another");
}

#[test]
fn excludes_and_sockets() {
    let bench = Bench::new();
    let source = bench.source();
    fs::create_dir_all(source.join("cache/deep")).unwrap();
    for name in ["keep", "drop.tmp", "cache/deep/x"] {
        fs::write(source.join(name), "x").unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    let repo = bench.init();
    let request = ArchiveRequest {
        excludes: vec!["*.tmp".to_owned(), "/cache/".to_owned()],
        ..bench.request()
    };
    let report = archive(&repo, &request).unwrap();
    assert_eq!(report.outcome(), Outcome::Complete);
    assert_eq!(report.notes[0].path, "socket");
    bench.restore(&repo, &report.snapshot_id);
    assert_eq!(files(&bench.target()), [bench.target().join("keep")]);
}

#[test]
fn a_very_deep_tree() {
    let bench = Bench::new();
    // Deeper than the descriptors kept open, and longer than PATH_MAX.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let open = |dir: &std::os::fd::OwnedFd, name: &str| {
        rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty()).unwrap()
    };
    let root = rustix::fs::open(bench.source(), flags, rustix::fs::Mode::empty()).unwrap();
    let name = "d".repeat(30);
    let mut at = root;
    for n in 0..300 {
        rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::RWXU).unwrap();
        if n % 50 == 0 {
            rustix::fs::mkdirat(&at, "beside", rustix::fs::Mode::RWXU).unwrap();
        }
        at = open(&at, &name);
    }
    let bottom = rustix::fs::openat(
        &at,
        "bottom",
        rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY,
        rustix::fs::Mode::RUSR,
    )
    .unwrap();
    rustix::io::write(&bottom, b"found").unwrap();
    let repo = bench.init();
    let report = bench.archive(&repo);
    assert_eq!(
        (report.errors.clone(), report.dirs, report.files),
        (vec![], 306, 1)
    );
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(
        (restored.errors, restored.dirs, restored.files),
        (vec![], 306, 1)
    );
    let mut at = rustix::fs::open(bench.target(), flags, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..300 {
        at = open(&at, &name);
    }
    let bottom = rustix::fs::openat(
        &at,
        "bottom",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let mut text = [0; 9];
    let len = rustix::io::read(&bottom, &mut text[..]).unwrap();
    assert_eq!(&text[..len], b"found");
}

#[test]
fn progress_ends_complete() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 20, 100_000);
    let repo = bench.init();
    let progress = Progress::new();
    let report = ark_engine::archive(&repo, &bench.request(), &progress, &Cancel::new()).unwrap();
    let counts = progress.snapshot();
    assert_eq!((counts.files_done, counts.files_total), (20, 20));
    assert_eq!(
        (counts.bytes_done, counts.bytes_total),
        (2_000_000, 2_000_000)
    );
    assert!(counts.bytes_uploaded >= 2_000_000);
    assert_eq!(counts.bytes_uploaded, report.bytes_new);
    restore(&repo, &report.snapshot_id, &bench.target()).unwrap();
}

#[test]
fn check_finds_a_flipped_bit() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 5, 100_000);
    let repo = bench.init();
    let report = bench.archive(&repo);
    let check = |read| ark_engine::check(&repo, read, &Cancel::new()).unwrap();
    assert_eq!(check(true).findings, []);
    let packs = files(&bench.repo_dir().join("data"));
    let pack = packs
        .iter()
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    fs::write(pack, bytes).unwrap();
    assert!(check(false).is_ok());
    assert!(!check(true).is_ok());
    // The file it is in is a row and is not left half restored; the others are restored.
    let restored = bench.restore(&repo, &report.snapshot_id);
    assert_eq!(restored.errors.len(), 1, "{:?}", restored.errors);
    assert_eq!(restored.errors[0].operation, FileOperation::Read);
    assert_eq!((restored.files, files(&bench.target()).len()), (4, 4));
}

#[test]
fn snapshots_are_forgotten_by_their_tags_and_a_second_time_nothing_is() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 3, 1000);
    let repo = bench.init();
    for backup in ["one", "two", "two", "three"] {
        let tags = vec!["ns=test".to_owned(), format!("backup-uid={backup}")];
        let request = ArchiveRequest {
            tags,
            ..bench.request()
        };
        archive(&repo, &request).unwrap();
    }
    let tags = [
        "backup-uid=two",
        "backup-uid=three",
        "backup-uid=tw",
        "nobody",
    ];
    let what = Forget::Tagged(tags.map(str::to_owned).to_vec());
    let forgotten = |dry_run| {
        let report = forget(&repo, &what, dry_run, &Cancel::new()).unwrap();
        report.removed.len()
    };
    assert_eq!(
        (forgotten(true), forgotten(false), forgotten(false)),
        (3, 3, 0)
    );
    let left = repo.snapshots().unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].tags.contains(&"backup-uid=one".to_owned()));
}
