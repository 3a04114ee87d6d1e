//! Broken repositories, mended by the engine and by stock restic: both make the same of every
//! snapshot, restic's check finds nothing wrong afterwards, and where nothing is broken nothing
//! changes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;
#[path = "../src/crypto.rs"]
#[allow(dead_code, reason = "the tests use a part of it")]
mod crypto;
#[path = "compat_check/forge.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use a part of it")]
mod forge;
#[path = "compat_repair/forged.rs"]
mod forged;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use ark_engine::{
    Cancel, FormatVersion, Progress, Repository,
    maintain::{
        Loss, Mending, RepairSnapshotsReport, RepairSnapshotsRequest, repair_index,
        repair_snapshots,
    },
};
use common::{Bench, PASSWORD, files, restic::Restic, trees, written::VERSIONS};
use serde_json::Value;

/// A repository of both programs, and the packs that each backup wrote: the smallest first, which
/// is that of directories.
struct Base {
    bench: Bench,
    packs: Vec<Vec<PathBuf>>,
}

impl Base {
    fn new(version: FormatVersion) -> Self {
        let bench = Bench::in_memory();
        let repo = bench.init_version(version);
        let restic = Restic::newest(&bench.repo_dir());
        let source = bench.source();
        trees::everything(&source);
        // Beyond restic before 0.16.
        fs::remove_file(source.join("raw link")).unwrap();
        let mut packs = Vec::new();
        let mut known: BTreeSet<PathBuf> = BTreeSet::new();
        for round in 0..4 {
            trees::plain(&source.join(format!("round{round}/sub")), 9, 20_000 + round);
            fs::write(source.join("changes"), trees::noise(round as u64, 3 << 20)).unwrap();
            if round % 2 == 0 {
                bench.archive(&repo);
            } else {
                restic.run(&["backup", "-q", "--tag", "t,u", source.to_str().unwrap()]);
            }
            let all: BTreeSet<PathBuf> =
                files(&bench.repo_dir().join("data")).into_iter().collect();
            let mut new: Vec<PathBuf> = all.difference(&known).cloned().collect();
            new.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
            assert!(new.len() >= 2, "{new:?}");
            let within = |pack: &PathBuf| pack.strip_prefix(bench.repo_dir()).unwrap().to_owned();
            packs.push(new.iter().map(within).collect());
            known = all;
        }
        Self { bench, packs }
    }

    fn trees(&self, round: usize) -> Vec<PathBuf> {
        vec![self.packs[round].first().unwrap().clone()]
    }

    fn data(&self, round: usize) -> Vec<PathBuf> {
        self.packs[round][1..].to_vec()
    }

    fn open(&self, root: &Path) -> Repository {
        let handle = self.bench.runtime.handle();
        common::killed::open(root, None, PASSWORD, handle).unwrap()
    }

    /// A copy without these packs.
    fn without(&self, name: &str, gone: &[PathBuf]) -> PathBuf {
        let root = self.bench.dir.path().join(name);
        common::points::copy(&self.bench.repo_dir(), &root);
        for pack in gone {
            fs::remove_file(root.join(pack)).unwrap();
        }
        root
    }
}

fn repair(repo: &Repository, forget: bool) -> RepairSnapshotsReport {
    let request = RepairSnapshotsRequest {
        forget,
        ..RepairSnapshotsRequest::new(repo.snapshots().unwrap())
    };
    repair_snapshots(repo, &request, &Progress::new(), &Cancel::new()).unwrap()
}

/// All snapshots as stored, without what is new each time.
fn documents(restic: &Restic) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&restic.run(&["snapshots", "--json"])).unwrap();
    let mut documents: Vec<Value> = listed.as_array().unwrap().clone();
    for document in &mut documents {
        let document = document.as_object_mut().unwrap();
        let is_new = document.contains_key("original");
        for name in ["id", "short_id"] {
            if is_new {
                document.remove(name);
            }
        }
    }
    documents.sort_by_key(Value::to_string);
    documents
}

/// Ours and theirs of a repository without some packs.
fn both_mend(base: &Base, case: &str, gone: &[PathBuf], root_lost: usize, forget: &[bool]) {
    for &forget in forget {
        let (ours, theirs) = (base.without("ours", gone), base.without("theirs", gone));
        let (of_ours, of_theirs) = (Restic::newest(&ours), Restic::newest(&theirs));
        let repo = base.open(&ours);
        repair_index(&repo, false, false, &Cancel::new()).unwrap();
        of_theirs.run(&["repair", "index"]);
        let report = repair(&repo, forget);
        assert!(!report.snapshots.is_empty(), "{case}");
        let lost = |one: &&ark_engine::maintain::RepairedSnapshot| one.mending == Mending::RootLost;
        assert_eq!(
            report.snapshots.iter().filter(lost).count(),
            root_lost,
            "{case}"
        );
        let args: &[&str] = if forget { &["--forget"] } else { &[] };
        of_theirs.run(&[&["repair", "snapshots"], args].concat());
        let mut mine = documents(&of_ours);
        // Restic removes what it cannot mend, asked or not; we only if asked.
        for one in report.snapshots.iter().filter(lost) {
            let before = mine.len();
            mine.retain(|document| document["id"] != *one.snapshot.id);
            assert_eq!(mine.len(), before - usize::from(!forget), "{case}");
        }
        assert_eq!(mine, documents(&of_theirs), "{case}, forget {forget}");
        if forget {
            of_ours.check();
            let again = of_ours.run(&["repair", "snapshots"]);
            assert!(again.contains("no snapshots were modified"), "{again}");
            let again = repair(&repo, true);
            assert!(again.snapshots.is_empty(), "{again:?}");
            restore_alike(base, &repo, &of_theirs);
        } else {
            let before = files(&ours);
            let again = repair(&repo, false);
            assert_eq!(files(&ours), before, "{case}");
            assert_eq!(again.snapshots.len(), report.snapshots.len(), "{case}");
            for (again, first) in again.snapshots.iter().zip(&report.snapshots) {
                assert_eq!(again.lost, first.lost, "{case}");
            }
        }
        fs::remove_dir_all(ours).unwrap();
        fs::remove_dir_all(theirs).unwrap();
    }
}

/// What we restore of ours is what restic restores of its own.
fn restore_alike(base: &Base, repo: &Repository, theirs: &Restic) {
    let listed: Value = serde_json::from_str(&theirs.run(&["snapshots", "--json"])).unwrap();
    let by_time: BTreeMap<jiff::Timestamp, String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|snapshot| {
            let text = |name: &str| snapshot[name].as_str().unwrap().to_owned();
            (text("time").parse().unwrap(), text("id"))
        })
        .collect();
    for snapshot in repo.snapshots().unwrap() {
        let [a, b] = ["by-us", "by-restic"].map(|name| base.bench.dir.path().join(name));
        fs::create_dir(&a).unwrap();
        let report = common::restore(repo, &snapshot.id, &a).unwrap();
        assert_eq!(report.errors, []);
        let id = &by_time[&snapshot.time];
        theirs.run(&["restore", id, "--verify", "--target", b.to_str().unwrap()]);
        common::written::same_but_for_restic(&a, &b);
        fs::remove_dir_all(a).unwrap();
        fs::remove_dir_all(b).unwrap();
    }
}

#[test]
fn both_make_the_same_of_broken_snapshots_of_format_1() {
    let base = Base::new(FormatVersion::V1);
    let some = [base.data(2), base.trees(1), base.data(0)].concat();
    both_mend(&base, "of all kinds", &some, 1, &[true]);
}

#[test]
fn both_make_the_same_of_broken_snapshots() {
    let base = Base::new(FormatVersion::V2);
    let both = &[false, true];
    both_mend(&base, "content of the first", &base.data(0), 0, &[true]);
    both_mend(&base, "content of restic's", &base.data(1), 0, &[false]);
    both_mend(&base, "directories of the first", &base.trees(0), 1, both);
    both_mend(&base, "directories of restic's", &base.trees(1), 1, &[true]);
    let some = [base.data(2), base.trees(1), base.data(0)].concat();
    both_mend(&base, "of all kinds", &some, 1, both);
    let all = [0, 1, 2, 3].map(|round| base.trees(round)).concat();
    both_mend(&base, "all directories", &all, 4, &[true]);
}

#[test]
fn nothing_changes_where_nothing_is_broken() {
    for version in VERSIONS {
        let base = Base::new(version);
        let root = base.bench.repo_dir();
        let before = files(&root);
        let report = repair(&base.open(&root), true);
        assert_eq!((report.sound, report.directories), (4, 0));
        assert_eq!(report.snapshots, []);
        assert_eq!(files(&root), before);
        // Nor with restic, which encodes every directory anew.
        let said = Restic::newest(&root).run(&["repair", "snapshots"]);
        assert!(said.contains("no snapshots were modified"), "{said}");
    }
}

/// What is lost is told: which paths, how many bytes.
#[test]
fn each_snapshot_says_what_it_lost() {
    let bench = Bench::in_memory();
    let repo = bench.init();
    let source = bench.source();
    let data = |dir: &str| {
        let packs = files(&bench.repo_dir().join("data"));
        let largest = packs
            .iter()
            .max_by_key(|pack| fs::metadata(pack).unwrap().len());
        fs::rename(largest.unwrap(), bench.dir.path().join(dir)).unwrap();
    };
    fs::create_dir_all(source.join("dir/below")).unwrap();
    fs::write(source.join("dir/below/large"), trees::noise(1, 9 << 20)).unwrap();
    fs::write(source.join("dir/small"), trees::noise(2, 1000)).unwrap();
    bench.archive(&repo);
    // Its beginning is known, and its end comes with another pack.
    let mut large = trees::noise(1, 9 << 20);
    large.extend(trees::noise(3, 9 << 20));
    fs::write(source.join("dir/below/large"), &large).unwrap();
    bench.archive(&repo);
    data("gone");
    repair_index(&repo, false, false, &Cancel::new()).unwrap();
    let report = repair(&repo, false);
    let large = Path::new("/dir/below/large");
    for one in &report.snapshots {
        assert_eq!(
            one.lost_bytes,
            one.lost.iter().map(|lost| lost.loss.bytes()).sum::<u64>()
        );
        assert_eq!(one.lost_paths, one.lost.len() as u64);
        let lost = one.lost.iter().find(|lost| lost.path == large).unwrap();
        let Loss::Content { lost, left } = lost.loss else {
            panic!("{lost:?}");
        };
        let Mending::Mended { id: Some(id), .. } = &one.mending else {
            panic!("{one:?}");
        };
        let target = tempfile::tempdir_in(bench.dir.path()).unwrap();
        let restored = common::restore(&repo, id, target.path()).unwrap();
        assert_eq!(restored.errors, []);
        let there = fs::metadata(target.path().join("dir/below/large")).unwrap();
        assert_eq!(there.len(), left);
        let of = common::restore(&repo, &one.snapshot.id, target.path());
        assert!(!of.unwrap().errors.is_empty());
        assert!(lost > 0);
    }
    let last = report.snapshots.last().unwrap();
    assert!(last.snapshot.tags.iter().all(|tag| tag != "repaired"));
    let tags = repo
        .snapshots()
        .unwrap()
        .into_iter()
        .filter(|s| s.original.is_some());
    for snapshot in tags {
        assert_eq!(snapshot.tags.last().unwrap(), "repaired");
    }
}
