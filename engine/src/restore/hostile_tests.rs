//! Repositories whose content lies, and targets that are traps: rows or typed errors, no panic, and
//! nothing outside the target.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{
    RestoreRequest,
    forge::{Forge, file, operations},
    restore,
};
use crate::{Cancel, Error, Progress, Repository, Secret, crypto::Id, rows::FileOperation};

#[test]
fn hostile_names_are_rows_and_the_rest_is_restored() {
    let mut forge = Forge::new();
    let data = forge.blob("data", b"evil");
    let names = [
        "..",
        ".",
        "",
        "../outside/x",
        "/etc/evil",
        "a/b",
        r"\x2e\x2e",
        r"a\x00b",
        r"\x2f",
        r"\q",
        &"n".repeat(300),
    ];
    let mut nodes: Vec<_> = names.iter().map(|name| file(name, &[&data])).collect();
    nodes.push(json!({"name": "..", "type": "dir", "subtree": forge.tree(&json!([]))}));
    nodes.push(json!({"name": "../outside", "type": "symlink", "linktarget": "x"}));
    nodes.push(file("good", &[&data]));
    nodes.push(file("good", &[]));
    let tree = forge.tree(&nodes.into());
    let report = forge.restore(&tree).unwrap();
    assert_eq!(
        operations(&report),
        vec![FileOperation::Name; names.len() + 3]
    );
    assert_eq!(fs::read(forge.target().join("good")).unwrap(), b"evil");
    assert_eq!(fs::read_dir(forge.target()).unwrap().count(), 1);
}

#[test]
fn a_link_and_a_directory_of_one_name_do_not_lead_outside() {
    let mut forge = Forge::new();
    let data = forge.blob("data", b"evil");
    let inner = forge.tree(&json!([file("precious", &[&data])]));
    let outside = forge.dir.path().join("outside");
    let link = json!({"name": "a", "type": "symlink", "mtime": "2024-01-01T00:00:00Z", "linktarget": outside});
    let dir = json!({"name": "a", "type": "dir", "mode": 0o777, "subtree": inner});
    let tree = forge.tree(&json!([link, dir]));
    let report = forge.restore(&tree).unwrap();
    assert_eq!(operations(&report), [FileOperation::Name]);
    assert_eq!(fs::read_link(forge.target().join("a")).unwrap(), outside);
}

#[test]
fn links_in_the_target_are_replaced_and_never_followed() {
    let mut forge = Forge::new();
    let outside = forge.dir.path().join("outside");
    let target = forge.target();
    symlink(&outside, target.join("dir")).unwrap();
    symlink(outside.join("precious"), target.join("file")).unwrap();
    symlink(outside.join("new"), target.join("dangling")).unwrap();
    symlink(outside.join("precious"), target.join("fifo")).unwrap();
    fs::hard_link(outside.join("precious"), target.join("hard")).unwrap();
    let data = forge.blob("data", b"evil");
    let inner = forge.tree(&json!([file("precious", &[&data]), file("new", &[&data])]));
    let tree = forge.tree(&json!([
        {"name": "dir", "type": "dir", "mode": 0o777, "mtime": "2024-01-01T00:00:00Z", "subtree": inner},
        file("file", &[&data]),
        file("dangling", &[&data]),
        file("hard", &[&data]),
        {"name": "fifo", "type": "fifo", "mode": 0o777, "mtime": "2024-01-01T00:00:00Z"},
    ]));
    let report = forge.restore(&tree).unwrap();
    assert_eq!(report.errors, []);
    for name in ["dir/precious", "dir/new", "file", "dangling", "hard"] {
        assert_eq!(fs::read(target.join(name)).unwrap(), b"evil", "{name}");
    }
    assert!(fs::symlink_metadata(target.join("dir")).unwrap().is_dir());
}

#[test]
fn nonsense_in_nodes_is_a_row_each() {
    let mut forge = Forge::new();
    let data = forge.blob("data", b"ok");
    let lost = Id::of(b"nowhere").to_string();
    let garbage = forge.blob("tree", b"this is no json");
    let raw = |target: &[u8]| STANDARD.encode(target);
    let time = "2024-01-01T00:00:00Z";
    let tree = forge.tree(&json!([
        {"name": "kind", "type": "door", "mtime": time},
        {"name": "none", "mtime": time},
        {"name": "missing blob", "type": "file", "mtime": time, "content": [lost]},
        {"name": "no id", "type": "file", "mtime": time, "content": ["zz"]},
        {"name": "no subtree", "type": "dir", "mtime": time},
        {"name": "lost subtree", "type": "dir", "mtime": time, "subtree": lost},
        {"name": "data as tree", "type": "dir", "mtime": time, "subtree": data},
        {"name": "garbage", "type": "dir", "mtime": time, "subtree": garbage},
        {"name": "link 1", "type": "symlink", "mtime": time, "linktarget": ""},
        {"name": "link 2", "type": "symlink", "mtime": time, "linktarget_raw": "***"},
        {"name": "link 3", "type": "symlink", "mtime": time, "linktarget_raw": raw(b"a\0b")},
        {"name": "link 4", "type": "symlink", "mtime": time, "linktarget": "x".repeat(5000)},
        {"name": "bad time", "type": "file", "mtime": "soon", "content": [data]},
        {"name": "bad owner", "type": "file", "mtime": time, "uid": u32::MAX, "content": [data]},
        {"name": "bad xattr", "type": "file", "mtime": time, "content": [data],
            "extended_attributes": [{"name": "no-namespace", "value": ""}, {"name": "user.a\0b", "value": ""}, {"name": "user.x", "value": "*"}]},
        {"name": 7},
        "a string",
        {"name": "absurd", "type": "file", "size": u64::MAX, "links": u64::MAX, "inode": u64::MAX, "mode": u32::MAX, "mtime": "9999-12-30T00:00:00.999999999Z", "content": [data]},
        {"name": "null everything", "type": "file", "mode": null, "mtime": time, "content": null, "extended_attributes": null, "subtree": null},
        file("good", &[&data]),
    ]));
    let report = forge.restore(&tree).unwrap();
    for (path, operation) in [
        ("kind", FileOperation::Unsupported),
        ("none", FileOperation::Unsupported),
        ("missing blob", FileOperation::Read),
        ("no id", FileOperation::Tree),
        ("no subtree", FileOperation::Tree),
        ("lost subtree", FileOperation::Tree),
        ("data as tree", FileOperation::Tree),
        ("garbage", FileOperation::Tree),
        ("link 1", FileOperation::Tree),
        ("link 2", FileOperation::Tree),
        ("link 3", FileOperation::Tree),
        ("link 4", FileOperation::Tree),
        ("bad time", FileOperation::Times),
        ("bad owner", FileOperation::Chown),
        ("bad xattr", FileOperation::Xattr),
        (".", FileOperation::Tree),
    ] {
        assert!(
            report
                .errors
                .iter()
                .any(|row| row.path == path && row.operation == operation),
            "{path}: {:#?}",
            report.errors
        );
    }
    assert!(
        !report
            .errors
            .iter()
            .any(|row| ["absurd", "good", "null everything"].contains(&row.path.as_str())),
        "{:#?}",
        report.errors
    );
    for name in ["bad time", "bad owner", "bad xattr", "absurd", "good"] {
        assert_eq!(
            fs::read(forge.target().join(name)).unwrap(),
            b"ok",
            "{name}"
        );
    }
    for name in ["missing blob", "no id", "link 1", "kind"] {
        assert!(!forge.target().join(name).exists(), "{name}");
    }
}

#[test]
fn blobs_that_are_not_what_they_claim() {
    let mut forge = Forge::new();
    let wrong = Id::of(b"what it should be").to_string();
    forge.blob_named("data", &wrong, b"what it is", None);
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    let (small, exact) = (Id::of(b"small").to_string(), Id::of(b"exact").to_string());
    forge.blob_named("data", &small, &bomb, Some(1000));
    forge.blob_named("data", &exact, b"not zstd", Some(1000));
    let nodes = [
        file("wrong", &[&wrong]),
        file("bomb", &[&small]),
        file("not zstd", &[&exact]),
    ];
    let tree = forge.tree(&json!(nodes));
    let report = forge.restore(&tree).unwrap();
    assert_eq!(operations(&report), [FileOperation::Read; 3]);
    assert_eq!(fs::read_dir(forge.target()).unwrap().count(), 0);
}

#[test]
fn lengths_that_lie_are_rows() {
    let mut forge = Forge::new();
    let data = vec![7; 100_000];
    let packed = zstd::bulk::compress(&data, 1).unwrap();
    let id = Id::of(&data).to_string();
    forge.blob_named("data", &id, &packed, Some(100_000));
    let mut nodes = vec![file("good", &[&id, &id])];
    for (n, claimed) in [1, 99_999, 100_001, 3 << 20, 500 << 20]
        .into_iter()
        .enumerate()
    {
        // Blobs of their own, or the first entry of the index would count for all.
        let data = vec![u8::try_from(n).unwrap(); 100_000];
        let packed = zstd::bulk::compress(&data, 1).unwrap();
        let id = Id::of(&data).to_string();
        forge.blob_named("data", &id, &packed, Some(claimed));
        nodes.push(file(&format!("claims {claimed}"), &[&id]));
    }
    let tree = forge.tree(&nodes.into());
    let report = forge.restore(&tree).unwrap();
    assert_eq!(operations(&report), [FileOperation::Read; 5]);
    let large = report
        .errors
        .iter()
        .find(|row| row.path == "claims 524288000");
    assert!(
        large.unwrap().message.contains("bytes of memory"),
        "{large:?}"
    );
    assert_eq!(fs::read_dir(forge.target()).unwrap().count(), 1);
    assert_eq!(
        fs::read(forge.target().join("good")).unwrap(),
        [data.clone(), data].concat()
    );
}

#[test]
fn places_that_overlap_or_are_given_twice() {
    let mut forge = Forge::new();
    let first = forge.blob("data", &vec![1; 5000]);
    let (twice, moved) = (Id::of(b"twice").to_string(), Id::of(b"moved").to_string());
    forge.alias(&twice, 0);
    forge.alias(&moved, 17);
    let last = forge.blob("data", &vec![2; 5000]);
    let nodes = [
        file("first", &[&first]),
        file("last", &[&last]),
        file("moved", &[&moved]),
        file("twice", &[&twice]),
    ];
    let tree = forge.tree(&json!(nodes));
    let report = forge.restore(&tree).unwrap();
    let rows: Vec<_> = report.errors.iter().map(|row| row.path.as_str()).collect();
    assert!(
        rows.contains(&"moved") && rows.contains(&"twice"),
        "{rows:?}"
    );
    // What could be read is right.
    for (name, byte) in [("first", 1), ("last", 2)] {
        if !rows.contains(&name) {
            assert_eq!(
                fs::read(forge.target().join(name)).unwrap(),
                vec![byte; 5000]
            );
        }
    }
    assert_eq!(report.files, 4 - rows.len() as u64);
}

#[test]
fn a_blob_wanted_many_times_is_fetched_once() {
    let mut forge = Forge::new();
    let data = forge.blob("data", &vec![5; 70_000]);
    let zeros = forge.blob("data", &vec![0; 70_000]);
    let many = vec![data.as_str(); 50];
    let tree = forge.tree(&json!([
        file("a", &many),
        file("b", &[&zeros, &data, &zeros]),
        file("c", &vec![zeros.as_str(); 300]),
    ]));
    let report = forge.restore(&tree).unwrap();
    assert_eq!(report.errors, []);
    assert_eq!(report.bytes_fetched, 2 * (70_000 + 32));
    assert_eq!(
        fs::read(forge.target().join("a")).unwrap(),
        vec![5; 50 * 70_000]
    );
    assert_eq!(
        fs::read(forge.target().join("c")).unwrap(),
        vec![0; 300 * 70_000]
    );
    let b = [vec![0; 70_000], vec![5; 70_000], vec![0; 70_000]].concat();
    assert_eq!(fs::read(forge.target().join("b")).unwrap(), b);
}

#[test]
fn a_terabyte_of_zeros_takes_no_time_and_no_room() {
    let mut forge = Forge::new();
    let zeros = vec![0; 8 << 20];
    let id = Id::of(&zeros).to_string();
    let packed = zstd::bulk::compress(&zeros, 1).unwrap();
    forge.blob_named("data", &id, &packed, Some(8 << 20));
    let tree = forge.tree(&json!([file("huge", &vec![id.as_str(); 1 << 17])]));
    let report = forge.restore(&tree).unwrap();
    assert_eq!(report.errors, []);
    let huge = fs::metadata(forge.target().join("huge")).unwrap();
    assert_eq!((huge.len(), huge.blocks()), (1 << 40, 0));
    // Over itself: nothing but holes to compare.
    let again = forge.restore(&tree).unwrap();
    assert_eq!((again.files_unchanged, again.bytes_fetched), (1, 0));
}

#[test]
fn two_nodes_that_share_an_inode_but_not_their_content_are_two_files() {
    let mut forge = Forge::new();
    let (a, b) = (forge.blob("data", b"a"), forge.blob("data", b"b"));
    let node = |name: &str, blob: &str| {
        let mut node = file(name, &[blob]);
        node["inode"] = 5.into();
        node["links"] = 2.into();
        node
    };
    let tree = forge.tree(&json!([node("1", &a), node("2", &b), node("3", &b)]));
    let report = forge.restore(&tree).unwrap();
    assert_eq!(report.errors, []);
    let read = |name: &str| fs::read(forge.target().join(name)).unwrap();
    assert_eq!(
        (read("1"), read("2"), read("3")),
        (b"a".to_vec(), b"b".to_vec(), b"b".to_vec())
    );
}

#[test]
fn a_root_that_cannot_be_read_is_an_error() {
    let mut forge = Forge::new();
    let error = forge.restore(&Id::of(b"none").to_string()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    let error = forge.restore("not an id").unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn tags_that_lie_about_the_root() {
    let mut forge = Forge::new();
    let tree = forge.tree(&json!([]));
    let tags = ["ark.root=zzz", "ark.root-xattr=user.x", "ark.root="].map(str::to_owned);
    let report = forge.restore_with(&tree, tags.to_vec()).unwrap();
    assert_eq!(report.errors, []);
}

#[test]
fn a_very_wide_and_a_very_deep_forgery() {
    let mut forge = Forge::new();
    let mut tree = forge.tree(&json!([]));
    for _ in 0..5000 {
        tree = forge.tree(&json!([{"name": "d", "type": "dir", "mode": 0o700, "mtime": "2024-01-01T00:00:00Z", "subtree": tree}]));
    }
    let report = forge.restore(&tree).unwrap();
    assert!(
        operations(&report).contains(&FileOperation::Unsupported),
        "{:?}",
        report.errors.first()
    );
    assert!(report.dirs >= 4000);
    // The standard library's own removal would need as many descriptors.
    let removed = std::process::Command::new("rm")
        .arg("-rf")
        .arg(forge.target())
        .status();
    assert!(removed.unwrap().success());
}

#[test]
fn directories_too_large_to_be_held_together_are_rows() {
    let mut forge = Forge::new();
    // Nobody should find out what is in it.
    let inner = Id::of(b"inner").to_string();
    let claimed = u64::from(crate::index::MAX_BLOB);
    forge.blob_named("tree", &inner, b"no directory", Some(claimed));
    let dir = |name: &str, tree: &str| json!({"name": name, "type": "dir", "mode": 0o700, "mtime": "2024-01-01T00:00:00Z", "subtree": tree});
    // Little that becomes much.
    let mut padded =
        serde_json::to_vec(&json!({"nodes": [dir("in", &inner), file("last", &[])]})).unwrap();
    padded.resize(padded.len() + (140 << 20), b' ');
    let outer = Id::of(&padded).to_string();
    let packed = zstd::bulk::compress(&padded, 1).unwrap();
    forge.blob_named("tree", &outer, &packed, Some(padded.len() as u64));
    drop((padded, packed));
    let tree = forge.tree(&json!([dir("out", &outer), file("z", &[])]));
    let report = forge.restore(&tree).unwrap();
    assert_eq!(operations(&report), [FileOperation::Tree]);
    let row = &report.errors[0];
    assert_eq!(row.path, "out/in");
    assert!(row.message.contains("bytes of memory"), "{row}");
    assert!(forge.target().join("out/last").exists() && forge.target().join("z").exists());
    // The same in a list.
    let snapshot = forge.repo.snapshots().unwrap().remove(0);
    let mut problems = Vec::new();
    let mut each = |listed: crate::browse::Listed| {
        problems.extend(listed.problem.map(|why| (listed.path, why)));
        Ok(())
    };
    crate::browse::list(
        &forge.repo,
        &snapshot,
        Path::new("/"),
        true,
        &Cancel::new(),
        &mut each,
    )
    .unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].1.contains("bytes of memory"), "{problems:?}");
}

#[test]
fn damaged_documents_are_typed_errors() {
    let mut forge = Forge::new();
    let tree = forge.tree(&json!([]));
    forge.restore(&tree).unwrap();
    let names = |dir: &str| -> Vec<PathBuf> {
        let dir = forge.dir.path().join("repo").join(dir);
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let request = |snapshot: String| RestoreRequest {
        snapshot,
        target: forge.target(),
        sparse: false,
        restore_owner: false,
        ..RestoreRequest::default()
    };
    let snapshot = forge.repo.snapshots().unwrap().remove(0).id;
    for dir in ["index", "snapshots"] {
        for path in names(dir) {
            flip(&path);
        }
        let done = restore(
            &forge.repo,
            &request(snapshot.clone()),
            &Progress::new(),
            &Cancel::new(),
        );
        let error = done.unwrap_err();
        assert!(matches!(&error, Error::Damaged { .. }), "{dir}: {error}");
        for path in names(dir) {
            flip(&path);
        }
    }
    flip(&forge.dir.path().join("repo/config"));
    let options = crate::OpenOptions::default();
    let handle = forge.runtime.handle().clone();
    let opened = Repository::open(
        forge.repo.store().clone(),
        &[Secret::new("x")],
        options,
        handle,
    );
    assert!(matches!(opened.unwrap_err(), Error::Damaged { .. }));
}
