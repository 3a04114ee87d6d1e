//! Differences of directories as no program writes them by itself, told as stock restic tells them.

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
#[path = "compat_check/forge.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use a part of it")]
mod forge;

use std::fs;

use ark_engine::{
    Cancel, OpenOptions, Repository, Secret, Store, StoreConfig,
    browse::{Change, Compared, DiffRequest, diff},
};
use common::{Bench, PASSWORD, restic::Restic, trees};
use forge::Forge;
use serde_json::{Value, json};

/// Two snapshots.
fn states(forge: &Forge) -> (String, String) {
    let blobs: Vec<String> = forge
        .pack(false)
        .1
        .into_iter()
        .map(|blob| blob.id)
        .collect();
    let node = |name: &str, kind: &str, blob: Option<usize>| {
        let at = "2024-01-02T03:04:05Z";
        let content: Option<Vec<_>> = blob.map(|blob| vec![blobs[blob].clone()]);
        json!({"name": name, "type": kind, "mtime": at, "atime": at, "ctime": at, "uid": 0, "gid": 0,
            "size": blob.map(|_| 1000), "content": content})
    };
    let later = |mut node: Value| {
        node["mtime"] = "2024-01-02T03:04:06Z".into();
        node
    };
    let elsewhere = |mut node: Value| {
        node["mtime"] = "2024-01-02T05:04:05+02:00".into();
        node
    };
    let before = forge.add_snapshot(&[
        node("a", "file", Some(0)),
        node("b", "file", Some(0)),
        node("c", "file", Some(0)),
        node("d", "fifo", None),
        node("e", "fifo", None),
        node("f\\n", "file", Some(0)),
        node("f-", "file", Some(0)),
        node("g", "file", Some(1)),
    ]);
    let after = forge.add_snapshot(&[
        node("a", "file", Some(1)),
        later(node("b", "file", Some(1))),
        elsewhere(node("c", "file", Some(0))),
        node("d", "socket", None),
        later(node("e", "fifo", None)),
        node("f\\n", "file", Some(0)),
        node("f.", "file", Some(0)),
        node("g", "file", Some(1)),
    ]);
    (before, after)
}

/// Content that is another without a trace, names that order differs for, kinds that are others.
#[test]
fn forged_directories() {
    let bench = Bench::in_memory();
    let repo = bench.init();
    for n in 0..2 {
        fs::write(bench.source().join(format!("{n}")), trees::noise(n, 1000)).unwrap();
    }
    bench.archive(&repo);
    let key = forge::key(&bench.restic());
    let forge = Forge::copy_of(&bench.repo_dir(), &bench.dir.path().join("forged"), &key, 2);
    let (before, after) = states(&forge);
    let store = StoreConfig::Local {
        root: forge.dir.clone(),
    };
    let handle = bench.runtime.handle().clone();
    let passwords = [Secret::new(PASSWORD)];
    let store = Store::open(&store).unwrap();
    let repo = Repository::open(store, &passwords, OpenOptions::default(), handle).unwrap();
    for metadata in [false, true] {
        let find = |id: &str| repo.find_snapshot(id).unwrap();
        let request = DiffRequest {
            metadata,
            ..DiffRequest::new(find(&before), find(&after))
        };
        let mut ours = Vec::new();
        let report = diff(&repo, &request, &Cancel::new(), &mut |compared| {
            let Compared::Changed { path, change, .. } = compared else {
                panic!("{compared:?}");
            };
            ours.push((path.to_str().unwrap().to_owned(), change));
            Ok(())
        })
        .unwrap();
        let more: &[&str] = if metadata { &["--metadata"] } else { &[] };
        let args = [&["diff", "--json", &before, &after], more].concat();
        let theirs = Restic::newest(&forge.dir).run(&args);
        let theirs: Vec<Value> = theirs
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let (statistics, changes) = theirs.split_last().unwrap();
        let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let changes: Vec<_> = changes
            .iter()
            .map(|line| (text(line, "path"), text(line, "modifier")))
            .collect();
        let marked: Vec<_> = ours
            .iter()
            .map(|(path, change)| (path.clone(), change.marker().to_owned()))
            .collect();
        assert_eq!(marked, changes);
        assert!(ours.contains(&("/a".to_owned(), Change::Unexplained)));
        assert_eq!(report.changed_files, statistics["changed_files"]);
        for (ours, theirs) in [
            (report.added, &statistics["added"]),
            (report.removed, &statistics["removed"]),
        ] {
            let ours = json!({
                "files": ours.files, "dirs": ours.dirs, "others": ours.others,
                "data_blobs": ours.data_blobs, "tree_blobs": ours.tree_blobs, "bytes": ours.bytes,
            });
            assert_eq!(ours, *theirs);
        }
        assert_eq!(report.problems, 0);
    }
}
