//! A restore deletes only what the backup can have seen.

use std::{fs, os::unix::net::UnixListener, path::Path};

use ark_engine::{
    ArchiveRequest, Coverage, Error, FileOperation, Outcome, Repository, RestoreReport,
    RestoreRequest, Snapshot, Source,
};

use super::{Bench, run};

/// A backup of paths into a target that has the same, and something beside them.
fn of_paths(excludes: &[&str]) -> (Bench, Repository, Snapshot) {
    let bench = Bench::new();
    let source = bench.source();
    fs::create_dir_all(source.join("data/below")).unwrap();
    fs::create_dir_all(source.join("beside")).unwrap();
    for file in ["data/a", "data/below/b", "data/x.log", "beside/c"] {
        fs::write(source.join(file), file).unwrap();
    }
    let repo = bench.init();
    let request = ArchiveRequest {
        source: Source::Paths(vec![source.join("data")]),
        excludes: excludes.iter().map(ToString::to_string).collect(),
        ..bench.request()
    };
    let report = super::common::archive(&repo, &request).unwrap();
    let snapshot = repo.find_snapshot(&report.snapshot_id).unwrap();
    (bench, repo, snapshot)
}

fn deleting(bench: &Bench, snapshot: &str) -> RestoreRequest {
    RestoreRequest {
        delete_extra: true,
        ..super::request(bench, snapshot)
    }
}

fn rows(report: &RestoreReport) -> Vec<(&str, FileOperation)> {
    let rows = report.errors.iter();
    rows.map(|row| (row.path.as_str(), row.operation)).collect()
}

/// Where the source lies below a target.
fn below(bench: &Bench) -> std::path::PathBuf {
    let source = bench.source();
    bench.target().join(source.strip_prefix("/").unwrap())
}

#[test]
fn what_lies_beside_the_backed_up_path_stays() {
    let (bench, repo, snapshot) = of_paths(&[]);
    assert_eq!(snapshot.coverage, Coverage::Paths);
    let there = below(&bench);
    fs::create_dir_all(there.join("data/new/er")).unwrap();
    fs::create_dir_all(there.join("beside")).unwrap();
    fs::write(there.join("beside/c"), "only copy").unwrap();
    fs::write(bench.target().join("at the top"), "only copy").unwrap();
    let report = run(&repo, &deleting(&bench, &snapshot.id)).unwrap();
    assert_eq!((rows(&report), report.deleted), (vec![], 2));
    assert!(!there.join("data/new").exists());
    assert!(there.join("beside/c").exists() && bench.target().join("at the top").exists());
}

#[test]
fn what_patterns_left_out_and_sockets_stay() {
    let (bench, repo, snapshot) = of_paths(&["*.log"]);
    let there = below(&bench);
    fs::create_dir_all(there.join("data/new")).unwrap();
    for file in ["data/x.log", "data/new/y.log", "data/new/z", "data/w"] {
        fs::write(there.join(file), "x").unwrap();
    }
    let _socket = UnixListener::bind(there.join("data/s")).unwrap();
    let report = run(&repo, &deleting(&bench, &snapshot.id)).unwrap();
    assert_eq!((rows(&report), report.deleted), (vec![], 2));
    for file in ["data/x.log", "data/new/y.log", "data/s"] {
        assert!(there.join(file).exists(), "{file}");
    }
    assert!(!there.join("data/new/z").exists() && !there.join("data/w").exists());
}

/// A directory that could not be listed, and a file that could not be read: the first as empty in
/// the snapshot, the other not there at all.
#[test]
fn what_the_backup_could_not_read_stays_with_a_row() {
    let bench = Bench::new();
    let source = bench.source();
    for dir in ["closed", "open"] {
        fs::create_dir(source.join(dir)).unwrap();
        fs::write(source.join(dir).join("file"), "only copy").unwrap();
    }
    fs::write(source.join("open/large"), "x").unwrap();
    let repo = bench.init();
    let request = ArchiveRequest {
        exclude_larger_than: Some(3),
        ..bench.request()
    };
    // Files of more than three bytes are left out, and the snapshot does not tell why.
    let report = super::common::archive(&repo, &request).unwrap();
    let snapshot = repo.find_snapshot(&report.snapshot_id).unwrap();
    assert_eq!(snapshot.coverage, Coverage::Root);
    let target = bench.target();
    for path in ["closed/file", "open/file", "open/more", "extra"] {
        fs::create_dir_all(target.join(path).parent().unwrap()).unwrap();
        fs::write(target.join(path), "only copy").unwrap();
    }
    let report = run(&repo, &deleting(&bench, &snapshot.id)).unwrap();
    let expected = [
        ("closed", FileOperation::Delete),
        ("open", FileOperation::Delete),
    ];
    assert_eq!((rows(&report), report.deleted), (expected.to_vec(), 1));
    for path in ["closed/file", "open/file", "open/more"] {
        assert!(target.join(path).exists(), "{path}");
    }
    assert!(!target.join("extra").exists());
    // At the root it is the snapshot itself that says so.
    fs::write(source.join("at the root"), "x too large").unwrap();
    let report = super::common::archive(&repo, &request).unwrap();
    let snapshot = repo.find_snapshot(&report.snapshot_id).unwrap();
    assert_eq!(snapshot.coverage, Coverage::BelowRoot);
    fs::write(target.join("extra"), "only copy").unwrap();
    run(&repo, &deleting(&bench, &snapshot.id)).unwrap();
    assert!(target.join("extra").exists());
}

#[test]
fn a_snapshot_that_does_not_say_what_was_read_deletes_nothing_unasked() {
    let bench = Bench::new();
    fs::write(bench.source().join("a"), "a").unwrap();
    let restic = bench.restic();
    bench.init();
    restic.run(&["backup", "--quiet", bench.source().to_str().unwrap()]);
    let repo = bench.open();
    let snapshot = repo.snapshots().unwrap().remove(0);
    assert_eq!(snapshot.coverage, Coverage::Unknown);
    let there = below(&bench);
    fs::create_dir_all(&there).unwrap();
    fs::write(there.join("extra"), "only copy").unwrap();
    let request = deleting(&bench, &snapshot.id);
    let report = run(&repo, &request).unwrap();
    assert_eq!(rows(&report), [(".", FileOperation::Delete)]);
    assert_eq!((report.outcome(), report.deleted), (Outcome::Partial, 0));
    assert!(there.join("extra").exists() && there.join("a").exists());
    let request = RestoreRequest {
        assume_whole: true,
        ..request
    };
    let report = run(&repo, &request).unwrap();
    assert_eq!((rows(&report), report.deleted), (vec![], 1));
    assert!(!there.join("extra").exists());
}

/// As a dry run, for the root is that of the machine.
#[test]
fn deleting_in_the_root_of_the_machine_has_to_be_asked_for() {
    let (bench, repo, snapshot) = of_paths(&[]);
    let request = RestoreRequest {
        target: Path::new("/").to_owned(),
        dry_run: true,
        ..deleting(&bench, &snapshot.id)
    };
    let error = run(&repo, &request).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let asked = RestoreRequest {
        delete_in_root: true,
        ..request.clone()
    };
    let selected = RestoreRequest {
        select: vec![bench.source().join("data")],
        ..request
    };
    for request in [asked, selected] {
        assert_eq!(run(&repo, &request).unwrap().deleted, 0);
    }
}
