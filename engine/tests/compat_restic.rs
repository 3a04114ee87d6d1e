//! Stock restic reads what we write and we read what it writes, in both versions of the format.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
};

use ark_engine::{ArchiveRequest, Cancel, Error, Outcome, Progress};
use common::{
    Bench, archive,
    compare::{Options, assert_same, assert_same_but},
    files, restore, trees, wait_until,
};

/// The root's own metadata is not in the trees of the format, so restic does not know it;
/// attributes of links it ignores.
const RESTIC: Options = Options {
    ignore_root: true,
    ignore_xattrs_of_links: true,
};

/// Link targets that are not UTF-8 are beyond restic before 0.16.
fn everything(bench: &Bench) {
    trees::everything(&bench.source());
    fs::remove_file(bench.source().join("raw link")).unwrap();
}

#[test]
fn restic_restores_ours_identically() {
    let bench = Bench::new();
    everything(&bench);
    let repo = bench.init();
    let report = bench.archive(&repo);
    let restic = bench.restic();
    let listed = restic.run(&["snapshots", "--json"]);
    assert!(listed.contains(&report.snapshot_id), "{listed}");
    for word in ["/test/data", "ns=test", "pvc=data"] {
        assert!(listed.contains(word), "{word} in {listed}");
    }
    restic.check();
    restic.run(&[
        "restore",
        &report.snapshot_id,
        "--target",
        bench.target().to_str().unwrap(),
    ]);
    assert_same_but(&bench.source(), &bench.target(), RESTIC);
    // Its own diff sees no difference between two of our snapshots of the same tree.
    let again = bench.archive(&repo);
    let diff = restic.run(&["diff", &report.snapshot_id, &again.snapshot_id]);
    assert!(
        diff.contains("0 new") && diff.contains("0 removed") && diff.contains("0 changed"),
        "{diff}"
    );
}

/// Lines of `restic ls` are paths from the volume's root.
#[test]
fn the_volumes_root_is_the_snapshots_root() {
    let bench = Bench::new();
    fs::create_dir(bench.source().join("sub")).unwrap();
    fs::write(bench.source().join("sub/file"), "x").unwrap();
    let repo = bench.init();
    let report = bench.archive(&repo);
    let listed = bench.restic().run(&["ls", "--quiet", &report.snapshot_id]);
    let paths: Vec<_> = listed
        .lines()
        .filter(|line| line.starts_with('/'))
        .collect();
    assert_eq!(paths, ["/sub", "/sub/file"]);
}

fn restores_restics(version: &str) {
    let bench = Bench::new();
    everything(&bench);
    let restic = bench.restic();
    restic.run(&["init", "--repository-version", version]);
    let backup = || {
        let mut command = restic.command();
        command.current_dir(bench.source()).args(["backup", "."]);
        assert!(command.output().unwrap().status.success());
    };
    backup();
    let repo = bench.open();
    assert_eq!(repo.version().to_string(), version);
    let snapshot = repo.snapshots().unwrap().remove(0);
    let restored = restore(&repo, &snapshot.id, &bench.target()).unwrap();
    assert_eq!(restored.errors, []);
    assert_same_but(&bench.source(), &bench.target(), RESTIC);

    // And the repository stays one that both can write into: no compressed byte in version 1.
    fs::write(bench.source().join("new"), trees::noise(77, 3 << 20)).unwrap();
    let ours = bench.archive(&repo);
    assert_eq!(ours.outcome(), Outcome::Complete);
    // What restic stored is not stored again. Holes are stored as one blob of 8 MiB of zeros, which
    // only version 2 compresses.
    let zeros = if version == "1" { 8 << 20 } else { 0 };
    assert!(ours.bytes_new < (4 << 20) + zeros, "{}", ours.bytes_new);
    restic.check();
    backup();
    restic.check();
    fs::remove_dir_all(bench.target()).unwrap();
    fs::create_dir(bench.target()).unwrap();
    let restored = restore(&repo, &ours.snapshot_id, &bench.target()).unwrap();
    assert_eq!(restored.errors, []);
    assert_same(&bench.source(), &bench.target());
    if version == "1" {
        restic.run(&["migrate", "upgrade_repo_v2"]);
        let repo = bench.open();
        assert_eq!(repo.version(), 2);
        bench.archive(&repo);
        restic.check();
    }
}

#[test]
fn we_restore_restics_version_1() {
    restores_restics("1");
}

#[test]
fn we_restore_restics_version_2() {
    restores_restics("2");
}

#[test]
fn a_snapshot_of_restic_serves_as_parent() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 20, 50_000);
    let restic = bench.restic();
    restic.run(&["init"]);
    let last = files(&bench.source())
        .iter()
        .map(|f| std::os::unix::fs::MetadataExt::ctime(&fs::metadata(f).unwrap()))
        .max()
        .unwrap();
    wait_until("files grow old", || {
        jiff::Timestamp::now().as_second() > last + 5
    });
    let mut command = restic.command();
    command.current_dir(bench.source());
    command.args(["backup", ".", "--tag", "ns=test", "--tag", "pvc=data"]);
    assert!(command.output().unwrap().status.success());
    let repo = bench.open();
    let report = bench.archive(&repo);
    assert!(report.parent.is_some());
    assert_eq!(report.files_unchanged, 20);
    restic.check();
}

#[test]
fn restic_forgets_and_prunes_ours() {
    let bench = Bench::new();
    let repo = bench.init();
    let mut last = String::new();
    for round in 0..3 {
        fs::write(bench.source().join("file"), trees::noise(round, 2 << 20)).unwrap();
        trees::plain(&bench.source(), 10, 10_000);
        last = bench.archive(&repo).snapshot_id;
    }
    let restic = bench.restic();
    restic.run(&["forget", "--keep-last", "1", "--prune"]);
    restic.check();
    let repo = bench.open();
    assert_eq!(repo.snapshots().unwrap().len(), 1);
    restore(&repo, &last, &bench.target()).unwrap();
    assert_same(&bench.source(), &bench.target());
    bench.archive(&repo);
    restic.check();
}

#[test]
fn restic_adds_nothing_after_us() {
    let bench = Bench::new();
    fs::write(bench.source().join("dense"), trees::noise(3, 30 << 20)).unwrap();
    let repo = bench.init();
    bench.archive(&repo);
    let before = packs(&bench);
    let restic = bench.restic();
    let mut command = restic.command();
    command.current_dir(bench.source()).args(["backup", "."]);
    assert!(command.output().unwrap().status.success());
    // Trees differ in form; data does not.
    assert!(packs(&bench) - before < 100_000);
}

fn packs(bench: &Bench) -> u64 {
    let packs = files(&bench.repo_dir().join("data"));
    packs
        .iter()
        .map(|pack| fs::metadata(pack).unwrap().len())
        .sum()
}

#[test]
fn prune_of_restic_is_refused_while_we_write() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 300, 1 << 20);
    let repo = bench.init();
    let cancel = Cancel::new();
    let out = std::thread::scope(|scope| {
        let run =
            scope.spawn(|| ark_engine::archive(&repo, &bench.request(), &Progress::new(), &cancel));
        let locked = || {
            !bench
                .repo_dir()
                .join("locks")
                .read_dir()
                .is_ok_and(|mut d| d.next().is_none())
        };
        wait_until("we hold a lock", || {
            bench.repo_dir().join("locks").exists() && locked()
        });
        let out = bench.restic().output(&["prune"]);
        let busy = !run.is_finished();
        cancel.cancel();
        drop(run.join().unwrap());
        assert!(busy, "the backup was over before restic tried");
        out
    });
    assert!(!out.status.success());
    let text = common::restic::text(&out);
    assert!(text.contains("already locked"), "{text}");
    bench.restic().run(&["prune"]);
}

#[test]
fn backup_and_check_of_restic_beside_ours() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 200, 1 << 20);
    let repo = bench.init();
    let restic = bench.restic();
    let mut command = restic.command();
    command
        .current_dir(bench.source())
        .args(["backup", "."])
        .stdout(Stdio::null());
    let mut child: Child = command.spawn().unwrap();
    let report = archive(&repo, &bench.request()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(report.outcome(), Outcome::Complete);
    restic.check();
    assert_eq!(repo.snapshots().unwrap().len(), 2);
}

#[test]
fn a_stopped_exclusive_restic_is_waited_for_and_named() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 100, 1 << 20);
    let repo = bench.init();
    bench.archive(&repo);
    let restic = bench.restic();
    let mut child = restic
        .command()
        .args(["check", "--read-data"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let locks = bench.repo_dir().join("locks");
    let pid = rustix::process::Pid::from_child(&child);
    let held = || {
        files(&locks)
            .iter()
            .any(|file| file.file_name().unwrap().len() == 64)
    };
    wait_until("restic locks", held);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let error = archive(&repo, &bench.request()).unwrap_err();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(
        matches!(&error, Error::Locked { holder, .. } if holder.contains("root@")),
        "{error}"
    );
    assert!(child.wait().unwrap().success());
    let request = ArchiveRequest {
        reread_all: true,
        ..bench.request()
    };
    archive(&repo, &request).unwrap();
}

/// A key restic added opens the repository for us, and ours for restic.
#[test]
fn keys_of_both() {
    let bench = Bench::new();
    let repo = bench.init();
    let restic = bench.restic();
    let file = bench.dir.path().join("new-password");
    fs::write(&file, "added by restic").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    restic.run(&["key", "add", "--new-password-file", file.to_str().unwrap()]);
    let handle = bench.runtime.handle().clone();
    let passwords = ["added by restic".into()];
    let opened = ark_engine::Repository::open(
        bench.store(),
        &passwords,
        ark_engine::OpenOptions::default(),
        handle,
    )
    .unwrap();
    assert_eq!(opened.id(), repo.id());
    assert!(restic.run(&["key", "list"]).lines().count() >= 4);
}

/// Files we make look as restic's own do, and nothing else lies about.
#[test]
fn the_layout_is_restics() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 3, 1000);
    let repo = bench.init();
    bench.archive(&repo);
    for file in files(&bench.repo_dir()) {
        let path = file
            .strip_prefix(bench.repo_dir())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let parts: Vec<_> = path.split('/').collect();
        let fine = match parts[..] {
            ["config"] => true,
            ["data", sub, name] => name.len() == 64 && name.starts_with(sub),
            ["index" | "keys" | "snapshots", name] => name.len() == 64,
            _ => false,
        };
        assert!(fine, "{path}");
        if path != "config" && !path.starts_with("keys") {
            use sha2::Digest as _;
            let hash = hex::encode(sha2::Sha256::digest(fs::read(&file).unwrap()));
            assert_eq!(parts.last(), Some(&hash.as_str()));
        }
    }
}
