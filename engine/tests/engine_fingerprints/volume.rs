//! A volume with its repository and its state.

use std::{fs, path::PathBuf};

use ark_engine::{
    ArchiveReport, ArchiveRequest, Cancel, Outcome, Repository,
    archive::{StateReport, StateRequest},
    check,
};

use crate::common::{self, Bench, archive, compare::assert_same, files, trees};

pub const MIB: u64 = 1 << 20;

/// Pages of a PostgreSQL relation, each with other rows.
pub fn relation(seed: u64, pages: usize) -> Vec<u8> {
    let mut data = trees::noise(seed, pages * 8192);
    for page in data.chunks_exact_mut(8192) {
        page[..24].fill(0);
        for (at, value) in [(12, 100_u16), (14, 4000), (16, 8192), (18, 0x2004)] {
            page[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    data
}

/// A source, a repository, and a state.
pub struct Volume {
    pub bench: Bench,
    pub repo: Repository,
}

impl Volume {
    /// Files of each way of cutting and reading; the last is too small to be remembered.
    pub fn new() -> Self {
        let bench = Bench::new();
        let repo = bench.init();
        let volume = Self { bench, repo };
        volume.write("relation", &relation(1, 1024));
        volume.write("relation.1", &relation(2, 256));
        volume.write("noise", &trees::noise(3, 12 << 20));
        volume.write("noise.1", &trees::noise(4, 3 << 20));
        volume.write("small", &trees::noise(5, 300 << 10));
        volume
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.bench.source().join(name)
    }

    pub fn write(&self, name: &str, data: &[u8]) {
        fs::write(self.path(name), data).unwrap();
    }

    pub fn state_dir(&self) -> PathBuf {
        self.bench.dir.path().join("state")
    }

    /// The state; there is only one.
    pub fn state(&self) -> PathBuf {
        let [file] = <[_; 1]>::try_from(files(&self.state_dir())).expect("one file");
        file
    }

    pub fn request(&self) -> ArchiveRequest {
        ArchiveRequest {
            reread_all: true,
            state: Some(StateRequest::new(self.state_dir())),
            ..self.bench.request()
        }
    }

    pub fn archive(&self) -> (ArchiveReport, StateReport) {
        let report = archive(&self.repo, &self.request()).unwrap();
        let state = report.state.clone().unwrap();
        (report, state)
    }

    /// Everything is hashed in full.
    pub fn archive_without(&self) -> ArchiveReport {
        let request = ArchiveRequest {
            state: None,
            ..self.request()
        };
        archive(&self.repo, &request).unwrap()
    }

    pub fn new_blobs(&self, report: &ArchiveReport) -> i64 {
        let snapshot = self.repo.find_snapshot(&report.snapshot_id).unwrap();
        snapshot.summary.unwrap().data_blobs
    }

    /// The snapshot holds the source as it is, which a restore compares with the ids, and the
    /// repository is whole.
    pub fn assert_right(&self, report: &ArchiveReport) {
        assert_eq!(report.outcome(), Outcome::Complete, "{:?}", report.errors);
        let target = tempfile::tempdir_in(self.bench.dir.path()).unwrap();
        common::restore(&self.repo, &report.snapshot_id, target.path()).unwrap();
        assert_same(&self.bench.source(), target.path());
        let found = check(&self.repo, false, &Cancel::new()).unwrap();
        assert!(found.is_ok(), "{found:?}");
    }

    /// Backed up with the state and without it, the blobs are the same.
    pub fn assert_as_without(&self) -> StateReport {
        let without = self.archive_without();
        assert!(without.state.is_none());
        let (report, state) = self.archive();
        assert_eq!(self.new_blobs(&report), 0, "cut as without a state");
        self.assert_right(&report);
        state
    }
}

/// Bytes of all files that are remembered.
pub const ALL: u64 = (8 + 2 + 12 + 3) * MIB;
