//! Lists of paths are laid out as stock restic lays them out, and each takes the other's snapshot
//! for its parent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use ark_engine::{
    ArchiveReport, ArchiveRequest, Cancel, Error, FileOperation, Outcome, Progress, Repository,
    Snapshot, Source, StreamRequest,
};
use common::{Bench, archive, compare::assert_same, files, restic::Restic, settle, trees};
use serde_json::Value;

const HOST: &str = "one-host";

fn request(paths: &[PathBuf]) -> ArchiveRequest {
    ArchiveRequest {
        source: Source::Paths(paths.to_vec()),
        host: HOST.to_owned(),
        ..ArchiveRequest::default()
    }
}

fn ours(repo: &Repository, paths: &[PathBuf]) -> (ArchiveReport, Snapshot) {
    let report = archive(repo, &request(paths)).unwrap();
    let snapshot = repo.find_snapshot(&report.snapshot_id).unwrap();
    (report, snapshot)
}

/// restic's backup of these paths; its summary and the snapshot's id.
fn theirs(restic: &Restic, paths: &[PathBuf]) -> Value {
    let mut command = restic.command();
    command
        .args(["backup", "--json", "--host", HOST])
        .args(paths);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", common::restic::text(&out));
    let text = String::from_utf8(out.stdout).unwrap();
    let summary = text.lines().find(|line| line.contains("\"summary\""));
    serde_json::from_str(summary.unwrap()).unwrap()
}

/// A tree and all below it, without what restic alone keeps (names of users, device numbers) or
/// what follows from it (ids of the trees below).
fn tree(restic: &Restic, id: &str) -> Value {
    let mut tree: Value = serde_json::from_str(&restic.run(&["cat", "blob", id])).unwrap();
    for node in tree["nodes"].as_array_mut().unwrap() {
        let node = node.as_object_mut().unwrap();
        for field in ["user", "group", "device_id"] {
            node.shift_remove(field);
        }
        if let Some(id) = node.get("subtree").cloned() {
            let below = self::tree(restic, id.as_str().unwrap());
            node.insert("subtree".to_owned(), below);
        }
    }
    tree
}

/// The same of the tests' own directory in a snapshot, with the fields in the order they are
/// written. Directories above it belong to others too, and change.
fn text(restic: &Restic, snapshot: &Snapshot, source: &Path) -> String {
    let mut at = tree(restic, &snapshot.tree);
    for name in source.strip_prefix("/").unwrap() {
        let nodes = at["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 1, "only what was asked for");
        assert_eq!(nodes[0]["name"], name.to_str().unwrap());
        at = nodes[0]["subtree"].clone();
    }
    serde_json::to_string_pretty(&at).unwrap()
}

/// Compares without printing all of both.
fn assert_same_text(a: &str, b: &str) {
    let differs = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(a.lines().count(), b.lines().count());
}

fn sources(bench: &Bench) -> Vec<PathBuf> {
    let source = bench.source();
    trees::plain(&source.join("x/y"), 30, 20_000);
    trees::plain(&source.join("x/skipped"), 3, 1000);
    fs::write(source.join("x/y/large"), trees::noise(9, 6 << 20)).unwrap();
    fs::create_dir(source.join("other")).unwrap();
    fs::write(source.join("other/single"), "one file").unwrap();
    fs::write(source.join("other/beside it"), "not asked for").unwrap();
    symlink("y", source.join("x/link")).unwrap();
    fs::set_permissions(
        source.join("x"),
        std::os::unix::fs::PermissionsExt::from_mode(0o2751),
    )
    .unwrap();
    settle(&source);
    ["x/y", "other/single", "x/link"]
        .map(|path| source.join(path))
        .to_vec()
}

#[test]
fn after_restic_nothing_is_added_and_trees_are_the_same() {
    let bench = Bench::new();
    let paths = sources(&bench);
    let restic = bench.restic();
    restic.run(&["init"]);
    let summary = theirs(&restic, &paths);
    let repo = bench.open();
    let (report, snapshot) = ours(&repo, &paths);
    let parent = summary["snapshot_id"].as_str().unwrap();
    assert!(report.parent.as_deref().unwrap().starts_with(parent));
    assert_eq!(report.outcome(), Outcome::Complete);
    assert_eq!(report.files, 33);
    let counts = snapshot.summary.clone().unwrap();
    assert_eq!(counts.data_blobs, 0);
    // The link, which has no content, is not counted.
    assert_eq!((counts.files_unmodified, counts.files_new), (32, 0));
    let expected: Vec<_> = paths
        .iter()
        .map(|p| p.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(snapshot.paths, expected);
    let theirs = repo.find_snapshot(parent).unwrap();
    let source = bench.source();
    assert_same_text(
        &text(&restic, &snapshot, &source),
        &text(&restic, &theirs, &source),
    );
    let diff = restic.run(&["diff", parent, &report.snapshot_id]);
    for word in ["0 new", "0 removed", "0 changed"] {
        assert!(diff.contains(word), "{diff}");
    }
    assert!(!diff.lines().any(|line| line.contains(" /")), "{diff}");
    restic.check();
}

#[test]
fn after_us_restic_reads_nothing() {
    let bench = Bench::new();
    let paths = sources(&bench);
    let repo = bench.init();
    let (report, _) = ours(&repo, &paths);
    let restic = bench.restic();
    let summary = theirs(&restic, &paths);
    assert_eq!(summary["files_unmodified"], 32, "{summary}");
    assert_eq!(
        (
            &summary["files_new"],
            &summary["files_changed"],
            &summary["data_blobs"]
        ),
        (&0.into(), &0.into(), &0.into()),
        "{summary}"
    );
    let listed: Value = serde_json::from_str(&restic.run(&["snapshots", "--json"])).unwrap();
    let parent = listed
        .as_array()
        .unwrap()
        .iter()
        .find_map(|s| s["parent"].as_str());
    assert_eq!(parent, Some(report.snapshot_id.as_str()));
    restic.check();
    // What was asked for comes back at its place, and nothing else.
    let target = bench.target();
    restic.run(&[
        "restore",
        &report.snapshot_id,
        "--target",
        target.to_str().unwrap(),
    ]);
    let at = |path: &Path| target.join(path.strip_prefix("/").unwrap());
    assert_same(&paths[0], &at(&paths[0]));
    let source = at(&bench.source());
    assert!(source.join("x/link").is_symlink());
    assert_eq!(files(&source.join("other")), [source.join("other/single")]);
    assert!(!source.join("x/skipped").exists());
}

#[test]
fn prefixes_links_and_missing_paths() {
    let bench = Bench::new();
    let paths = sources(&bench);
    let source = bench.source();
    let repo = bench.init();
    // One path below another, one through a link, one that is not there.
    let through = source.join("x/link/large");
    let list = [
        source.join("x"),
        paths[0].clone(),
        through.clone(),
        source.join("gone"),
    ];
    let (report, snapshot) = ours(&repo, &list);
    assert_eq!(report.errors.len(), 1);
    assert_eq!(report.errors[0].operation, FileOperation::Vanished);
    assert!(
        report.errors[0].path.ends_with("/gone"),
        "{}",
        report.errors[0].path
    );
    let restic = bench.restic();
    restic.check();
    let target = bench.target();
    restic.run(&[
        "restore",
        &report.snapshot_id,
        "--target",
        target.to_str().unwrap(),
    ]);
    let at = target.join(source.strip_prefix("/").unwrap());
    assert_same(&source.join("x/y"), &at.join("x/y"));
    assert_eq!(files(&at.join("x/link")), [at.join("x/link/large")]);
    assert_eq!(files(&at.join("x/skipped")).len(), 3);
    assert_eq!(snapshot.paths.len(), 4);
    let error = archive(&repo, &request(&[source.join("gone")])).unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error}");
    let error = archive(&repo, &request(&["relative".into()])).unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
    assert_eq!(repo.snapshots().unwrap().len(), 1);
}

/// The parent is the newest of the same host that has all the paths, or the one that is named.
#[test]
fn which_parent() {
    let bench = Bench::new();
    let paths = sources(&bench);
    let repo = bench.init();
    let (all, _) = ours(&repo, &paths);
    assert_eq!(all.parent, None);
    let (one, _) = ours(&repo, &paths[..1]);
    assert_eq!(one.parent.as_deref(), Some(all.snapshot_id.as_str()));
    let (again, _) = ours(&repo, &paths);
    assert_eq!(again.parent.as_deref(), Some(all.snapshot_id.as_str()));
    assert_eq!(again.files_unchanged, 32);
    let elsewhere = ArchiveRequest {
        host: "another".to_owned(),
        ..request(&paths)
    };
    assert_eq!(archive(&repo, &elsewhere).unwrap().parent, None);
    let named = ArchiveRequest {
        parent: Some(again.snapshot_id[..12].to_owned()),
        ..elsewhere
    };
    let named = archive(&repo, &named).unwrap();
    assert_eq!(named.parent, Some(again.snapshot_id));
    assert_eq!(named.files_unchanged, 32);
    let unknown = ArchiveRequest {
        parent: Some("0".repeat(64)),
        ..request(&paths)
    };
    let error = archive(&repo, &unknown).unwrap_err();
    assert!(matches!(error, Error::SnapshotNotFound { .. }), "{error}");
}

/// What is left out, restic leaves out as well.
#[test]
fn caches_and_large_files_are_left_out_as_by_restic() {
    let bench = Bench::new();
    let source = bench.source();
    for dir in ["cache/deep", "no cache", "plain"] {
        trees::plain(&source.join(dir), 3, 100);
    }
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# and words\n";
    fs::write(source.join("cache/CACHEDIR.TAG"), tag).unwrap();
    fs::write(source.join("no cache/CACHEDIR.TAG"), &tag[1..]).unwrap();
    fs::write(source.join("plain/at the limit"), vec![1; 2048]).unwrap();
    fs::write(source.join("plain/above"), vec![1; 2049]).unwrap();
    fs::write(source.join("plain/of a kind.tmp"), "").unwrap();
    settle(&source);
    let repo = bench.init();
    let asked = ArchiveRequest {
        exclude_caches: true,
        exclude_larger_than: Some(2048),
        excludes: vec!["*.tmp".to_owned()],
        ..request(std::slice::from_ref(&source))
    };
    let report = archive(&repo, &asked).unwrap();
    assert_eq!(report.outcome(), Outcome::Complete);
    assert_eq!(report.excluded, 3);
    let mut notes: Vec<_> = report.notes.iter().map(|note| note.path.as_str()).collect();
    notes.sort_unstable();
    let expected = ["cache", "plain/above"].map(|name| source.join(name));
    assert_eq!(
        notes,
        expected.map(|path| path.to_str().unwrap().to_owned())
    );
    let restic = bench.restic();
    let mut command = restic.command();
    command.args([
        "backup",
        "--host",
        HOST,
        "--exclude-caches",
        "--exclude",
        "*.tmp",
    ]);
    command.args(["--exclude-larger-than", "2048"]).arg(&source);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", common::restic::text(&out));
    let snapshots = repo.snapshots().unwrap();
    let [ours, theirs] = [0, 1].map(|n| text(&restic, &snapshots[n], &source));
    // Ark marks directories of which something was left out; restic does not.
    let mark = "not everything in this directory was backed up";
    assert_eq!(ours.matches(mark).count(), 2, "cache and plain");
    let ours: Value = serde_json::from_str(&ours).unwrap();
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    assert_eq!(without_errors(ours), theirs);
}

/// A tree without what Ark says of directories that it did not read whole.
fn without_errors(mut tree: Value) -> Value {
    for node in tree["nodes"].as_array_mut().unwrap() {
        let node = node.as_object_mut().unwrap();
        node.shift_remove("error");
        if let Some(below) = node.remove("subtree") {
            node.insert("subtree".to_owned(), without_errors(below));
        }
    }
    tree
}

/// A stream is cut as restic cuts a file of the same bytes.
#[test]
fn a_stream_is_cut_as_restic_cuts_it() {
    let bench = Bench::new();
    let mut content = trees::noise(5, 20 << 20);
    content[3 << 20..6 << 20].fill(0);
    content[9 << 20..19 << 20].fill(7);
    let repo = bench.init();
    let progress = Progress::new();
    let asked = StreamRequest {
        file_name: "db/dump.sql".to_owned(),
        host: HOST.to_owned(),
        ..StreamRequest::default()
    };
    let pieces = Pieces(&content, 1);
    let report =
        ark_engine::archive_stream(&repo, &asked, pieces, &progress, &Cancel::new()).unwrap();
    assert_eq!((report.files, report.dirs), (1, 1));
    assert_eq!(report.bytes_total, content.len() as u64);
    assert_eq!(progress.snapshot().bytes_done, content.len() as u64);
    let restic = bench.restic();
    assert_eq!(repo.snapshots().unwrap()[0].paths, ["/db/dump.sql"]);
    let mut command = restic.command();
    command.args(["dump", &report.snapshot_id, "/db/dump.sql"]);
    assert_eq!(command.output().unwrap().stdout, content);
    restic.check();
    fs::write(bench.source().join("same"), &content).unwrap();
    let summary = theirs(&restic, &[bench.source().join("same")]);
    assert_eq!(summary["data_blobs"], 0, "{summary}");
}

/// Gives a few bytes at a time, never the same number.
struct Pieces<'a>(&'a [u8], usize);

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = (self.1 * 7 + 3) % 200_003;
        let len = (self.1 + 1).min(buffer.len()).min(self.0.len());
        buffer[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

/// Streams that end badly, at any place, leave no snapshot.
#[test]
fn a_stream_that_fails_is_no_snapshot() {
    struct Failing(u64);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("the dump failed"));
            }
            let len = usize::try_from(self.0).unwrap().min(buffer.len());
            buffer[..len].fill(b'x');
            self.0 -= len as u64;
            Ok(len)
        }
    }
    let bench = Bench::new();
    let repo = bench.init();
    for bytes in [0, 1, 600_000, 30 << 20] {
        let (request, cancel) = (StreamRequest::default(), Cancel::new());
        let reader = Failing(bytes);
        let error = ark_engine::archive_stream(&repo, &request, reader, &Progress::new(), &cancel);
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Source { .. }), "{error}");
        assert!(error.to_string().contains("the dump failed"), "{error}");
        assert!(repo.snapshots().unwrap().is_empty());
    }
    let cancel = Cancel::new();
    cancel.cancel();
    let request = StreamRequest::default();
    let error = ark_engine::archive_stream(&repo, &request, &b"x"[..], &Progress::new(), &cancel);
    assert!(matches!(error, Err(Error::Cancelled)));
    let archive = |request: &StreamRequest| {
        ark_engine::archive_stream(&repo, request, &b""[..], &Progress::new(), &Cancel::new())
    };
    // A dump that failed before its first byte looks like this, so it needs a word.
    assert!(matches!(archive(&request), Err(Error::Refused { .. })));
    assert!(repo.snapshots().unwrap().is_empty());
    let allowed = StreamRequest {
        allow_empty: true,
        ..request
    };
    assert_eq!(archive(&allowed).unwrap().bytes_total, 0);
    bench.restic().check();
}
