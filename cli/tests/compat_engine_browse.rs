//! `ark engine find`, `stats` and parts of files beside stock restic, in repositories that both wrote to: the same is found,
//! and the same is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "compat_engine_browse/counts.rs"]
mod counts;
mod engine_harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use engine_harness::{Place, ids, noise};
use serde_json::Value;

/// Four snapshots, by both programs, with files that come, change and go, copies, hard links and odd names.
fn filled(version: &str) -> Place {
    let place = Place::new();
    place.restic(&["init", "--repository-version", version]);
    place.fill(1);
    let source = place.at("source");
    let text = place.text("source");
    for (dir, files) in [("logs/old", 3), ("logs/new", 2), ("a/b/c", 2), ("x/a/b", 1)] {
        fs::create_dir_all(source.join(dir)).unwrap();
        for n in 0..files {
            let name = format!("{dir}/File-{n}.LOG");
            fs::write(source.join(name), noise(n, 7, 2000)).unwrap();
        }
    }
    for name in ["same-1", "logs/same-2"] {
        fs::write(source.join(name), noise(9, 9, 3 << 20)).unwrap();
    }
    fs::hard_link(source.join("same-1"), source.join("a/same-3")).unwrap();
    fs::write(source.join("text.txt"), "compresses ".repeat(20_000)).unwrap();
    fs::write(source.join("a/[x]*?\u{e9}"), "odd").unwrap();
    place.ark(&["backup", "--host", "h", &text]).ends(0);
    fs::write(source.join("logs/new/later.log"), "later").unwrap();
    fs::remove_file(source.join("logs/old/File-0.LOG")).unwrap();
    place.restic(&["backup", "--quiet", "--host", "h", "--tag", "t", &text]);
    place.fill(2);
    place
        .ark(&["backup", "--host", "h", "--tag", "t,u", &text])
        .ends(0);
    fs::remove_dir_all(source.join("a")).unwrap();
    let logs = format!("{text}/logs");
    place.restic(&["backup", "--quiet", "--host", "other", &text, &logs]);
    place
}

/// What was found by name: of each snapshot, each entry with all that is told of it.
fn matches(found: &Value) -> BTreeMap<String, BTreeMap<String, Value>> {
    let groups = found.as_array().unwrap().iter().map(|group| {
        let list = group["matches"].as_array().unwrap();
        assert_eq!(group["hits"], list.len());
        let entries = list
            .iter()
            .map(|entry| (entry["path"].as_str().unwrap().to_owned(), entry.clone()));
        (
            group["snapshot"].as_str().unwrap().to_owned(),
            entries.collect(),
        )
    });
    groups.collect()
}

/// Without what older versions do not tell.
fn paths(found: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let names = |(id, list): (String, BTreeMap<String, Value>)| (id, list.into_keys().collect());
    matches(found).into_iter().map(names).collect()
}

fn finds_the_same(version: &str) {
    let place = filled(version);
    let all = ids(&place.restic(&["snapshots", "--json"]).json());
    let mut most = 0;
    let few = if version == "1" { 6 } else { 99 };
    let file = format!("{}/f1", place.text("source"));
    let below = format!("{}/*/old", place.text("source"));
    let cases: [&[&str]; 21] = [
        &["logs"],
        &["**"],
        &["-i", "*.log"],
        &["a/b"],
        &["--tag", "t", "f*"],
        &["--oldest", "2001-01-01 00:00:00", "sub"],
        &["*.LOG"],
        &["*.log"],
        &["nothing"],
        &["f1", "same-*", "link"],
        &["logs/**/File-[0-1]*"],
        &["a/\\[x\\]*"],
        &["ü*"],
        &["--snapshot", &all[0], "*"],
        &["--host", "other", "f*"],
        &["--tag", "t,u", "f*"],
        &["--newest", "2001-01-01", "*"],
        &[&file],
        &[&below],
        &["/"],
        &["*/deeper"],
    ];
    for args in cases.into_iter().take(few) {
        let args = [&["find", "--json"], args].concat();
        let ours = place.ark(&args).ends(0).json();
        let new = place.newest_restic(&args).json();
        assert_eq!(matches(&ours), matches(&new), "{args:?}");
        assert_eq!(paths(&ours), paths(&place.restic(&args).json()), "{args:?}");
        most = most.max(matches(&ours).values().map(BTreeMap::len).sum());
    }
    assert!(most > 60, "{most}");
}

#[test]
fn entries_by_name() {
    finds_the_same("2");
}

#[test]
fn entries_by_name_in_an_old_repository() {
    finds_the_same("1");
}

/// Objects without the time, in some order.
fn objects(found: &Value) -> BTreeSet<BTreeSet<String>> {
    let list = found.as_array().unwrap().iter().map(|object| {
        let fields = object.as_object().unwrap().iter();
        let fields = fields.filter(|(name, _)| *name != "time");
        fields
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<BTreeSet<_>>()
    });
    list.collect()
}

#[test]
fn blobs_trees_and_packs() {
    let place = filled("2");
    let listed = place.restic(&["list", "blobs"]).out;
    let of = |kind: &str| -> Vec<&str> {
        let lines = listed.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(str::trim).take(12).collect()
    };
    let found = |args: &[&str]| {
        let args = [&["find", "--json"], args].concat();
        let ours = objects(&place.ark(&args).ends(0).json());
        (ours, objects(&place.newest_restic(&args).json()))
    };
    let data = of("data");
    assert!(data.len() > 5);
    let (ours, theirs) = found(&[&["--blob"], &data[..]].concat());
    assert!(ours.len() > data.len(), "{ours:?}");
    assert_eq!(ours, theirs);
    let (ours, theirs) = found(&["--blob", &data[0][..8]]);
    assert!(!ours.is_empty());
    assert_eq!(ours, theirs);
    for tree in of("tree") {
        let (ours, theirs) = found(&["--tree", tree]);
        // restic tells one place of each in each snapshot.
        assert!(
            !theirs.is_empty() && theirs.is_subset(&ours),
            "{ours:?} {theirs:?}"
        );
    }
    for pack in place.restic(&["list", "packs"]).out.lines() {
        let (ours, theirs) = found(&["--pack", pack]);
        assert!(theirs.is_subset(&ours), "{pack}");
        let blobs = |found: &BTreeSet<BTreeSet<String>>| {
            let found = found.iter();
            let found = found.filter(|object| object.contains(r#"object_type="blob""#));
            found.cloned().collect::<BTreeSet<_>>()
        };
        assert_eq!(blobs(&ours), blobs(&theirs), "{pack}");
    }
    let ran = place.ark(&["find", "--pack", "0123456789abcdef"]).ends(1);
    assert!(ran.err.contains("0123456789abcdef"), "{}", ran.err);
    for bad in [
        &["find"][..],
        &["find", "["],
        &["find", "--blob", "xyz"],
        &["find", "--blob", "--tree", "01234567"],
    ] {
        place.ark(bad).ends(1);
    }
}

#[test]
fn for_people_grouped_and_escaped() {
    let place = filled("2");
    fs::write(place.at("source/evil\u{1b}[2J\n.evil"), "x").unwrap();
    let id = place.backup();
    let said = place.ark(&["find", "*.evil", "f1"]).ends(0).out;
    let (first, rest) = said.split_once('\n').unwrap();
    assert!(
        first.starts_with(&format!("in snapshot {} of ", &id[..8])),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "{said}");
    assert!(rest.contains(r"evil\u{1b}[2J\n.evil"), "{said}");
    assert_eq!(said.matches("in snapshot ").count(), 5, "{said}");
    let long = place
        .ark(&["find", "--long", "--type", "l", "-s", "latest", "*"])
        .ends(0)
        .out;
    assert!(
        long.contains(" -> f1") && long.lines().count() == 2,
        "{long}"
    );
    let dirs = place
        .ark(&["find", "--json", "--type", "d", "*"])
        .ends(0)
        .json();
    let kinds = |entry: &Value| entry["type"] == "dir";
    assert!(
        matches(&dirs)
            .values()
            .flat_map(BTreeMap::values)
            .all(kinds)
    );
    assert!(place.ark(&["find", "nothing"]).ends(0).out.is_empty());
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let place = filled("2");
    let listed = place.restic(&["list", "packs"]).out;
    let whole = place.ark(&["find", "--json", "**"]).ends(0).json();
    let mut hurt = 0;
    for pack in listed.lines() {
        let path = place.at("repo/data").join(&pack[..2]).join(pack);
        let bytes = fs::read(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(&path, vec![0; bytes.len()]).unwrap();
        let ran = place.ark(&["find", "--json", "**"]);
        let rest = ran.json();
        if ran.code == Some(1) {
            hurt += 1;
            assert!(ran.err.contains("error: snapshot "), "{}", ran.err);
            assert!(matches(&rest) != matches(&whole));
            let stats = place.ark(&["stats"]).ends(1);
            assert!(stats.err.contains("error: "), "{}", stats.err);
        } else {
            // Only files' content is in it.
            assert_eq!(ran.code, Some(0), "{}", ran.err);
            assert_eq!(matches(&rest), matches(&whole));
            place.ark(&["stats"]).ends(0);
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(hurt > 0);
}
