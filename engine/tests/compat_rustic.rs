//! rustic's own library, with its own backend, reads and checks what we write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::path::Path;

use common::{Bench, PASSWORD, files, trees};
use rustic_backend::BackendOptions;
use rustic_core::{CheckOptions, Credentials, Repository, RepositoryOptions};

fn open(repo: &Path) -> Repository<rustic_core::OpenStatus> {
    let options = BackendOptions::default().repository(repo.to_str().unwrap());
    let backends = options.to_backends().unwrap();
    let options = RepositoryOptions::default().no_cache(true);
    let repo = Repository::new(&options, &backends).unwrap();
    repo.open(&Credentials::password(PASSWORD)).unwrap()
}

#[test]
fn rustic_opens_lists_and_checks_ours() {
    let bench = Bench::new();
    trees::everything(&bench.source());
    let repo = bench.init();
    let report = bench.archive(&repo);
    let rustic = open(&bench.repo_dir());
    let snapshots = rustic.get_all_snapshots().unwrap();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0].id.to_hex().as_str(), report.snapshot_id);
    // Regular files, as restic counts them.
    let regular = files(&bench.source());
    let regular = regular
        .iter()
        .filter(|file| file.symlink_metadata().unwrap().is_file());
    let summary = snapshots[0].summary.as_ref().unwrap();
    assert_eq!(summary.total_files_processed, regular.count() as u64);
    assert!(summary.total_files_processed < report.files);
    let found = rustic
        .check(CheckOptions::default().read_data(true))
        .unwrap();
    found.is_ok().unwrap();
}
