//! Snapshots that we wrote, as stock restic reads them: copied to other repositories and back,
//! compared, written out, restored and verified. In both versions of the format.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Command, Stdio},
};

use ark_engine::FormatVersion;
use common::{
    Bench, PASSWORD,
    compare::assert_same,
    files,
    restic::Restic,
    trees,
    written::{VERSIONS, Written, data_blobs, is_clean, same_but_for_restic, snapshots},
};

/// Copies all snapshots of one repository into another.
fn copy(from: &Path, to: &Restic) {
    let out = to
        .command()
        .args(["copy", "--from-repo", from.to_str().unwrap()])
        .env("RESTIC_FROM_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", common::restic::text(&out));
}

#[test]
fn restic_copies_ours_and_back() {
    for (version, other) in VERSIONS.into_iter().zip(VERSIONS.into_iter().rev()) {
        let written = Written::new(version);
        let restic = written.restic();
        // To a repository that we made, in the other version.
        let elsewhere = Bench::in_memory();
        let repo = elsewhere.init_version(other);
        let there = Restic::newest(&elsewhere.repo_dir());
        copy(&written.bench.repo_dir(), &there);
        there.check();
        is_clean(&repo);
        let copied = snapshots(&there);
        assert_eq!(copied.len(), 2);
        // The same trees, of the same ids: restic encoded nothing otherwise.
        let tree = |restic: &Restic, id: &str| {
            let text = restic.run(&["cat", "snapshot", id]);
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            document["tree"].clone()
        };
        for (ours, theirs) in [&written.first, &written.second].into_iter().zip(&copied) {
            assert_eq!(tree(&restic, ours), tree(&there, theirs));
        }
        let report = common::restore(&repo, &copied[1], &elsewhere.target()).unwrap();
        assert_eq!(report.errors, []);
        assert_same(&written.bench.source(), &elsewhere.target());

        // And back, where nothing is left of them.
        restic.run(&["forget", &written.first, &written.second]);
        restic.run(&["prune", "--max-unused", "0"]);
        assert!(files(&written.bench.repo_dir().join("data")).is_empty());
        copy(&elsewhere.repo_dir(), &restic);
        let back = snapshots(&restic);
        assert_eq!(back.len(), 2);
        for (ours, theirs) in back.iter().zip(&copied) {
            assert_eq!(tree(&restic, ours), tree(&there, theirs));
        }
        written.goes_on(&back[1]);
    }
}

/// A repository that restic made for copies, with our polynomial: what is copied there is known to
/// both programs.
#[test]
fn restic_takes_over_how_our_files_are_cut() {
    let written = Written::new(FormatVersion::V2);
    let elsewhere = Bench::in_memory();
    let there = Restic::newest(&elsewhere.repo_dir());
    let out = there
        .command()
        .args(["init", "--copy-chunker-params", "--from-repo"])
        .arg(written.bench.repo_dir())
        .env("RESTIC_FROM_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", common::restic::text(&out));
    copy(&written.bench.repo_dir(), &there);
    let request = ark_engine::ArchiveRequest {
        reread_all: true,
        ..written.bench.request()
    };
    let report = common::archive(&elsewhere.open(), &request).unwrap();
    assert_eq!(data_blobs(&there, &report.snapshot_id), 0);
    there.check();
}

#[test]
fn restic_sees_what_changed_between_ours() {
    for version in VERSIONS {
        let written = Written::new(version);
        let bench = &written.bench;
        let source = bench.source();
        fs::remove_file(source.join("dangling")).unwrap();
        fs::write(source.join("dangling"), "a file now").unwrap();
        fs::rename(source.join("d1"), source.join("moved")).unwrap();
        let third = bench.archive(&bench.open()).snapshot_id;
        for restic in [written.restic(), Restic::local(&bench.repo_dir())] {
            let lines = |from: &str, to: &str| -> BTreeSet<String> {
                let said = restic.run(&["diff", from, to]);
                let kind = |line: &&str| {
                    line.get(1..5) == Some("    ") && line.contains('/') && !line.starts_with(' ')
                };
                said.lines().filter(kind).map(str::to_owned).collect()
            };
            let changed = lines(&written.first, &written.second);
            let wanted = ["+    /comes", "-    /goes", "M    /changes"].map(str::to_owned);
            assert_eq!(changed, BTreeSet::from(wanted));
            let changed = lines(&written.second, &third);
            assert!(
                changed.contains("+    /moved/") && changed.contains("-    /d1/"),
                "{changed:?}"
            );
            // How restic marks another kind differs from version to version.
            let dangling = |line: &&String| line.ends_with("/dangling");
            assert_eq!(changed.iter().filter(dangling).count(), 1);
            assert_eq!(lines(&third, &third), BTreeSet::new());
        }
        written.goes_on(&third);
    }
}

#[test]
fn restic_writes_out_ours() {
    for version in VERSIONS {
        let written = Written::new(version);
        let bench = &written.bench;
        let source = bench.source();
        for restic in [written.restic(), Restic::local(&bench.repo_dir())] {
            for name in [
                "empty",
                "large",
                "zeros",
                "changes",
                "dir/small too",
                "quote\" back\\slash",
                "new\nline\ttab",
                "d3/f10",
            ] {
                let path = format!("/{name}");
                let out = restic.output(&["dump", &written.second, &path]);
                assert!(out.status.success(), "{}", common::restic::text(&out));
                assert!(out.stdout == fs::read(source.join(name)).unwrap(), "{name}");
            }
            // The whole, as an archive.
            let target = tempfile::tempdir_in(bench.dir.path()).unwrap();
            let mut dump = restic
                .command()
                .args(["dump", &written.second, "/"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let unpacked = Command::new("tar")
                .args(["-x", "--numeric-owner", "--same-permissions", "-C"])
                .arg(target.path())
                .stdin(dump.stdout.take().unwrap())
                .status();
            assert!(unpacked.unwrap().success());
            assert!(dump.wait().unwrap().success());
            let unpacked: BTreeSet<_> = names(target.path());
            assert_eq!(unpacked, names(&source));
            for name in ["large", "changes", "d3/f10"] {
                let content = fs::read(target.path().join(name)).unwrap();
                assert!(content == fs::read(source.join(name)).unwrap(), "{name}");
            }
        }
        written.goes_on(&written.second);
    }
}

/// Our own archive of a directory, unpacked by tar, is what our restore makes of it, but for hard
/// links.
#[test]
fn a_directory_as_an_archive() {
    let written = Written::new(FormatVersion::V2);
    let bench = &written.bench;
    let source = bench.source();
    fs::remove_file(source.join("dir/small too")).unwrap();
    let long = (0..5).fold(source.join("far"), |path, n| {
        path.join(format!("{n}{}", "y".repeat(60)))
    });
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("end"), "found").unwrap();
    std::os::unix::fs::symlink("z".repeat(300), source.join("long link")).unwrap();
    trees::set_mtime(&source.join("comes"), -7, 250_000_000);
    let repo = bench.open();
    let id = bench.archive(&repo).snapshot_id;
    let snapshot = repo.find_snapshot(&id).unwrap();
    let dump = |path: &str| {
        let mut archive = Vec::new();
        let (progress, cancel) = (ark_engine::Progress::new(), ark_engine::Cancel::new());
        ark_engine::browse::dump(
            &repo,
            &snapshot,
            path.as_ref(),
            &mut archive,
            &progress,
            &cancel,
        )
        .unwrap();
        let file = bench.dir.path().join("archive");
        fs::write(&file, archive).unwrap();
        let target = tempfile::tempdir_in(bench.dir.path()).unwrap();
        let unpacked = Command::new("tar")
            .args(["-x", "--numeric-owner", "--same-permissions", "--xattrs"])
            .args(["--xattrs-include=*", "-C"])
            .arg(target.path())
            .arg("-f")
            .arg(&file)
            .status();
        assert!(unpacked.unwrap().success());
        target
    };
    same_but_for_restic(&source, dump("/").path());
    let part = dump("/deep");
    same_but_for_restic(&source.join("deep"), &part.path().join("deep"));
}

/// Names of all that is no directory.
fn names(root: &Path) -> BTreeSet<Vec<u8>> {
    let strip = |path: std::path::PathBuf| {
        let name = path.strip_prefix(root).unwrap();
        name.as_os_str().as_bytes().to_vec()
    };
    files(root).into_iter().map(strip).collect()
}

#[test]
fn restic_restores_ours_and_verifies_it() {
    for version in VERSIONS {
        let written = Written::new(version);
        let bench = &written.bench;
        let old = Restic::local(&bench.repo_dir());
        let restored = written.restored_by(&old, &written.second);
        same_but_for_restic(&bench.source(), restored.path());
        // Including a target of a link that is no text, which newer ones know.
        let raw = std::ffi::OsStr::from_bytes(b"raw \xff target");
        std::os::unix::fs::symlink(raw, bench.source().join("raw link")).unwrap();
        trees::set_mtime(&bench.source(), 1_234_567_890, 42);
        let third = bench.archive(&bench.open()).snapshot_id;
        let restored = written.restored_by(&written.restic(), &third);
        same_but_for_restic(&bench.source(), restored.path());
        written.goes_on(&third);
    }
}
