//! Files with several names, in the snapshot and in the target.

use std::{fs, os::unix::fs::MetadataExt as _, process::Command};

use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Value, json};

use super::forge::{Forge, file};
use crate::{crypto::Id, rows::FileOperation};

/// A file that has another name, by its inode.
fn named(name: &str, content: &[&str], inode: u64) -> Value {
    let mut node = file(name, content);
    node["inode"] = inode.into();
    node["links"] = 2.into();
    node
}

#[test]
fn the_last_name_of_a_file_that_failed_is_a_row_too() {
    let mut forge = Forge::new();
    let good = forge.blob("data", b"good");
    let damaged = Id::of(b"what it should be").to_string();
    forge.blob_named("data", &damaged, b"what it is", None);
    let (x, y) = (forge.blob("data", b"x"), forge.blob("data", b"y"));
    let mut nodes = vec![named("a", &[&good, &damaged], 5)];
    // So many that the first name has failed before the last one is met.
    nodes.extend((0..1500).map(|n| file(&format!("m{n:04}"), &[&x, &y])));
    nodes.push(named("z", &[&good, &damaged], 5));
    let target = forge.target();
    fs::write(target.join("a"), "old content of it").unwrap();
    fs::hard_link(target.join("a"), target.join("z")).unwrap();
    let tree = forge.tree(&nodes.into());
    let report = forge.restore(&tree).unwrap();
    let rows = report.errors.iter();
    let rows: Vec<_> = rows.map(|row| (row.path.as_str(), row.operation)).collect();
    assert_eq!(
        rows,
        [("a", FileOperation::Read), ("z", FileOperation::Read)]
    );
    assert_eq!((report.files_unchanged, report.files), (0, 1500));
    // No successor is complete, so both names keep the file that was there.
    for name in ["a", "z"] {
        let content = fs::read_to_string(target.join(name)).unwrap();
        assert_eq!(content, "old content of it", "{name}");
    }
}

#[test]
fn names_of_one_inode_with_two_contents_become_two_files() {
    let mut forge = Forge::new();
    let blobs = [b"1", b"2", b"3", b"4"].map(|content| forge.blob("data", content));
    let [a, b, c, d] = blobs.each_ref().map(String::as_str);
    let target = forge.target();
    for (first, second) in [("a", "b"), ("c", "d")] {
        fs::write(target.join(first), "there").unwrap();
        fs::hard_link(target.join(first), target.join(second)).unwrap();
    }
    let tree = forge.tree(&json!([
        named("a", &[a, b, c], 5),
        named("b", &[d, d], 5),
        named("c", &[a], 6),
        named("d", &[a], 6),
    ]));
    let report = forge.restore(&tree).unwrap();
    assert_eq!(report.errors, []);
    let read = |name: &str| fs::read(target.join(name)).unwrap();
    assert_eq!((read("a"), read("b")), (b"123".to_vec(), b"44".to_vec()));
    let inode = |name: &str| fs::metadata(target.join(name)).unwrap().ino();
    assert_ne!(inode("a"), inode("b"));
    // Those that belong together stay together.
    assert_eq!((read("c"), inode("c")), (b"1".to_vec(), inode("d")));
}

/// More names than the process may have files open; it is one of its own, because all of it has the
/// limit.
#[test]
fn many_names_take_few_descriptors() {
    const CHILD: &str = "ARK_TEST_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "restore::names_tests::many_names_take_few_descriptors";
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        let why = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.success() && said.contains("1 passed"),
            "{said}{why}"
        );
        return;
    }
    let limit = Some(300);
    let limit = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut forge = Forge::new();
    let mut nodes = Vec::new();
    let pairs = 600;
    for n in 0..pairs {
        let blob = forge.blob("data", format!("content {n}").as_bytes());
        for name in ["a", "b"] {
            nodes.push(named(&format!("{n:04}{name}"), &[&blob], n + 10));
        }
    }
    let tree = forge.tree(&nodes.into());
    let report = forge.restore(&tree).unwrap();
    assert_eq!(report.errors, []);
    for n in 0..pairs {
        let path = |name: &str| forge.target().join(format!("{n:04}{name}"));
        let inodes = ["a", "b"].map(|name| fs::metadata(path(name)).unwrap().ino());
        assert_eq!(inodes[0], inodes[1], "{n}");
        let content = format!("content {n}");
        assert_eq!(fs::read(path("b")).unwrap(), content.as_bytes());
    }
}
