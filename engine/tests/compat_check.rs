//! Repositories with one defect each, every kind that can be made: the engine's check and stock
//! restic's agree whether there is an error, and the engine's says which. Where it is stricter, the
//! case says why.
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
#[path = "compat_check/defects.rs"]
#[allow(
    clippy::semicolon_if_nothing_returned,
    clippy::redundant_closure_for_method_calls,
    unreachable_pub,
    reason = "a table of short functions"
)]
mod defects;
#[path = "compat_check/forge.rs"]
#[allow(unreachable_pub, reason = "it is a test's own")]
mod forge;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use ark_engine::{
    Cancel, FormatVersion, OpenOptions, Progress, Repository, Secret, Store, StoreConfig,
    maintain::{CheckReport, CheckRequest, DataShare, Severity, check_with},
};
use common::{Bench, PASSWORD, restic, trees};
use defects::{Defect, Theirs};
use forge::Forge;

/// A small repository: one pack of data, one of directories, two snapshots.
fn base(version: FormatVersion) -> Bench {
    let bench = Bench::in_memory();
    trees::plain(&bench.source(), 4, 60_000);
    std::fs::create_dir(bench.source().join("dir")).unwrap();
    std::fs::write(bench.source().join("dir/text"), "text ".repeat(3000)).unwrap();
    // So that unchanged directories are the same the second time.
    common::settle(&bench.source());
    let repo = bench.init_version(version);
    bench.archive(&repo);
    bench.archive(&repo);
    assert_eq!(repo.snapshots().unwrap().len(), 2);
    bench
}

fn check(bench: &Bench, dir: &Path) -> ark_engine::Result<CheckReport> {
    let store = Store::open(&StoreConfig::Local {
        root: dir.to_owned(),
    })?;
    let options = OpenOptions {
        no_lock: true,
        ..OpenOptions::default()
    };
    let handle = bench.runtime.handle().clone();
    let repo = Repository::open(store, &[Secret::new(PASSWORD)], options, handle)?;
    let request = CheckRequest {
        data: DataShare::All,
        ..CheckRequest::default()
    };
    check_with(&repo, &request, &Progress::new(), &Cancel::new())
}

/// What is not as it should be with one case.
fn wrong(bench: &Bench, base: &Base, defect: &Defect, dir: &Path) -> Option<String> {
    let forge = Forge::copy_of(&bench.repo_dir(), dir, &base.key, base.version);
    (defect.make)(&forge);
    let ours = check(bench, dir);
    let ok = ours.as_ref().is_ok_and(CheckReport::is_ok);
    let restic = restic::Restic::newest(dir);
    let run = |args: &[&str]| {
        let out = restic.output(args);
        (out.status.success(), restic::text(&out))
    };
    let (theirs_ok, said) = match defect.theirs {
        Theirs::WaitsForEver => (false, String::new()),
        Theirs::ErrorWithoutReading => run(&["check", "--no-lock"]),
        _ => run(&["check", "--read-data", "--no-lock"]),
    };
    let expected_ok = matches!(defect.theirs, Theirs::Ok | Theirs::OkBecause(_));
    let mut wrong = Vec::new();
    if theirs_ok != expected_ok {
        wrong.push(format!("restic's is {theirs_ok}: {said}"));
    }
    if ok != matches!(defect.theirs, Theirs::Ok) {
        wrong.push(format!("ours is {ok}, restic's {theirs_ok}: {said}"));
    }
    let found: BTreeSet<&str> = match &ours {
        Ok(report) => report
            .findings
            .iter()
            .map(|found| found.problem.code())
            .collect(),
        Err(_) => BTreeSet::from(["cannot be opened"]),
    };
    let expected: BTreeSet<&str> = defect.codes.iter().copied().collect();
    if found != expected {
        wrong.push(format!("found {found:?}"));
    }
    if let Ok(report) = &ours {
        for finding in report.of(Severity::Damage) {
            // Damage of one blob of a directory or file names the path, unless nobody needs it.
            if finding.path.is_some() && finding.snapshots.is_empty() {
                wrong.push(format!("a path of no snapshot: {finding:?}"));
            }
        }
        let affected = report
            .findings
            .iter()
            .any(|found| !found.snapshots.is_empty());
        if affected != defect.affects {
            wrong.push(format!("affected: {affected}"));
        }
    }
    let text = || format!("{}: {}\nours: {ours:?}", defect.name, wrong.join("; "));
    (!wrong.is_empty()).then(text)
}

struct Base {
    key: crypto::Key,
    version: u32,
}

fn all(version: FormatVersion) {
    let bench = base(version);
    let base = Base {
        key: forge::key(&bench.restic()),
        version: match version {
            FormatVersion::V1 => 1,
            FormatVersion::V2 => 2,
        },
    };
    let cases: Vec<_> = defects::all()
        .filter(|defect| defect.versions.contains(&base.version))
        .collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(defect) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let dir = bench.dir.path().join(defect.name.replace(' ', "-"));
                    failed
                        .lock()
                        .unwrap()
                        .extend(wrong(&bench, &base, defect, &dir));
                    std::fs::remove_dir_all(dir).unwrap();
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {}:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n\n")
    );
}

#[test]
fn every_defect_of_format_1_is_found_as_restic_finds_it() {
    all(FormatVersion::V1);
}

#[test]
fn every_defect_of_format_2_is_found_as_restic_finds_it() {
    all(FormatVersion::V2);
}

/// Which snapshots need what is damaged, and where it shows.
#[test]
fn damage_names_the_snapshots_and_paths_that_it_affects() {
    let bench = Bench::in_memory();
    trees::plain(&bench.source(), 2, 50_000);
    std::fs::create_dir(bench.source().join("dir")).unwrap();
    let repo = bench.init();
    let first = bench.archive(&repo).snapshot_id;
    std::fs::write(bench.source().join("dir/later"), trees::noise(7, 50_000)).unwrap();
    let second = bench.archive(&repo).snapshot_id;
    std::fs::remove_file(bench.source().join("dir/later")).unwrap();
    let third = bench.archive(&repo).snapshot_id;
    let report = check(&bench, &bench.repo_dir()).unwrap();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!((report.snapshots, report.findings.len()), (3, 0));
    assert_eq!(report.bytes_read, size(&bench.repo_dir().join("data")));
    let all = restic::Restic::newest(&bench.repo_dir());
    let content = all.run(&["cat", "tree", &format!("{second}:dir")]);
    let content: serde_json::Value = serde_json::from_str(&content).unwrap();
    let later = content["nodes"][0]["content"][0].as_str().unwrap();
    let index = all.run(&["find", "--blob", later, "--show-pack-id"]);
    let pack = index.split("pack ").last().unwrap().trim()[..64].to_owned();
    let path = bench.repo_dir().join("data").join(&pack[..2]).join(&pack);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let report = check(&bench, &bench.repo_dir()).unwrap();
    let found: Vec<_> = report
        .findings
        .iter()
        .filter(|found| !found.snapshots.is_empty())
        .collect();
    assert_eq!(found.len(), 1, "{report:?}");
    assert_eq!(found[0].object.id(), later);
    assert_eq!(found[0].snapshots, [second.as_str()]);
    let at = found[0].path.as_ref().unwrap();
    assert_eq!(
        (at.snapshot.as_str(), at.path.to_str()),
        (second.as_str(), Some("/dir/later"))
    );
    // The pack gone: the same snapshot, and no other.
    std::fs::remove_file(&path).unwrap();
    let report = check(&bench, &bench.repo_dir()).unwrap();
    let affected: Vec<_> = report
        .of(Severity::Damage)
        .map(|found| found.snapshots.clone())
        .collect();
    assert_eq!(affected, [vec![second]], "not {first} or {third}");
}

fn size(dir: &Path) -> u64 {
    common::files(dir)
        .iter()
        .map(|file| std::fs::metadata(file).unwrap().len())
        .sum()
}

/// Each pack is read once in as many turns as there are parts.
#[test]
fn parts_that_rotate_read_all() {
    let bench = Bench::in_memory();
    let repo = bench.init();
    for n in 0..12_u64 {
        std::fs::write(bench.source().join("file"), trees::noise(n, 30_000)).unwrap();
        bench.archive(&repo);
    }
    let packs = common::files(&bench.repo_dir().join("data")).len() as u64;
    let all = size(&bench.repo_dir().join("data"));
    let mut read = (0, 0);
    for turn in 100..105 {
        let request = CheckRequest {
            data: DataShare::Rotating { of: 5, turn },
            ..CheckRequest::default()
        };
        let report = check_with(&repo, &request, &Progress::new(), &Cancel::new()).unwrap();
        assert!(report.is_ok() && report.packs_read < packs);
        read.0 += report.packs_read;
        read.1 += report.bytes_read;
    }
    assert_eq!(read, (packs, all));
}

#[test]
fn a_check_is_cancelled_and_keeps_its_lock_no_longer() {
    let bench = Bench::in_memory();
    trees::plain(&bench.source(), 4, 60_000);
    let repo = bench.init();
    bench.archive(&repo);
    let cancel = Cancel::new();
    cancel.cancel();
    let done = check_with(&repo, &CheckRequest::default(), &Progress::new(), &cancel);
    assert!(
        matches!(done, Err(ark_engine::Error::Cancelled)),
        "{done:?}"
    );
    assert_eq!(common::files(&bench.repo_dir().join("locks")).len(), 0);
}

#[test]
fn memory_that_does_not_suffice_is_an_error_that_says_how_much_does() {
    let bench = Bench::in_memory();
    trees::plain(&bench.source(), 4, 60_000);
    let repo = bench.init();
    bench.archive(&repo);
    let with = |memory| {
        let request = CheckRequest {
            data: DataShare::All,
            memory,
        };
        check_with(&repo, &request, &Progress::new(), &Cancel::new())
    };
    let mut memory = 1 << 20;
    let mut steps = 0;
    while let Err(error) = with(memory) {
        let ark_engine::Error::MemoryLimit { needed, limit, .. } = error else {
            panic!("{error}");
        };
        assert!(
            needed > memory && limit <= memory,
            "{needed} {limit} {memory}"
        );
        memory = needed;
        steps += 1;
        assert!(steps < 6, "it never suffices");
    }
    assert!(steps > 0 && memory < 128 << 20, "{memory}");
}
