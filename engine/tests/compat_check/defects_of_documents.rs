//! Defects of snapshots, directories, keys and the configuration. Nodes are given to a root
//! directory of a new snapshot.

use std::fs;

use serde_json::{Value, json};

use super::{
    Defect,
    Theirs::{Error, Ok, OkBecause},
    defect, flip,
};
use crate::{
    crypto::Id,
    forge::{Forge, name},
};

pub const DEFECTS: &[Defect] = &[
    // Snapshots.
    defect(
        "snapshot damaged",
        |f| flip(&f.files("snapshots")[0]),
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "snapshot renamed",
        |f| rename(f, "snapshots"),
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "snapshot that is none",
        |f| {
            f.write_document("snapshots", b"[7]");
        },
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "snapshot with a tree that is no id",
        |f| {
            f.snapshot_of("7");
        },
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "snapshot without a tree",
        |f| {
            f.snapshot_of(&Id::of(b"none").to_string());
        },
        Error,
        &["blob_missing"],
        true,
    ),
    defect(
        "snapshot of data",
        |f| {
            f.snapshot_of(&f.pack(false).1[0].id);
        },
        Error,
        &["blob_missing"],
        true,
    ),
    // Directories, each authentic and named by its content.
    defect(
        "a directory that is none",
        |f| {
            f.add_snapshot_of(b"nothing of the kind");
        },
        Error,
        &["unreadable"],
        true,
    ),
    defect(
        "a directory that ends early",
        |f| {
            f.add_snapshot_of(br#"{"nodes":[{"name":"a","#);
        },
        Error,
        &["unreadable"],
        true,
    ),
    defect(
        "a file whose content is missing",
        |f| with(f, &[file("a", 5, &[&Id::of(b"none").to_string()])]),
        Error,
        &["blob_missing"],
        true,
    ),
    defect(
        "a file without a list of content",
        |f| with(f, &[json!({"name": "a", "type": "file", "size": 0})]),
        Error,
        &["node"],
        true,
    ),
    defect(
        "a file whose content is no id",
        |f| with(f, &[file("a", 5, &["7"])]),
        Error,
        NODE,
        true,
    ),
    defect(
        "a file of another size",
        |f| with(f, &[file("a", 7, &[])]),
        Ok,
        &["file_size"],
        false,
    ),
    defect(
        "a directory whose content is missing",
        |f| with(f, &[dir("a", &Id::of(b"none").to_string())]),
        Error,
        &["blob_missing"],
        true,
    ),
    defect(
        "a directory without content",
        |f| with(f, &[json!({"name": "a", "type": "dir"})]),
        Error,
        &["node"],
        true,
    ),
    defect(
        "an entry without a name",
        |f| with(f, &[file("", 0, &[])]),
        Error,
        &["node"],
        true,
    ),
    defect(
        "an entry of no known kind",
        |f| with(f, &[json!({"name": "a", "type": "odd"})]),
        Error,
        &["node"],
        true,
    ),
    defect(
        "an entry named dot dot",
        |f| with(f, &[file("..", 0, &[])]),
        OkBecause("nothing can be restored under such a name"),
        &["node"],
        true,
    ),
    defect(
        "an entry named with a slash",
        |f| with(f, &[file("a/b", 0, &[])]),
        OkBecause("nothing can be restored under such a name"),
        &["node"],
        true,
    ),
    defect(
        "two entries of one name",
        |f| with(f, &[file("a", 0, &[]), file("a", 0, &[])]),
        OkBecause("only one of them can be restored"),
        &["node"],
        true,
    ),
    defect(
        "two entries of one name not side by side",
        |f| {
            with(
                f,
                &[file("b", 0, &[]), file("c", 0, &[]), file("b", 0, &[])],
            )
        },
        OkBecause("only one of them can be restored"),
        &["node", "unordered"],
        true,
    ),
    defect(
        "entries in another order",
        |f| with(f, &[file("b", 0, &[]), file("a", 0, &[])]),
        Ok,
        &["unordered"],
        false,
    ),
    defect(
        "a size that is no number",
        |f| with(f, &[json!({"name": "a", "type": "file", "size": "x"})]),
        Error,
        &["node"],
        true,
    ),
    // Keys and the configuration.
    defect(
        "the key damaged",
        |f| flip(&f.files("keys")[0]),
        Error,
        CLOSED,
        false,
    ),
    defect(
        "no key",
        |f| fs::remove_file(&f.files("keys")[0]).unwrap(),
        Error,
        CLOSED,
        false,
    ),
    defect(
        "another key damaged",
        |f| {
            f.write_named("keys", Some(&Id::of(b"key").to_string()), b"{}");
        },
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "configuration missing",
        |f| fs::remove_file(f.dir.join("config")).unwrap(),
        Error,
        CLOSED,
        false,
    ),
    defect(
        "configuration damaged",
        |f| flip(&f.dir.join("config")),
        Error,
        CLOSED,
        false,
    ),
];

const CLOSED: &[&str] = &["cannot be opened"];
const NODE: &[&str] = &["node"];

fn file(name: &str, size: u64, content: &[&str]) -> Value {
    json!({"name": name, "type": "file", "mode": 0o644, "mtime": "2024-01-01T00:00:00Z", "atime": "2024-01-01T00:00:00Z",
        "ctime": "2024-01-01T00:00:00Z", "uid": 0, "gid": 0, "size": size, "content": content})
}

fn dir(name: &str, tree: &str) -> Value {
    json!({"name": name, "type": "dir", "mode": 0o755 | 1_u32 << 31, "mtime": "2024-01-01T00:00:00Z",
        "atime": "2024-01-01T00:00:00Z", "ctime": "2024-01-01T00:00:00Z", "uid": 0, "gid": 0, "subtree": tree})
}

fn with(forge: &Forge, nodes: &[Value]) {
    forge.add_snapshot(nodes);
}

/// Gives a file the name of another content.
pub(super) fn rename(forge: &Forge, dir: &str) {
    let path = forge.files(dir).remove(0);
    fs::rename(
        &path,
        path.with_file_name(Id::of(name(&path).as_bytes()).to_string()),
    )
    .unwrap();
}
