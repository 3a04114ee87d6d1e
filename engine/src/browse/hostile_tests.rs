//! Repositories that no backup wrote: bombs, lies, and what cannot be read.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{FindNames, FindRequest, FindWhat, Found, dump_range, find};
use crate::{
    Cancel, Progress, Repository, Snapshot,
    crypto::Id,
    error::{Error, Result},
    format::snapshot::SnapshotFile,
    maintain::GroupBy,
    restore::forge::{Forge, file},
    stats::{StatsMode, StatsRequest, count, stats},
};

impl Forge {
    fn snapshot(&mut self, tree: &str, time: &str) -> String {
        let file = SnapshotFile {
            time: time.to_owned(),
            tree: tree.to_owned(),
            paths: vec!["/x".to_owned()],
            ..SnapshotFile::default()
        };
        self.runtime
            .block_on(self.repo.save_snapshot(&file))
            .unwrap()
    }
}

fn dir(name: &str, tree: &str) -> Value {
    json!({"name": name, "type": "dir", "mode": 0o755, "subtree": tree})
}

fn names(patterns: &[&str]) -> FindRequest {
    FindRequest {
        what: FindWhat::Names(FindNames {
            patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
            ..FindNames::default()
        }),
        ..FindRequest::default()
    }
}

/// Paths, and paths with problems.
type Told = (Vec<PathBuf>, Vec<(PathBuf, String)>);

fn found(repo: &Repository, request: &FindRequest) -> Result<Told> {
    let (mut paths, mut problems) = (Vec::new(), Vec::new());
    let report = find(repo, request, &Cancel::new(), &mut |_, found| {
        match found {
            Found::Problem { path, message } => problems.push((path, message)),
            Found::Entry { path, .. } | Found::Blob { path, .. } | Found::Tree { path, .. } => {
                paths.push(path);
            }
        }
        Ok(())
    })?;
    assert_eq!(
        (report.found, report.problems),
        (paths.len() as u64, problems.len() as u64)
    );
    Ok((paths, problems))
}

const DAY: &str = "2024-01-01T00:00:00Z";

/// Every directory twice in the one above: 2^60 paths, and 61 directories.
#[test]
fn a_directory_under_very_many_paths() {
    let mut forge = Forge::new();
    let blob = forge.blob("data", b"content");
    let mut tree = forge.tree(&json!([
        file("leaf", &[&blob]),
        {"name": "linked", "type": "file", "links": 2, "inode": 5, "device_id": 1, "size": 3, "content": []},
    ]));
    for _ in 0..60 {
        tree = forge.tree(&json!([dir("a", &tree), dir("b", &tree)]));
    }
    forge.publish();
    forge.snapshot(&tree, DAY);
    forge.snapshot(&tree, "2024-01-02T00:00:00Z");
    assert_eq!(
        found(&forge.repo, &names(&["nothing"])).unwrap(),
        (Vec::new(), Vec::new())
    );
    // So many paths, and each may fit in another way.
    let deep = format!("a/{}nothing", "*/".repeat(40));
    let refused = found(&forge.repo, &names(&[&deep]));
    assert!(
        matches!(refused, Err(Error::InvalidConfig { .. })),
        "{refused:?}"
    );
    let mut count_of = 0;
    let stopped = find(
        &forge.repo,
        &names(&["leaf"]),
        &Cancel::new(),
        &mut |_, _| {
            count_of += 1;
            if count_of == 1000 {
                Err(Error::Cancelled)
            } else {
                Ok(())
            }
        },
    );
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");

    let cancel = Cancel::new();
    let report = stats(
        &forge.repo,
        &StatsRequest::default(),
        GroupBy::default(),
        &cancel,
    )
    .unwrap();
    let [first, second] = &report.volumes[0].snapshots[..] else {
        panic!("{report:?}");
    };
    assert_eq!(report.problems, Vec::<String>::new());
    // 2^61 files and 2^61 - 2 directories; the one with several names counts once.
    assert_eq!((first.files, first.entries), (1 << 61, (1 << 62) - 2));
    assert_eq!((first.added.blobs, second.added.blobs), (62, 0));
    assert_eq!(
        (first.unique.blobs, report.volumes[0].unique.blobs),
        (0, 62)
    );
    assert_eq!(first.restored, 3);
    for mode in [
        StatsMode::RestoreSize,
        StatsMode::FilesByContents,
        StatsMode::BlobsPerFile,
        StatsMode::RawData,
    ] {
        let totals = count(&forge.repo, &StatsRequest::default(), mode, &cancel).unwrap();
        assert_eq!(
            (totals.snapshots, totals.problems),
            (2, Vec::new()),
            "{mode:?}"
        );
    }
}

#[test]
fn a_very_deep_tree_is_a_problem() {
    let mut forge = Forge::new();
    let mut tree = forge.tree(&json!([file("leaf", &[])]));
    for _ in 0..4200 {
        tree = forge.tree(&json!([dir("d", &tree)]));
    }
    forge.publish();
    forge.snapshot(&tree, DAY);
    let (paths, problems) = found(&forge.repo, &names(&["leaf", "nothing"])).unwrap();
    assert_eq!(paths, Vec::<PathBuf>::new());
    assert!(
        problems.len() == 1 && problems[0].1.contains("deeper than"),
        "{}",
        problems.len()
    );
    let report = stats(
        &forge.repo,
        &StatsRequest::default(),
        GroupBy::default(),
        &Cancel::new(),
    );
    assert_eq!(report.unwrap().volumes[0].snapshots[0].entries, 4201);
}

#[test]
fn what_makes_no_sense_is_told_in_each_snapshot() {
    let mut forge = Forge::new();
    let missing = Id::of(b"missing").to_string();
    let inside = forge.tree(&json!([file("wanted", &[&missing])]));
    let broken = forge.blob("tree", br#"{"nodes":[{"name":"wanted"},"#);
    let root = forge.tree(&json!([
        {"name": 7},
        {"name": "nowhere", "type": "dir"},
        {"name": "..", "type": "file"},
        {"name": "a/b", "type": "file"},
        {"name": "wanted", "type": "file", "uid": -1},
        dir("broken", &broken),
        dir("good", &inside),
        dir("missing", &missing),
        file("wanted", &[]),
    ]));
    forge.publish();
    forge.snapshot(&root, DAY);
    forge.snapshot(&root, "2024-01-02T00:00:00Z");
    let (paths, problems) = found(&forge.repo, &names(&["wanted"])).unwrap();
    let once = [PathBuf::from("/good/wanted"), PathBuf::from("/wanted")];
    assert_eq!(paths, [&once[..], &once[..]].concat());
    let (first, second) = problems.split_at(problems.len() / 2);
    assert_eq!(first, second);
    let places: Vec<_> = first
        .iter()
        .map(|(path, _)| path.to_str().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "/?", "/nowhere", "/..", "/a\\x2fb", "/wanted", "/broken", "/missing"
        ]
    );

    let report = stats(
        &forge.repo,
        &StatsRequest::default(),
        GroupBy::default(),
        &Cancel::new(),
    )
    .unwrap();
    assert!(report.problems.len() >= 5, "{:?}", report.problems);
    for mode in [
        StatsMode::RestoreSize,
        StatsMode::FilesByContents,
        StatsMode::BlobsPerFile,
        StatsMode::RawData,
    ] {
        let totals = count(&forge.repo, &StatsRequest::default(), mode, &Cancel::new()).unwrap();
        assert!(!totals.problems.is_empty(), "{mode:?}");
    }
}

/// With hardly any memory the same is found, by reading again; with less it is an error that says
/// how much would do.
#[test]
fn little_memory() {
    let mut forge = Forge::new();
    let nodes: Vec<_> = (0..1000)
        .map(|n| file(&format!("{n:0200}-wanted"), &[]))
        .collect();
    let mut dirs = Vec::new();
    for n in 0..100 {
        let mut nodes = nodes.clone();
        nodes.push(file(&format!("only-{n}"), &[]));
        let tree = forge.tree(&Value::Array(nodes));
        dirs.push(dir(&format!("{n:03}"), &tree));
    }
    let root = forge.tree(&Value::Array(dirs));
    forge.publish();
    forge.snapshot(&root, DAY);
    let request = |memory| FindRequest {
        memory,
        ..names(&["*-wanted"])
    };
    let all = found(&forge.repo, &request(1 << 30)).unwrap();
    assert_eq!((all.0.len(), all.1.len()), (100_000, 0));
    assert!(found(&forge.repo, &request(100 << 20)).unwrap() == all);
    match found(&forge.repo, &request(1 << 20)) {
        Err(Error::MemoryLimit { needed, limit, .. }) => {
            assert!(needed > limit);
            assert!(found(&forge.repo, &request(needed)).unwrap() == all);
        }
        other => panic!("{}", other.is_ok()),
    }
    let request = StatsRequest {
        memory: 1 << 20,
        ..StatsRequest::default()
    };
    let short = stats(&forge.repo, &request, GroupBy::default(), &Cancel::new());
    assert!(matches!(short, Err(Error::MemoryLimit { .. })), "{short:?}");
}

/// Blobs of files are read again where they cannot be kept.
#[test]
fn statistics_in_little_memory() {
    let mut forge = Forge::new();
    let blobs: Vec<_> = (0..50_u32)
        .map(|n| forge.blob("data", &n.to_be_bytes()))
        .collect();
    let many: Vec<&str> = (0..40_000).map(|n| blobs[n % 50].as_str()).collect();
    let mut dirs = Vec::new();
    for n in 0..40 {
        let tree = forge.tree(&json!([file(&format!("{n}"), &many)]));
        dirs.push(dir(&format!("{n:03}"), &tree));
    }
    let root = forge.tree(&Value::Array(dirs));
    forge.publish();
    forge.snapshot(&root, DAY);
    let of = |memory| {
        let request = StatsRequest {
            memory,
            ..StatsRequest::default()
        };
        stats(&forge.repo, &request, GroupBy::default(), &Cancel::new()).unwrap()
    };
    let (rich, poor) = (of(256 << 20), of(102 << 20));
    assert_eq!(rich.repository, poor.repository);
    assert_eq!(rich.repository.needed.blobs, 91);
    assert_eq!(
        rich.volumes[0].snapshots[0].unique,
        poor.volumes[0].snapshots[0].unique
    );
}

#[test]
fn a_cancelled_search_ends() {
    let mut forge = Forge::new();
    let root = forge.tree(&json!([file("wanted", &[])]));
    forge.publish();
    forge.snapshot(&root, DAY);
    let cancel = Cancel::new();
    cancel.cancel();
    let done = find(
        &forge.repo,
        &names(&["wanted"]),
        &cancel,
        &mut |_, _| Ok(()),
    );
    assert!(matches!(done, Err(Error::Cancelled)), "{done:?}");
    let done = stats(
        &forge.repo,
        &StatsRequest::default(),
        GroupBy::default(),
        &cancel,
    );
    assert!(matches!(done, Err(Error::Cancelled)), "{done:?}");
}

/// The index says how long a blob is: where it lies, no byte comes out at a wrong place.
#[test]
fn a_range_of_a_file_whose_blobs_lie() {
    let mut forge = Forge::new();
    let good = forge.blob("data", b"0123456789");
    let frame = zstd::bulk::compress(b"abcdefghij", 1).unwrap();
    let liar = Id::of(b"abcdefghij").to_string();
    forge.blob_named("data", &liar, &frame, Some(20));
    let missing = Id::of(b"missing").to_string();
    let root = forge.tree(&json!([
        file("good", &[&good, &good, &good]),
        file("liar", &[&good, &liar, &good]),
        file("missing", &[&good, &missing]),
        dir("dir", &good),
    ]));
    forge.publish();
    let id = forge.snapshot(&root, DAY);
    let snapshot: Snapshot = forge.repo.find_snapshot(&id).unwrap();
    let read = |path: &str, range: (u64, u64)| -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let progress = Progress::new();
        dump_range(
            &forge.repo,
            &snapshot,
            path.as_ref(),
            range,
            &mut out,
            &progress,
            &Cancel::new(),
        )?;
        Ok(out)
    };
    assert_eq!(read("/good", (8, 14)).unwrap(), b"89012345678901");
    assert_eq!(read("/good", (29, u64::MAX)).unwrap(), b"9");
    assert_eq!(read("/good", (30, 1)).unwrap(), b"");
    assert_eq!(read("/good", (u64::MAX, u64::MAX)).unwrap(), b"");
    assert_eq!(read("/liar", (0, 10)).unwrap(), b"0123456789");
    assert!(matches!(read("/liar", (10, 1)), Err(Error::Damaged { .. })));
    assert!(matches!(
        read("/missing", (0, 11)),
        Err(Error::Damaged { .. })
    ));
    assert!(matches!(
        read("/dir", (0, 1)),
        Err(Error::InvalidConfig { .. })
    ));
    assert!(matches!(
        read("/none", (0, 1)),
        Err(Error::PathNotFound { .. })
    ));
}
