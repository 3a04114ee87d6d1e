//! Forgetting and pruning, beside stock restic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;

use std::{collections::BTreeMap, fs, path::PathBuf};

use engine_harness::{Place, Ran, files, ids};
use serde_json::Value;

/// Snapshots of years, days and hours, of two hosts, some with tags, some taken elsewhere on earth.
fn history(place: &Place) {
    place.fill(1);
    let source = place.text("source");
    let command = |zone: &str, time: &str, more: &[&str]| {
        let mut restic = place.restic_command(&["backup", "-q", "--time", time, &source]);
        Ran::of(restic.args(more).env("TZ", zone).output().unwrap()).ends(0);
    };
    for (n, time) in (0..).zip([
        "2023-12-31 23:30:00",
        "2024-01-01 00:30:00",
        "2024-02-29 12:00:00",
        "2024-12-29 10:00:00",
        "2024-12-30 10:00:00",
        "2025-01-01 10:00:00",
        "2025-01-31 10:00:00",
        "2025-02-28 10:00:00",
        "2025-03-01 10:00:00",
        "2025-03-30 23:10:00",
        "2025-03-31 01:00:00",
        "2025-03-31 01:40:00",
        "2025-03-31 02:00:00",
    ]) {
        let tags: &[&str] = match n % 4 {
            0 => &["--tag", "a,b"],
            1 => &["--tag", "a"],
            _ => &[],
        };
        let zone = ["UTC", "Asia/Tokyo", "America/New_York"][n % 3];
        command(zone, time, &[tags, &["--host", "one"]].concat());
        if n % 3 == 0 {
            command("UTC", time, &["--host", "two"]);
        }
    }
    // From the future: it does not count as the newest.
    command("UTC", "2091-01-01 00:00:00", &["--host", "two"]);
}

type Group = (Value, Value, Value);

/// Groups, each with its snapshots from the newest, and why they are kept (nothing: they are not).
fn decided(forget: &Ran) -> BTreeMap<String, Vec<(String, Vec<String>)>> {
    let mut groups = BTreeMap::new();
    for group in forget.json().as_array().unwrap() {
        let key: Group = (
            group["host"].clone(),
            group["paths"].clone(),
            group["tags"].clone(),
        );
        let mut all = Vec::new();
        let empty = Vec::new();
        let list = |name: &str| group[name].as_array().unwrap_or(&empty).clone();
        for (kept, reason) in list("keep").iter().zip(&list("reasons")) {
            assert_eq!(kept["time"], reason["snapshot"]["time"]);
            let matches = reason["matches"].as_array().unwrap();
            let matches = matches
                .iter()
                .map(|m| m.as_str().unwrap().to_owned())
                .collect();
            all.push((kept["time"].as_str().unwrap().to_owned(), matches));
        }
        for removed in list("remove") {
            all.push((removed["time"].as_str().unwrap().to_owned(), Vec::new()));
        }
        all.sort_by_key(|(time, _)| std::cmp::Reverse(time.parse::<jiff::Timestamp>().unwrap()));
        groups.insert(format!("{key:?}"), all);
    }
    groups
}

/// Compares our decision with restic's. Of the oldest snapshot of a group, versions of restic differ in whether
/// it is kept while a rule has numbers left: where restic keeps it, we must.
#[track_caller]
fn same_decision(place: &Place, rules: &[&str]) {
    let args = [
        &["forget", "--dry-run", "--json", "--unsafe-allow-remove-all"],
        rules,
    ]
    .concat();
    let ours = decided(&place.ark(&args).ends(0));
    let args = [&["forget", "--dry-run", "--json"], rules].concat();
    let theirs = decided(&place.restic(&args));
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>(),
        "{rules:?}"
    );
    for (key, ours) in &ours {
        let theirs = &theirs[key];
        let (oldest, newer) = ours.split_last().unwrap();
        let (their_oldest, their_newer) = theirs.split_last().unwrap();
        assert_eq!(newer, their_newer, "{rules:?} {key}");
        assert_eq!(oldest.0, their_oldest.0);
        assert!(
            !oldest.1.is_empty() || their_oldest.1.is_empty(),
            "{rules:?} {key}"
        );
    }
}

#[test]
fn rules_keep_what_restic_keeps_for_the_same_reasons() {
    let place = Place::with_repository();
    history(&place);
    for rules in [
        &["--keep-last", "3"][..],
        &["--keep-hourly", "4"],
        &["--keep-daily", "3"],
        &["--keep-weekly", "4"],
        &["--keep-monthly", "3"],
        &["--keep-yearly", "2"],
        &[
            "--keep-last",
            "1",
            "--keep-daily",
            "2",
            "--keep-weekly",
            "3",
            "--keep-monthly",
            "4",
            "--keep-yearly",
            "9",
        ],
        &["--keep-within", "1m"],
        &["--keep-within", "2h"],
        &["--keep-within", "1y1m1d1h"],
        &["--keep-within-hourly", "3d"],
        &["--keep-within-daily", "3m"],
        &["--keep-within-weekly", "1y"],
        &["--keep-within-monthly", "2y"],
        &["--keep-within-yearly", "5y"],
        &[
            "--keep-within",
            "1d",
            "--keep-within-monthly",
            "1y",
            "--keep-daily",
            "2",
        ],
        &["--keep-tag", "a"],
        &["--keep-tag", "a,b"],
        &["--keep-tag", "b", "--keep-tag", "c", "--keep-last", "1"],
        &["--keep-last", "2", "--host", "two"],
        &["--keep-daily", "2", "--tag", "a"],
        &["--keep-last", "1", "--group-by", "host"],
        &["--keep-last", "1", "--group-by", "tags"],
        &["--keep-monthly", "2", "--group-by", ""],
        &["--keep-yearly", "2", "--group-by", "paths,tags"],
    ] {
        same_decision(&place, rules);
    }
}

#[test]
fn forgotten_snapshots_are_gone_for_both() {
    let place = Place::with_repository();
    history(&place);
    let list = || place.restic(&["snapshots", "--json"]).json();
    let before = ids(&list());
    let rules = ["forget", "--keep-last", "2", "--json"];
    let dry = place
        .ark(&[&rules[..], &["--dry-run"]].concat())
        .ends(0)
        .json();
    assert_eq!(ids(&list()), before);
    place.ark(&rules).ends(0);
    let after = ids(&list());
    let mut kept: Vec<String> = Vec::new();
    for group in dry.as_array().unwrap() {
        kept.extend(ids(&group["keep"]));
    }
    kept.sort();
    assert_eq!(after, kept);
    assert_eq!(
        ids(&place.ark(&["snapshots", "--json"]).ends(0).json()),
        after
    );
    // By the beginning of an id.
    place.ark(&["forget", &after[0][..10]]).ends(0);
    assert_eq!(ids(&list()), after[1..]);
    assert!(place.locks().is_empty());
}

#[test]
fn nothing_is_forgotten_by_mistake() {
    let place = Place::with_repository();
    history(&place);
    let before = ids(&place.restic(&["snapshots", "--json"]).json());
    for (args, said) in [
        (&["forget"][..], "no rule"),
        (&["forget", "--keep-last", "0"], "no rule"),
        (&["forget", "--keep-last", "1", &before[0]], "together"),
        (&["forget", "zzzz"], "zzzz"),
        (&["forget", &before[0], "zzzz"], "zzzz"),
        (&["forget", "latest"], "latest"),
        (
            &["forget", "--keep-tag", "nobody-has-this"],
            "would remove all",
        ),
        (&["forget", "--keep-last", "x"], "--keep-last"),
        (&["forget", "--keep-within", "5x"], "1y5m7d2h"),
    ] {
        let ran = place.ark(args).ends(1);
        assert!(ran.err.contains(said), "{args:?}: {}", ran.err);
    }
    assert_eq!(ids(&place.restic(&["snapshots", "--json"]).json()), before);
}

fn size(place: &Place) -> u64 {
    let size = |file: &PathBuf| fs::metadata(file).unwrap().len();
    files(&place.at("repo/data")).iter().map(size).sum()
}

#[test]
fn space_is_freed_and_the_rest_stays_whole() {
    for version in ["1", "2"] {
        let place = Place::new();
        place.restic(&["init", "--repository-version", version]);
        place.fill(1);
        place.backup();
        // Half of what the first snapshot has is in use afterwards, so that packs are written anew.
        fs::write(place.at("source/f3"), engine_harness::noise(9, 9, 4 << 20)).unwrap();
        place.restic(&["backup", "-q", &place.text("source")]);
        fs::write(place.at("source/f2"), engine_harness::noise(8, 8, 1 << 20)).unwrap();
        place.backup();
        let before = size(&place);
        let dry = place
            .ark(&[
                "forget",
                "--keep-last",
                "1",
                "--prune",
                "--dry-run",
                "--json",
            ])
            .ends(0);
        assert_eq!(size(&place), before);
        let plan = &dry.lines()[1];
        assert!(
            plan["deleted_bytes"].as_u64().unwrap()
                + plan["repack_dropped_bytes"].as_u64().unwrap()
                > 3 << 20,
            "{plan}"
        );
        place.ark(&["forget", "--keep-last", "1"]).ends(0);
        assert_eq!(size(&place), before);
        let done = place.ark(&["prune", "--max-unused", "0", "--json"]).ends(0);
        let report = done.lines().pop().unwrap();
        assert_eq!(report["unused_bytes"], 0, "{report}");
        assert!(
            size(&place) < before - (3 << 20),
            "{} {before}",
            size(&place)
        );
        place.restic(&["check", "--read-data"]);
        place.ark(&["check", "--read-data"]).ends(0);
        place.restic(&["restore", "latest", "--target", &place.text("target")]);
        place.assert_restored("target");
        // Nothing is left to do for either.
        let left = size(&place);
        place.ark(&["prune", "--max-unused", "0"]).ends(0);
        place.restic(&["prune", "--max-unused", "0"]);
        assert_eq!(size(&place), left);
        // And the other way round: what restic leaves is whole for us.
        place.fill(3);
        place.backup();
        place.restic(&["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]);
        place.ark(&["check", "--read-data"]).ends(0);
        place
            .ark(&["restore", "latest", "--target", &place.text("again")])
            .ends(0);
        place.assert_restored("again");
    }
}

#[test]
fn what_is_missing_already_stops_a_prune_before_it_removes() {
    let place = Place::with_repository();
    place.fill(1);
    let first = place.backup();
    place.fill(2);
    place.backup();
    place.ark(&["forget", &first]).ends(0);
    // Directories of the snapshot that stays cannot be read any more.
    let packs = files(&place.at("repo/data"));
    let smallest = packs
        .iter()
        .min_by_key(|file| fs::metadata(file).unwrap().len());
    for pack in files(&place.at("repo/data")) {
        if fs::metadata(&pack).unwrap().len() < 100 << 10 {
            fs::remove_file(&pack).unwrap();
        }
    }
    assert!(!smallest.unwrap().exists());
    let before = files(&place.at("repo"));
    place.ark(&["prune", "--max-unused", "0"]).ends(1);
    let after = files(&place.at("repo"));
    assert!(before.iter().all(|file| after.contains(file)));
}
