//! The example does what it says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

#[path = "../examples/backup_dir.rs"]
#[allow(dead_code, reason = "its main reads arguments")]
mod backup_dir;

use std::fs;

#[test]
fn a_directory_is_backed_up_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("source/below")).unwrap();
    // A directory that is not there may be a disk that is not mounted: the store has to exist.
    fs::create_dir(path("repo")).unwrap();
    fs::create_dir(path("one")).unwrap();
    fs::create_dir(path("two")).unwrap();
    fs::write(path("source/below/file"), "first").unwrap();
    let run = |target: &str| {
        backup_dir::run(
            &path("repo"),
            "secret",
            &path("source"),
            Some(&path(target)),
        )
        .unwrap();
        fs::read_to_string(path(&format!("{target}/below/file"))).unwrap()
    };
    assert_eq!(run("one"), "first");
    fs::write(path("source/below/file"), "second time").unwrap();
    assert_eq!(run("two"), "second time", "the repository is opened again");
    let wrong = backup_dir::run(&path("repo"), "other", &path("source"), None);
    assert!(matches!(
        wrong,
        Err(ark_engine::Error::WrongPassword { .. })
    ));
}
