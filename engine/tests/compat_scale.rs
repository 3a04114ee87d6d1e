//! Repositories with many blobs: stock restic takes the synthetic one for whole, and so do we; and
//! whatever reads an index says how much memory would do before it takes more than it may.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;
#[path = "../src/crypto.rs"]
#[allow(dead_code, reason = "the tests use a part of it")]
mod crypto;
#[path = "../../benches/vs/synthetic/mod.rs"]
mod synthetic;

use std::{fs, path::Path};

use ark_engine::{
    ArchiveRequest, Cancel, OpenOptions, Progress, Repository, RestoreRequest, Result, Snapshot,
    browse::{self, DiffCounts, DiffRequest, FindNames, FindRequest, FindWhat},
    maintain::{self, CheckRequest, CopyRequest, DataShare, GroupBy, PruneRequest},
    stats::{self, StatsMode, StatsRequest},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{
    Bench,
    limits::{Operation, count, repair_snapshots, statistics, what_is_named_suffices},
    restic::Restic,
};
use crypto::Key;
use synthetic::Made;

const MIB: u64 = 1 << 20;

fn key(restic: &Restic) -> Key {
    let json: serde_json::Value = serde_json::from_str(&restic.run(&["cat", "masterkey"])).unwrap();
    let part = |at: &str| STANDARD.decode(json.pointer(at).unwrap().as_str().unwrap());
    let bytes = ["/encrypt", "/mac/k", "/mac/r"].map(|at| part(at).unwrap());
    Key::from_bytes(&bytes.concat().try_into().unwrap())
}

fn repository(blobs: u64) -> (Bench, Made) {
    let bench = Bench::in_memory();
    bench.init();
    let made = synthetic::write(&bench.repo_dir(), &key(&bench.restic()), blobs).unwrap();
    assert_eq!(made.data, blobs);
    (bench, made)
}

#[test]
fn a_synthetic_repository_is_whole_for_restic_and_for_us() {
    let (bench, made) = repository(20_000);
    let restic = Restic::newest(&bench.repo_dir());
    restic.run(&["check"]);
    let repo = bench.open();
    let (progress, cancel) = (Progress::new(), Cancel::new());
    let report = maintain::check_with(&repo, &CheckRequest::default(), &progress, &cancel).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let unused = made.data - made.used;
    assert_eq!(
        (
            report.blobs,
            report.unused_blobs,
            report.packs,
            report.trees
        ),
        (made.data + made.trees, unused, made.packs, made.trees)
    );
    assert!(
        made.used > made.data / 2 && made.used < made.data * 3 / 4,
        "{made:?}"
    );
    assert_eq!(report.snapshots, made.snapshots);

    // Lists at the ends of packs are real, too.
    let repaired = maintain::repair_index(&repo, true, true, &cancel).unwrap();
    assert_eq!(
        (repaired.packs_indexed, repaired.packs_missing),
        (made.packs, 0)
    );
    assert_eq!(repaired.packs_unreadable, [""; 0]);

    // Both count the same, of what is used and of what is restored.
    for (mode, word) in [
        (StatsMode::RawData, "raw-data"),
        (StatsMode::RestoreSize, "restore-size"),
    ] {
        let ours = stats::count(&repo, &StatsRequest::default(), mode, &cancel).unwrap();
        let theirs = restic.run(&["stats", "--json", "--mode", word]);
        let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
        assert_eq!(theirs["total_size"], ours.bytes, "{word}");
        assert!(ours.bytes > 0 && ours.problems.is_empty());
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of operations")]
fn too_little_memory_is_an_error_that_says_how_much_does() {
    let (bench, _) = repository(200_000);
    let files = bench.source().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("a"), common::trees::noise(1, 300_000)).unwrap();
    let repo = bench.open();
    let small = bench.archive(&repo).snapshot_id;
    let small = repo.find_snapshot(&small).unwrap();
    let other = Bench::in_memory();
    let destination = other.init();
    let within = |memory| {
        let memory = Some(memory);
        bench.open_with(OpenOptions {
            memory,
            ..OpenOptions::default()
        })
    };
    let (progress, cancel) = (Progress::new(), Cancel::new());
    let count = |memory, mode| {
        let totals = count(&repo, memory, mode)?;
        assert!(totals.bytes > 0);
        Ok(())
    };
    let operations: Vec<Operation<'_>> = vec![
        (
            "check",
            Box::new(|memory| {
                let data = DataShare::None;
                let report = maintain::check_with(
                    &repo,
                    &CheckRequest { data, memory },
                    &progress,
                    &cancel,
                )?;
                assert!(report.is_ok() && report.unused_blobs > 0);
                Ok(())
            }),
        ),
        (
            "prune",
            Box::new(|memory| {
                let request = PruneRequest {
                    memory,
                    dry_run: true,
                    ..PruneRequest::default()
                };
                let report = maintain::prune(&repo, &request, &progress, &cancel)?;
                assert!(report.deleted_blobs > 0 && report.repacked_blobs > 0);
                Ok(())
            }),
        ),
        (
            "stats",
            Box::new(|memory| {
                let report = stats::stats(&repo, &statistics(memory), GroupBy::default(), &cancel)?;
                assert!(report.problems.is_empty() && report.repository.unused.blobs > 0);
                Ok(())
            }),
        ),
        (
            "stats restore-size",
            Box::new(|memory| count(memory, StatsMode::RestoreSize)),
        ),
        (
            "stats raw-data",
            Box::new(|memory| count(memory, StatsMode::RawData)),
        ),
        (
            "find",
            Box::new(|memory| {
                let patterns = vec!["file-000000001024".to_owned()];
                let what = FindWhat::Names(FindNames {
                    patterns,
                    ..FindNames::default()
                });
                let request = FindRequest {
                    what,
                    memory,
                    ..FindRequest::default()
                };
                let report = browse::find(&repo, &request, &cancel, &mut |_, _| Ok(()))?;
                assert_eq!((report.found, report.problems), (2, 0));
                Ok(())
            }),
        ),
        (
            "list",
            Box::new(|memory| {
                let mut entries = 0;
                let repo = within(memory)?;
                let mut each = |entry: browse::Listed| {
                    assert_eq!(entry.problem, None);
                    entries += 1;
                    Ok(())
                };
                browse::list(&repo, &small, Path::new("/"), true, &cancel, &mut each)?;
                assert_eq!(entries, 2);
                Ok(())
            }),
        ),
        (
            "dump",
            Box::new(|memory| dump(&within(memory)?, &small, &progress, &cancel)),
        ),
        (
            "restore",
            Box::new(|memory| {
                let request = RestoreRequest {
                    snapshot: small.id.clone(),
                    target: bench.target(),
                    // As much as there is, and more than what is named leaves.
                    memory,
                    ceiling: Some(memory),
                    ..RestoreRequest::default()
                };
                let report = ark_engine::restore(&repo, &request, &progress, &cancel)?;
                assert_eq!(report.errors, []);
                Ok(())
            }),
        ),
        (
            "archive",
            Box::new(|memory| {
                let request = ArchiveRequest {
                    memory,
                    ..bench.request()
                };
                common::archive(&repo, &request).map(drop)
            }),
        ),
        (
            "copy",
            Box::new(|memory| {
                let snapshots = vec![small.clone()];
                let request = CopyRequest { snapshots, memory };
                let report = maintain::copy(&repo, &destination, &request, &progress, &cancel)?;
                assert_eq!(report.snapshots.len(), 1);
                Ok(())
            }),
        ),
        (
            "diff",
            Box::new(|memory| {
                let request = DiffRequest {
                    memory,
                    ..DiffRequest::new(small.clone(), small.clone())
                };
                let report = browse::diff(&repo, &request, &cancel, &mut |_| Ok(()))?;
                assert_eq!(report.added, DiffCounts::default());
                Ok(())
            }),
        ),
        repair_snapshots(&repo, &small),
        (
            "repair index",
            Box::new(|memory| {
                let report = maintain::repair_index(&within(memory)?, false, true, &cancel)?;
                assert!(report.is_clean());
                Ok(())
            }),
        ),
    ];
    // The index takes eight megabytes, and the program alone nearly all of this.
    what_is_named_suffices(operations, 52 * MIB, 256 * MIB);
}

fn dump(
    repo: &Repository,
    snapshot: &Snapshot,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let mut out = Vec::new();
    let path = Path::new("/files/a");
    let length = browse::dump(repo, snapshot, path, &mut out, progress, cancel)?;
    assert_eq!((length, out.len()), (300_000, 300_000));
    Ok(())
}
