//! Directories that no program writes by itself, and such as were damaged where they lie.

use std::{collections::BTreeSet, fs, path::Path};

use ark_engine::maintain::Loss;
use serde_json::{Value, json};

use super::{
    Base,
    common::{self, Bench, compare::assert_same, restic::Restic, trees},
    crypto,
    forge::{self, Forge},
    repair,
};

/// Nodes that are wrong in other ways, as a program with a bug may write them.
#[test]
fn wrong_entries_are_mended_as_restic_mends_them() {
    let bench = Bench::in_memory();
    let repo = bench.init();
    fs::write(bench.source().join("file"), trees::noise(1, 1000)).unwrap();
    bench.archive(&repo);
    let key = forge::key(&bench.restic());
    let forge = Forge::copy_of(&bench.repo_dir(), &bench.dir.path().join("ours"), &key, 2);
    let blob = forge.pack(false).1.remove(0).id;
    let gone = crypto::Id::of(b"gone").to_string();
    let empty = crypto::Id::of(b"{\"nodes\":[]}\n").to_string();
    let at = "2024-01-02T03:04:05Z";
    let node = |name: &str, kind: &str, more: Value| {
        let mut node = json!({"name": name, "type": kind, "mode": 0o644, "mtime": at, "atime": at, "ctime": at, "uid": 0, "gid": 0});
        node.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        node
    };
    let list = |nodes: &[Value]| format!("{}\n", json!({ "nodes": nodes }));
    forge.add_snapshot(&[
        node("a", "file", json!({"size": 999, "content": [blob]})),
        node("b", "file", json!({"size": 7, "content": null})),
        node(
            "c",
            "file",
            json!({"size": 2000, "content": [gone, blob, gone]}),
        ),
        node(
            "d",
            "dir",
            json!({"subtree": gone, "mode": 0o755_u32 | 1 << 31}),
        ),
        node("e", "dir", json!({"mode": 0o755_u32 | 1 << 31})),
        node("f", "irregular", json!({})),
        node("g", "fifo", json!({"mode": 0o644_u32 | 1 << 25})),
        // It is in no index, and known nevertheless.
        node(
            "h",
            "dir",
            json!({"subtree": empty, "mode": 0o755_u32 | 1 << 31}),
        ),
    ]);
    forge.add_snapshot(&[
        node("x", "file", json!({"size": 1000, "content": [blob]})),
        node(
            "y",
            "dir",
            json!({"subtree": empty, "mode": 0o755_u32 | 1 << 31}),
        ),
    ]);
    let theirs = bench.dir.path().join("theirs");
    common::points::copy(&forge.dir, &theirs);
    // A directory that is no directory. Restic 0.19.1 ends with an error there.
    let bad = forge.blob(true, list(&[json!(7)]).replace('7', "{").as_bytes());
    forge.add_pack(std::slice::from_ref(&bad));
    forge.add_snapshot(&[node(
        "z",
        "dir",
        json!({"subtree": bad.id, "mode": 0o755_u32 | 1 << 31}),
    )]);
    let (of_ours, of_theirs) = (Restic::newest(&forge.dir), Restic::newest(&theirs));
    of_theirs.run(&["repair", "snapshots", "--forget"]);
    let base = Base {
        bench,
        packs: Vec::new(),
    };
    let repo = base.open(&forge.dir);
    let report = repair(&repo, true);
    assert_eq!((report.sound, report.snapshots.len()), (2, 2), "{report:?}");
    of_ours.check();
    common::written::is_clean(&repo);
    let contents = |restic: &Restic| -> BTreeSet<String> {
        let ids = common::written::snapshots(restic);
        let lines = ids.iter().flat_map(|id| {
            let said = restic.run(&["ls", "--long", id]);
            let lines = said
                .lines()
                .filter(|line| line.contains(" /") && !line.ends_with(" /z"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        });
        lines.collect()
    };
    assert_eq!(contents(&of_ours), contents(&of_theirs));
    let whole = repo.snapshots().unwrap().pop().unwrap();
    common::restore(&repo, &whole.id, &base.bench.target()).unwrap();
    assert_same(&base.bench.source(), &base.bench.target());
}

/// A directory that is damaged in its pack is lost only if no copy of it is whole.
#[test]
fn a_damaged_directory_is_lost() {
    let bench = Bench::in_memory();
    let repo = bench.init();
    trees::plain(&bench.source(), 9, 20_000);
    bench.archive(&repo);
    let key = forge::key(&bench.restic());
    let forge = Forge::copy_of(&bench.repo_dir(), &bench.dir.path().join("ours"), &key, 2);
    let (pack, blobs) = forge.pack(true);
    let inner = blobs
        .iter()
        .find(|blob| {
            String::from_utf8(forge.plain(blob))
                .unwrap()
                .contains("\"f0\"")
        })
        .unwrap()
        .clone();
    // A copy of one directory, and all of them damaged where they were first.
    forge.add_pack(std::slice::from_ref(&inner));
    let path = forge.pack_path(&pack);
    let mut bytes = fs::read(&path).unwrap();
    let mut at = 0;
    for blob in &blobs {
        let damaged = String::from_utf8(forge.plain(blob)).unwrap();
        if damaged.contains("\"f0\"") || damaged.contains("\"f1\"") {
            bytes[at + 20] ^= 1;
        }
        at += blob.sealed.len();
    }
    fs::write(&path, bytes).unwrap();
    let base = Base {
        bench,
        packs: Vec::new(),
    };
    let repo = base.open(&forge.dir);
    let report = repair(&repo, true);
    let lost: Vec<_> = report.snapshots[0].lost.iter().collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0].path, Path::new("/d1"));
    assert_eq!(lost[0].loss, Loss::Directory);
    let restic = Restic::newest(&forge.dir);
    let listed = restic.run(&["ls", "latest"]);
    let has = |path: &str| listed.lines().any(|line| line == path);
    assert!(has("/d0/f0") && has("/d1") && !has("/d1/f1"), "{listed}");
}
