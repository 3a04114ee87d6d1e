//! Copying snapshots to another repository with `ark engine`: restic finds there what was in the first, and neither copies again
//! what the other has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;

use std::{fs, process::Command};

use engine_harness::{PASSWORD, Place, Ran, assert_same, files, ids};
use serde_json::Value;

/// A place with a repository of this version, made by restic.
fn place(version: &str) -> Place {
    let place = Place::new();
    place.restic(&["init", "--repository-version", version]);
    place
}

/// Copying from one place into another.
fn copy_command(from: &Place, to: &Place, args: &[&str]) -> Command {
    let mut command = to.ark_command(&["copy", "--json"]);
    command
        .args(args)
        .env("RESTIC_FROM_REPOSITORY", from.at("repo"))
        .env("RESTIC_FROM_PASSWORD", PASSWORD);
    command
}

fn copy(from: &Place, to: &Place, args: &[&str]) -> Ran {
    Ran::of(copy_command(from, to, args).output().unwrap())
}

fn listed(place: &Place) -> Vec<Value> {
    let list = place.restic(&["snapshots", "--json"]).json();
    list.as_array().unwrap().clone()
}

/// What a copy keeps of a snapshot.
fn kept(snapshot: &Value) -> Vec<&Value> {
    [
        "time", "tree", "paths", "hostname", "username", "uid", "gid", "tags", "excludes",
        "summary",
    ]
    .iter()
    .map(|name| &snapshot[name])
    .collect()
}

/// These snapshots of both restore to the same.
fn restore_alike(from: &Place, to: &Place, pairs: &[(String, String)]) {
    for (source, id) in pairs {
        let (a, b) = (from.text("by-first"), to.text("by-second"));
        from.restic(&["restore", source, "--target", &a]);
        to.restic(&["restore", id, "--target", &b]);
        assert_same(a.as_ref(), b.as_ref());
        fs::remove_dir_all(a).unwrap();
        fs::remove_dir_all(b).unwrap();
    }
}

#[test]
fn copies_are_the_same_snapshots() {
    for (version, other) in [("2", "1"), ("1", "2")] {
        let (from, to) = (place(version), place(other));
        from.fill(1);
        from.backup();
        from.fill(2);
        from.restic(&["backup", "-q", "--tag", "a,b", &from.text("source")]);
        from.fill(3);
        let latest = from.backup();

        // One of them first: the others need less then.
        let one = copy(&from, &to, &["latest"]).ends(0).json();
        assert_eq!(one["snapshots"].as_array().unwrap().len(), 1);
        assert_eq!(one["snapshots"][0]["source"], Value::from(latest));
        let all = copy(&from, &to, &[]).ends(0).json();
        let copied = all["snapshots"].as_array().unwrap();
        assert_eq!(copied.len(), 3, "{all}");
        let there: Vec<_> = copied
            .iter()
            .map(|one| one["was_there"].as_bool())
            .collect();
        assert_eq!(there, [Some(false), Some(false), Some(true)]);
        assert!(all["blobs"].as_u64().unwrap() > 0, "{all}");

        to.restic(&["check", "--read-data"]);
        to.ark(&["check", "--read-data"]).ends(0);
        let (first, second) = (listed(&from), listed(&to));
        assert_eq!(first.len(), second.len());
        for (source, copy) in first.iter().zip(&second) {
            assert_eq!(kept(source), kept(copy));
            assert_eq!(copy["original"], source["id"]);
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let pairs: Vec<_> = copied
            .iter()
            .map(|one| (text(&one["source"]), text(&one["id"])))
            .collect();
        restore_alike(&from, &to, &pairs[1..]);

        // Again: nothing to do, and nothing is written.
        let before = files(&to.at("repo"));
        let again = copy(&from, &to, &[]).ends(0).json();
        assert_eq!(again["blobs"], 0);
        assert_eq!(files(&to.at("repo")), before);

        // Restic, too, sees that they are there; and Ark what restic copies back.
        let mut theirs = to.restic_command(&["copy"]);
        theirs.args(["--from-repo", &from.text("repo")]);
        theirs.env("RESTIC_FROM_PASSWORD", PASSWORD);
        let ran = Ran::of(theirs.output().unwrap());
        if ran.code == Some(0) {
            assert_eq!(ids(&Value::from(listed(&to))).len(), 3, "{}", ran.out);
        } else {
            // Restic 0.14 takes the password of the other from a file or a command only.
            assert!(ran.err.contains("password"), "{}", ran.err);
        }
        let back = copy(&to, &from, &[]).ends(0).json();
        assert_eq!(back["blobs"], 0, "{back}");
        assert_eq!(listed(&from).len(), 3);
    }
}

/// A blob that cannot be read any more, and a repository copied to itself, end it, and no snapshot is there that cannot be restored.
#[test]
fn what_cannot_be_copied_is_no_snapshot() {
    let (from, to) = (place("2"), place("2"));
    from.fill(1);
    from.backup();
    copy(&from, &from, &[]).ends(1);
    let mut packs = files(&from.at("repo/data"));
    packs.sort_by_key(|path| fs::metadata(path).unwrap().len());
    let largest = packs.pop().unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = fs::metadata(&largest).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file of a test")]
    permissions.set_readonly(false);
    fs::set_permissions(&largest, permissions).unwrap();
    fs::write(&largest, &bytes).unwrap();
    let failed = copy(&from, &to, &[]).ends(1);
    assert!(failed.err.contains("pack"), "{}", failed.err);
    assert!(listed(&to).is_empty());
    assert!(to.locks().is_empty() && from.locks().is_empty());
    // Whole again, it goes on from what is there.
    bytes[middle] ^= 1;
    fs::write(&largest, &bytes).unwrap();
    copy(&from, &to, &[]).ends(0);
    to.restic(&["check", "--read-data"]);
    assert_eq!(listed(&to).len(), 1);
}
