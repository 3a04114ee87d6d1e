//! What is kept, and why.

use jiff::tz::Offset;

use super::*;

fn snapshot(time: &str, tags: &[&str]) -> Snapshot {
    Snapshot {
        id: format!("{:0>64}", hex::encode(time.as_bytes())),
        time: time.parse().unwrap(),
        offset: crate::format::time::offset(time),
        hostname: "h".to_owned(),
        username: "u".to_owned(),
        uid: 0,
        gid: 0,
        paths: vec!["/p".to_owned()],
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        excludes: Vec::new(),
        original: None,
        tree: String::new(),
        parent: None,
        program_version: String::new(),
        summary: None,
        coverage: crate::Coverage::default(),
        synced: None,
    }
}

fn snapshots(times: &[&str]) -> Vec<Snapshot> {
    times.iter().map(|time| snapshot(time, &[])).collect()
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

/// `time: reason, reason` of what is kept.
fn kept(policy: &KeepPolicy, list: &[Snapshot]) -> Vec<String> {
    let decision = apply(policy, list, now());
    assert_eq!(decision.keep.len() + decision.remove.len(), list.len());
    let show = |kept: &Kept| format!("{}: {}", kept.snapshot.time, kept.reasons.join(", "));
    decision.keep.iter().map(show).collect()
}

#[test]
fn the_last_ones() {
    let list = snapshots(&[
        "2026-01-01T00:00:00Z",
        "2026-01-03T00:00:00Z",
        "2026-01-02T00:00:00Z",
    ]);
    let mut policy = KeepPolicy::default();
    policy.counts.last = Keep::Count(2);
    assert_eq!(
        kept(&policy, &list),
        [
            "2026-01-03T00:00:00Z: last snapshot",
            "2026-01-02T00:00:00Z: last snapshot"
        ]
    );
    policy.counts.last = Keep::All;
    assert_eq!(kept(&policy, &list).len(), 3);
    assert!(kept(&KeepPolicy::default(), &list).is_empty());
    assert!(apply(&policy, &[], now()).keep.is_empty());
}

#[test]
fn the_last_of_each_day_and_the_oldest_while_numbers_are_left() {
    let list = snapshots(&[
        "2026-01-03T10:00:00Z",
        "2026-01-03T09:00:00Z",
        "2026-01-02T10:00:00Z",
        "2026-01-02T09:00:00Z",
    ]);
    let mut policy = KeepPolicy::default();
    policy.counts.daily = Keep::Count(2);
    assert_eq!(
        kept(&policy, &list),
        [
            "2026-01-03T10:00:00Z: daily snapshot",
            "2026-01-02T10:00:00Z: daily snapshot"
        ]
    );
    policy.counts.daily = Keep::Count(3);
    assert_eq!(
        kept(&policy, &list)[2],
        "2026-01-02T09:00:00Z: oldest daily snapshot"
    );
}

#[test]
fn days_are_those_of_the_machine() {
    // One day in UTC, two where they were taken.
    let list = snapshots(&["2026-01-01T01:00:00+09:00", "2025-12-31T14:00:00Z"]);
    assert_eq!(list[0].offset, Offset::from_hours(9).unwrap());
    let mut policy = KeepPolicy::default();
    policy.counts.daily = Keep::Count(5);
    assert_eq!(
        kept(&policy, &list),
        [
            "2025-12-31T16:00:00Z: daily snapshot",
            "2025-12-31T14:00:00Z: daily snapshot"
        ]
    );
}

#[test]
fn weeks_are_those_of_iso_8601() {
    // Thursday and Friday of week 53 of 2020, and Monday of week 1.
    let list = snapshots(&[
        "2020-12-30T00:00:00Z",
        "2020-12-31T00:00:00Z",
        "2021-01-01T00:00:00Z",
        "2021-01-04T00:00:00Z",
    ]);
    let mut policy = KeepPolicy::default();
    policy.counts.weekly = Keep::Count(2);
    assert_eq!(
        kept(&policy, &list),
        [
            "2021-01-04T00:00:00Z: weekly snapshot",
            "2021-01-01T00:00:00Z: weekly snapshot"
        ]
    );
}

#[test]
fn within_counts_from_the_newest_that_is_not_of_the_future() {
    let list = snapshots(&[
        "2027-01-01T00:00:00Z",
        "2026-03-31T12:00:00Z",
        "2026-03-10T12:00:00Z",
        "2026-03-03T12:00:00Z",
    ]);
    let policy = KeepPolicy {
        within: "1m".parse().unwrap(),
        ..KeepPolicy::default()
    };
    // A month before the 31st of March is the 3rd; exactly then is too old.
    assert_eq!(
        kept(&policy, &list),
        [
            "2027-01-01T00:00:00Z: within 1m",
            "2026-03-31T12:00:00Z: within 1m",
            "2026-03-10T12:00:00Z: within 1m"
        ]
    );
    let policy = KeepPolicy {
        within_monthly: "1m".parse().unwrap(),
        ..KeepPolicy::default()
    };
    assert_eq!(
        kept(&policy, &list),
        [
            "2027-01-01T00:00:00Z: monthly within 1m",
            "2026-03-31T12:00:00Z: monthly within 1m"
        ]
    );
}

#[test]
fn tags_are_not_counted() {
    let list = [
        snapshot("2026-01-01T00:00:00Z", &["a", "b"]),
        snapshot("2026-01-02T00:00:00Z", &["a"]),
        snapshot("2026-01-03T00:00:00Z", &[]),
    ];
    let tags = |lists: &[&[&str]]| KeepPolicy {
        tags: lists
            .iter()
            .map(|list| list.iter().map(|tag| (*tag).to_owned()).collect())
            .collect(),
        ..KeepPolicy::default()
    };
    assert_eq!(
        kept(&tags(&[&["a", "b"]]), &list),
        ["2026-01-01T00:00:00Z: has tags [a, b]"]
    );
    assert_eq!(kept(&tags(&[&["a"], &["c"]]), &list).len(), 2);
    assert_eq!(
        kept(&tags(&[&[""]]), &list),
        ["2026-01-03T00:00:00Z: has tags []"]
    );
}

#[test]
fn what_is_left_is_told() {
    let list = snapshots(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
    let mut policy = KeepPolicy::default();
    policy.counts.daily = Keep::Count(5);
    policy.counts.yearly = Keep::All;
    let decision = apply(&policy, &list, now());
    assert_eq!(decision.keep[0].left.daily.number(), 4);
    assert_eq!(decision.keep[1].left.daily.number(), 3);
    assert_eq!(decision.keep[0].left.yearly.number(), -1);
}

#[test]
fn tags_of_the_root_directory_do_not_divide() {
    let roots = ["ark.root=0755:0:0:1", "ark.root=0755:0:0:2"];
    let list = roots.map(|root| snapshot("2026-01-01T00:00:00Z", &["x", root]));
    let groups = super::super::group::group(list.to_vec(), "tags".parse().unwrap());
    let tags: Vec<_> = groups.into_keys().map(|key| key.tags).collect();
    assert_eq!(tags, [["x"]]);
}
