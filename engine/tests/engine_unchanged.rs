//! Files that are the same as in the parent are taken over as they are stored; whatever changed of
//! one is seen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    ffi::CString,
    fs,
    os::unix::fs::{PermissionsExt as _, lchown},
};

use ark_engine::{FileOperation, Outcome};
use common::{Bench, compare::assert_same, settle, trees};
use rustix::fs::XattrFlags;

/// Metadata that changes without the content.
#[test]
fn changed_metadata_is_seen() {
    let bench = Bench::new();
    let source = bench.source();
    trees::plain(&source, 10, 500);
    let at = |name: &str| source.join(name);
    for name in ["mode", "owner", "attribute", "link", "two"] {
        fs::write(at(name), name).unwrap();
    }
    fs::hard_link(at("two"), at("two more")).unwrap();
    settle(&source);
    let repo = bench.init();
    let first = bench.archive(&repo);
    let same = bench.archive(&repo);
    assert_eq!(same.files_unchanged, first.files);
    fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o4711)).unwrap();
    lchown(at("owner"), Some(7), Some(8)).unwrap();
    rustix::fs::setxattr(at("attribute"), "user.new", b"value", XattrFlags::empty()).unwrap();
    fs::hard_link(at("link"), at("link too")).unwrap();
    fs::remove_file(at("two more")).unwrap();
    let report = bench.archive(&repo);
    assert_eq!(report.outcome(), Outcome::Complete);
    bench.restore(&repo, &report.snapshot_id);
    assert_same(&source, &bench.target());
    bench.restic().check();
}

/// What could not be kept of a file is said each time, not only the first.
#[test]
fn what_is_missing_of_an_unchanged_file_is_said_again() {
    let bench = Bench::new();
    let file = bench.source().join("file");
    fs::write(&file, "content").unwrap();
    let name = CString::new(&b"user.not \xff text"[..]).unwrap();
    rustix::fs::setxattr(&file, &name, b"value", XattrFlags::empty()).unwrap();
    settle(&bench.source());
    let repo = bench.init();
    for round in 0..3 {
        let report = bench.archive(&repo);
        assert_eq!(report.outcome(), Outcome::Partial, "round {round}");
        assert_eq!(report.errors[0].operation, FileOperation::Xattr);
        assert_eq!(report.errors.len(), 1);
    }
}
