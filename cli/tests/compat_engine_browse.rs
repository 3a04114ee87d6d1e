//! `ark engine find`, `stats` and parts of files beside stock restic, in repositories that both wrote to: the same is found,
//! and the same is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use engine_harness::{Place, Ran, ids, noise};
use serde_json::Value;

/// The newest restic.
fn newest() -> PathBuf {
    if let Some(path) = std::env::var_os("ARK_TEST_RESTIC") {
        return path.into();
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache = Path::new(&home).join(".cache/ark/restic");
    let versions = fs::read_dir(&cache).into_iter().flatten();
    let programs = versions.map(|version| version.unwrap().path().join("restic"));
    programs
        .filter(|program| program.is_file())
        .max()
        .expect("no new restic: set ARK_TEST_RESTIC, or have cargo xtask test build it")
}

fn new_restic(place: &Place, args: &[&str]) -> Ran {
    let old = place.restic_command(args);
    let mut command = Command::new(newest());
    command.args(old.get_args()).current_dir(place.at("."));
    for (name, value) in old.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ran::of(command.stdin(Stdio::null()).output().unwrap()).ends(0)
}

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
        let new = new_restic(&place, &args).json();
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
        (ours, objects(&new_restic(&place, &args).json()))
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

const MODES: [&str; 4] = [
    "restore-size",
    "files-by-contents",
    "blobs-per-file",
    "raw-data",
];

/// Whether two numbers are the same but for the last digits.
fn same(a: &Value, b: &Value) -> bool {
    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
    (a - b).abs() <= a.abs() * 1e-12
}

fn counts_the_same(version: &str) {
    let place = filled(version);
    let all = ids(&place.restic(&["snapshots", "--json"]).json());
    let which: &[&[&str]] = match version {
        "1" => &[&[], &["latest"]],
        _ => &[&[], &["latest"], &[&all[0], &all[1]], &["--host", "other"]],
    };
    for mode in MODES {
        for which in which {
            // Where content is met first is for restic's order of snapshots to decide.
            if mode == "blobs-per-file" && which.len() != 1 && which.first() != Some(&"--host") {
                continue;
            }
            let args = [&["stats", "--json", "--mode", mode], &which[..]].concat();
            let ours = place.ark(&args).ends(0).json();
            let new = new_restic(&place, &args).json();
            let (ours, new) = (ours.as_object().unwrap(), new.as_object().unwrap());
            let keys =
                |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(ours), keys(new), "{args:?}");
            for (key, value) in new {
                assert!(
                    same(&ours[key], value),
                    "{args:?} {key}: {} {value}",
                    ours[key]
                );
            }
            let old = place.restic(&args).json();
            for (key, value) in old.as_object().unwrap() {
                // It also tells what it did not count.
                let mine = ours.get(key).cloned().unwrap_or(Value::from(0));
                assert!(same(&mine, value), "{args:?} {key}: {mine} {value}");
            }
        }
        assert!(
            place
                .ark(&["stats", "--mode", mode])
                .ends(0)
                .out
                .contains("size: ")
        );
    }
}

#[test]
fn numbers_in_all_modes() {
    counts_the_same("2");
}

#[test]
fn numbers_in_an_old_repository() {
    counts_the_same("1");
}

/// What is said to be freed is what becomes unused.
#[test]
fn what_each_snapshot_adds_and_frees() {
    let place = filled("2");
    let ours = || place.ark(&["stats", "--json"]).ends(0).json();
    let theirs = |mode: &str| new_restic(&place, &["stats", "--json", "--mode", mode]).json();
    let number = |value: &Value| value.as_u64().unwrap();
    let before = ours();
    assert_eq!(before["total_size"], theirs("restore-size")["total_size"]);
    assert_eq!(
        before["total_file_count"],
        theirs("restore-size")["total_file_count"]
    );
    let needed = &before["repository"]["needed"];
    assert_eq!(needed["bytes"], theirs("raw-data")["total_size"]);
    assert_eq!(needed["blobs"], theirs("raw-data")["total_blob_count"]);
    assert_eq!(before["repository"]["unused"]["bytes"], 0);
    let volumes = before["volumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 2, "{before}");
    let snapshots: Vec<_> = volumes
        .iter()
        .flat_map(|volume| volume["snapshots"].as_array().unwrap())
        .collect();
    assert_eq!(snapshots.len(), 4);
    let added: u64 = snapshots
        .iter()
        .map(|snapshot| number(&snapshot["added"]["bytes"]))
        .sum();
    assert_eq!(added, number(&needed["bytes"]));
    let of_volumes: u64 = volumes
        .iter()
        .map(|volume| number(&volume["added"]["bytes"]))
        .sum();
    assert_eq!(added, of_volumes);

    let last = volumes
        .iter()
        .find(|volume| volume["host"] == "other")
        .unwrap();
    let others: Vec<_> = volumes
        .iter()
        .filter(|volume| volume["host"] != "other")
        .collect();
    let freed = number(&last["unique"]["bytes"]);
    assert!(freed > 0 && freed == number(&last["snapshots"][0]["unique"]["bytes"]));
    // One of a volume that stays, and all of another.
    for (id, unique) in [
        (&last["snapshots"][0]["id"], freed),
        (&others[0]["snapshots"][0]["id"], 0),
    ] {
        let now = ours();
        let snapshots: Vec<&Value> = now["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|v| v["snapshots"].as_array().unwrap())
            .collect();
        let mine = snapshots
            .iter()
            .find(|snapshot| snapshot["id"] == *id)
            .unwrap();
        let said = number(&mine["unique"]["bytes"]);
        assert!(unique == 0 || said == unique);
        assert!(said > 0);
        let unused = number(&now["repository"]["unused"]["bytes"]);
        place.ark(&["forget", id.as_str().unwrap()]).ends(0);
        assert_eq!(
            number(&ours()["repository"]["unused"]["bytes"]),
            unused + said
        );
    }
    place.ark(&["prune", "--max-unused", "0%"]).ends(0);
    let after = ours();
    assert_eq!(after["repository"]["unused"]["bytes"], 0);
    assert_eq!(
        after["repository"]["indexed"],
        after["repository"]["needed"]
    );
    let said = place.ark(&["stats"]).ends(0).out;
    assert!(
        said.contains("UNIQUE") && said.contains("deduplicated"),
        "{said}"
    );
    // Only some are shown, and what is said of them stays.
    let one = after["volumes"][0]["snapshots"][0].clone();
    let shown = place
        .ark(&["stats", "--json", one["id"].as_str().unwrap()])
        .ends(0)
        .json();
    assert_eq!(shown["volumes"][0]["snapshots"], serde_json::json!([one]));
    assert_eq!(shown["snapshots_count"], 1);
}

#[test]
fn a_part_of_a_file() {
    let place = filled("2");
    let file = place.text("source/same-1");
    let whole = fs::read(&file).unwrap();
    let size = whole.len();
    let cut = |offset: usize, length: usize| {
        let from = offset.min(size);
        &whole[from..from.saturating_add(length).min(size)]
    };
    for (offset, length) in [
        (0, size),
        (0, 1),
        (1 << 20, 1 << 20),
        (1_234_567, 1_000_001),
        (size - 1, 1),
        (size - 1, 100),
        (size, 1),
        (size + 5, 10),
        (100, 0),
        (0, usize::MAX >> 1),
    ] {
        let (from, long) = (offset.to_string(), length.to_string());
        let ran = place
            .ark(&[
                "dump", "latest", &file, "--offset", &from, "--length", &long,
            ])
            .ends(0);
        assert!(ran.raw == cut(offset, length), "{offset} {length}");
    }
    let rest = place
        .ark(&["dump", "latest", &file, "--offset", "3M"])
        .ends(0)
        .raw;
    assert!(rest == cut(3 << 20, size));
    let dir = place.text("source");
    let ran = place
        .ark(&["dump", "latest", &dir, "--offset", "0"])
        .ends(1);
    assert!(ran.err.contains("only files have ranges"), "{}", ran.err);
    place
        .ark(&["dump", "latest", "/nothing", "--length", "1"])
        .ends(1);
}
