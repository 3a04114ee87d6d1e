//! What stock restic makes of repositories that we wrote, in both versions of the format: it finds
//! our trees exactly as it would have written them, repairs what was lost, and frees space; we go
//! on with what it left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::fs;

use ark_engine::{ArchiveRequest, FormatVersion, Outcome};
use common::{
    archive,
    compare::assert_same,
    files,
    restic::Restic,
    trees,
    written::{VERSIONS, Written, blobs, data_blobs, snapshots},
};

#[test]
fn restic_rewrites_our_trees() {
    for version in VERSIONS {
        let written = Written::new(version);
        let restic = written.restic();
        // Encoded again, all are what they were: a tree of another form would be an error, or a new
        // snapshot.
        let said = restic.run(&["rewrite", "--exclude", "no such name"]);
        assert!(said.contains("no snapshots were modified"), "{said}");
        // Without some entries, their directories are written by restic.
        let said = restic.run(&[
            "rewrite",
            "--forget",
            "--exclude",
            "goes",
            "--exclude",
            "comes",
            "--exclude",
            "deep/level 0",
        ]);
        assert!(said.contains("modified 2 snapshots"), "{said}");
        let new = snapshots(&restic);
        assert!(!new.contains(&written.first) && !new.contains(&written.second));
        let source = written.bench.source();
        let newest = new.last().unwrap();
        fs::remove_file(source.join("comes")).unwrap();
        fs::remove_dir_all(source.join("deep/level 0")).unwrap();
        // Restic keeps the directory's own times, which our removal changed.
        let restored = written.restored(newest);
        for name in ["", "deep"] {
            let modified = fs::metadata(restored.path().join(name)).unwrap().modified();
            let dir = fs::File::open(source.join(name)).unwrap();
            dir.set_modified(modified.unwrap()).unwrap();
        }
        assert_same(&source, restored.path());
        restic.run(&["prune", "--max-unused", "0"]);
        written.goes_on(newest);
    }
}

#[test]
fn restic_makes_our_index_anew() {
    for version in VERSIONS {
        let written = Written::new(version);
        let restic = written.restic();
        let before = blobs(&restic);
        assert!(before.len() > 50);
        for args in [
            &["repair", "index"][..],
            &["repair", "index", "--read-all-packs"],
        ] {
            restic.run(args);
            assert_eq!(blobs(&restic), before);
        }
        // Without any, all is read from the packs' own headers.
        for file in files(&written.bench.repo_dir().join("index")) {
            fs::remove_file(file).unwrap();
        }
        restic.run(&["repair", "index"]);
        assert_eq!(blobs(&restic), before);
        written.goes_on(&written.second);
    }
}

#[test]
fn the_installed_restic_makes_our_index_anew() {
    let written = Written::new(FormatVersion::V2);
    let restic = Restic::local(&written.bench.repo_dir());
    for file in files(&written.bench.repo_dir().join("index")) {
        fs::remove_file(file).unwrap();
    }
    restic.run(&["rebuild-index"]);
    restic.check();
    written.goes_on(&written.second);
}

#[test]
fn restic_finds_nothing_to_repair_in_our_snapshots() {
    for version in VERSIONS {
        let written = Written::new(version);
        let restic = written.restic();
        let before = files(&written.bench.repo_dir());
        let said = restic.run(&["repair", "snapshots", "--dry-run"]);
        assert!(said.contains("no snapshots would be modified"), "{said}");
        assert_eq!(files(&written.bench.repo_dir()), before);
        written.goes_on(&written.second);
    }
}

/// The pack with the content of `comes` is lost: restic repairs index and snapshots, and the rest
/// can be restored by us.
#[test]
fn what_restic_repaired_can_be_restored_and_completed() {
    for version in VERSIONS {
        let written = Written::new(version);
        let bench = &written.bench;
        let packs = files(&bench.repo_dir().join("data"));
        let lone = trees::noise(80, 4 << 20);
        fs::write(bench.source().join("lone"), &lone).unwrap();
        let whole = bench.archive(&bench.open()).snapshot_id;
        let new = files(&bench.repo_dir().join("data"));
        for pack in new.iter().filter(|pack| !packs.contains(pack)) {
            // Only packs with content are as large.
            if fs::metadata(pack).unwrap().len() > 512 << 10 {
                fs::remove_file(pack).unwrap();
            }
        }
        let restic = written.restic();
        restic.run(&["repair", "index"]);
        restic.run(&["repair", "snapshots", "--forget"]);
        restic.check();
        let repaired = snapshots(&restic).pop().unwrap();
        assert_ne!(repaired, whole);
        let restored = written.restored(&repaired);
        assert!(
            !restored.path().join("lone").exists() || {
                fs::read(restored.path().join("lone")).unwrap() != lone
            }
        );
        assert!(restored.path().join("comes").exists());
        // A snapshot that restic repaired serves as parent, and what is missing is stored again.
        let report = bench.archive(&bench.open());
        assert_eq!(report.outcome(), Outcome::Complete);
        assert!(data_blobs(&restic, &report.snapshot_id) > 0);
        written.goes_on(&report.snapshot_id);
    }
}

#[test]
fn restic_prunes_ours() {
    // The installed restic with version 2: see the tests of the commands.
    for (version, newest) in [(FormatVersion::V1, false), (FormatVersion::V2, true)] {
        let written = Written::new(version);
        let root = written.bench.repo_dir();
        let restic = if newest {
            Restic::newest(&root)
        } else {
            Restic::local(&root)
        };
        restic.run(&["forget", &written.first]);
        let before = size(&written);
        restic.run(&["prune", "--max-unused", "0"]);
        // The content that only the first had.
        assert!(size(&written) + (4 << 20) < before);
        written.goes_on(&written.second);
    }
}

fn size(written: &Written) -> u64 {
    let packs = files(&written.bench.repo_dir().join("data"));
    packs
        .iter()
        .map(|pack| fs::metadata(pack).unwrap().len())
        .sum()
}

/// From version 1 to version 2, with all data compressed afterwards.
#[test]
fn restic_upgrades_ours() {
    let written = Written::new(FormatVersion::V1);
    let restic = written.restic();
    restic.run(&["migrate", "upgrade_repo_v2"]);
    let before = size(&written);
    restic.run(&["prune", "--repack-uncompressed"]);
    assert!(
        size(&written) + (8 << 20) < before,
        "holes are not compressed"
    );
    assert_eq!(written.bench.open().version(), 2);
    written.goes_on(&written.second);
}

/// Data of one is known to the other, in a repository of either: Rabin files without holes.
#[test]
fn nobody_stores_what_the_other_has_stored() {
    for version in VERSIONS {
        for ours_first in [true, false] {
            let bench = common::Bench::in_memory();
            let source = bench.source();
            trees::plain(&source, 40, 200_000);
            fs::write(source.join("dense"), trees::noise(3, 20 << 20)).unwrap();
            // Not a hole, and cut by every one of its positions.
            fs::write(source.join("zeros"), vec![0; 5 << 20]).unwrap();
            let mut padded = trees::noise(4, 12 << 20);
            for page in padded.chunks_mut(8192) {
                page[5000..].fill(0);
            }
            fs::write(source.join("padded"), padded).unwrap();
            let repo = bench.init_version(version);
            let restic = Restic::newest(&bench.repo_dir());
            let theirs = || {
                let mut command = restic.command();
                command
                    .current_dir(&source)
                    .args(["backup", ".", "--force"]);
                assert!(command.output().unwrap().status.success());
                snapshots(&restic).pop().unwrap()
            };
            let ours = || {
                let request = ArchiveRequest {
                    reread_all: true,
                    ..bench.request()
                };
                archive(&repo, &request).unwrap().snapshot_id
            };
            let (first, second) = if ours_first {
                (ours(), theirs())
            } else {
                (theirs(), ours())
            };
            assert!(data_blobs(&restic, &first) > 50);
            assert_eq!(data_blobs(&restic, &second), 0, "{version:?} {ours_first}");
            restic.check();
        }
    }
}
