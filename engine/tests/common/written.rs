//! A repository that we wrote, two snapshots of it, and what must still work after somebody else
//! was at it.

use std::{collections::BTreeSet, fs, path::Path};

use ark_engine::{ArchiveRequest, Cancel, FormatVersion, Outcome, Repository, check};
use serde_json::Value;

use super::{
    Bench, archive,
    compare::{Options, assert_same, assert_same_but},
    restic::Restic,
    restore, trees,
};

/// The root's own metadata is not in the trees of the format, so restic does not know it;
/// attributes of links it ignores.
pub const BY_RESTIC: Options = Options {
    ignore_root: true,
    ignore_xattrs_of_links: true,
};

pub const VERSIONS: [FormatVersion; 2] = [FormatVersion::V1, FormatVersion::V2];

/// A source with everything a volume can hold, and snapshots of two of its states; the source is as
/// the second.
pub struct Written {
    pub bench: Bench,
    pub first: String,
    pub second: String,
}

impl Written {
    pub fn new(version: FormatVersion) -> Self {
        let bench = Bench::in_memory();
        let source = bench.source();
        trees::everything(&source);
        // Beyond restic before 0.16.
        fs::remove_file(source.join("raw link")).unwrap();
        trees::plain(&source, 30, 100 << 10);
        fs::write(source.join("goes"), trees::noise(70, 2 << 20)).unwrap();
        fs::write(source.join("changes"), trees::noise(71, 3 << 20)).unwrap();
        let repo = bench.init_version(version);
        let first = bench.archive(&repo).snapshot_id;
        fs::remove_file(source.join("goes")).unwrap();
        fs::write(source.join("changes"), trees::noise(72, 3 << 20)).unwrap();
        fs::write(source.join("comes"), trees::noise(73, 1 << 20)).unwrap();
        let second = bench.archive(&repo).snapshot_id;
        Self {
            bench,
            first,
            second,
        }
    }

    pub fn restic(&self) -> Restic {
        Restic::newest(&self.bench.repo_dir())
    }

    /// All is well for both programs; a snapshot can be restored and is the source; a further
    /// backup that reads everything finds all of it stored.
    pub fn goes_on(&self, snapshot: &str) {
        let restic = self.restic();
        restic.check();
        let repo = self.bench.open();
        is_clean(&repo);
        assert_same(&self.bench.source(), self.restored(snapshot).path());
        let request = ArchiveRequest {
            reread_all: true,
            ..self.bench.request()
        };
        let report = archive(&repo, &request).unwrap();
        assert_eq!(report.outcome(), Outcome::Complete);
        assert_eq!(data_blobs(&restic, &report.snapshot_id), 0);
        assert_same(
            &self.bench.source(),
            self.restored(&report.snapshot_id).path(),
        );
        restic.check();
    }

    /// Restored by us, without a row.
    pub fn restored(&self, snapshot: &str) -> tempfile::TempDir {
        let target = tempfile::tempdir_in(self.bench.dir.path()).unwrap();
        let report = restore(&self.bench.open(), snapshot, target.path()).unwrap();
        assert_eq!(report.errors, []);
        target
    }

    /// Restored by restic, which compares what it wrote with the repository.
    pub fn restored_by(&self, restic: &Restic, snapshot: &str) -> tempfile::TempDir {
        let target = tempfile::tempdir_in(self.bench.dir.path()).unwrap();
        let path = target.path().to_str().unwrap();
        restic.run(&["restore", snapshot, "--verify", "--target", path]);
        target
    }
}

pub fn is_clean(repo: &Repository) {
    let found = check(repo, true, &Cancel::new()).unwrap();
    assert!(found.is_ok(), "{found:?}");
}

pub fn same_but_for_restic(a: &Path, b: &Path) {
    assert_same_but(a, b, BY_RESTIC);
}

/// How many data blobs a snapshot's backup added, by its own words.
pub fn data_blobs(restic: &Restic, snapshot: &str) -> u64 {
    let document: Value =
        serde_json::from_str(&restic.run(&["cat", "snapshot", snapshot])).unwrap();
    document["summary"]["data_blobs"].as_u64().unwrap()
}

/// Ids of all snapshots, as restic lists them: the oldest first.
pub fn snapshots(restic: &Restic) -> Vec<String> {
    let listed: Value = serde_json::from_str(&restic.run(&["snapshots", "--json"])).unwrap();
    let id = |snapshot: &Value| snapshot["id"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(id).collect()
}

/// All blobs that the index names.
pub fn blobs(restic: &Restic) -> BTreeSet<String> {
    let listed = restic.run(&["list", "blobs"]);
    listed.lines().map(str::to_owned).collect()
}
