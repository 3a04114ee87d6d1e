//! Numbers of repositories and snapshots, and parts of files.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{engine_harness::ids, filled};

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
            let new = place.newest_restic(&args).json();
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
    let theirs = |mode: &str| {
        place
            .newest_restic(&["stats", "--json", "--mode", mode])
            .json()
    };
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
