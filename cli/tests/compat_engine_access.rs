//! Passwords, locks and exit codes, beside stock restic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;

use std::{fs, io::Write as _, path::PathBuf, process::Child};

use engine_harness::{PASSWORD, Place, Ran, files, ids, signal, wait_until};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn passwords_of_one_work_for_the_other() {
    let place = Place::with_repository();
    fs::write(place.at("second"), "second password\n").unwrap();
    fs::write(place.at("third"), "third password").unwrap();
    let with = |password: &str, program: &str, args: &[&str]| {
        let mut command = match program {
            "ark" => place.ark_command(args),
            _ => place.restic_command(args),
        };
        Ran::of(command.env("RESTIC_PASSWORD", password).output().unwrap())
    };
    place
        .ark(&[
            "key",
            "add",
            "--new-password-file",
            "second",
            "--user",
            "me",
            "--host",
            "here",
        ])
        .ends(0);
    with("second password", "restic", &["snapshots"]).ends(0);
    place.restic(&["key", "add", "--new-password-file", "third"]);
    with("third password", "ark", &["snapshots"]).ends(0);

    let here = with("second password", "ark", &["key", "list", "--json"])
        .ends(0)
        .json();
    let there = with("second password", "restic", &["key", "list", "--json"])
        .ends(0)
        .json();
    let sorted = |list: &Value| {
        let mut list = list.as_array().unwrap().clone();
        list.sort_by_key(|key| key["id"].to_string());
        list
    };
    assert_eq!(sorted(&here), sorted(&there));
    let key_of = |user: &str| {
        let key = sorted(&here)
            .into_iter()
            .find(|key| key["userName"] == user)
            .unwrap();
        key["id"].as_str().unwrap().to_owned()
    };
    // A password of a person gets what restic would give it.
    let keys = files(&place.at("repo/keys"));
    let is_mine = |file: &&PathBuf| {
        file.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(&key_of("me"))
    };
    let mine = fs::read(keys.iter().find(is_mine).unwrap()).unwrap();
    let second: Value = serde_json::from_slice(&mine).unwrap();
    assert!(
        second["N"].as_u64().unwrap() >= 1 << 15 && second["p"].as_u64().unwrap() >= 1,
        "{second}"
    );
    assert_eq!(second["hostname"], "here");

    // The one in use is not removed; another is.
    let ran = with("second password", "ark", &["key", "remove", &key_of("me")]).ends(1);
    assert!(ran.err.contains("opened with it"), "{}", ran.err);
    place.ark(&["key", "remove", &key_of("me")]).ends(0);
    with("second password", "ark", &["snapshots"]).ends(12);
    with("second password", "restic", &["snapshots"])
        .code
        .filter(|code| *code != 0)
        .unwrap();
    place.ark(&["key", "remove", "zz"]).ends(1);

    with(
        "third password",
        "ark",
        &["key", "passwd", "--new-password-file", "second"],
    )
    .ends(0);
    with("third password", "ark", &["snapshots"]).ends(12);
    with("second password", "restic", &["snapshots"]).ends(0);
    place.restic(&["snapshots"]);
    fs::write(place.at("empty"), "\n").unwrap();
    place
        .ark(&["key", "passwd", "--new-password-file", "empty"])
        .ends(1);
    place.ark(&["key", "passwd"]).ends(1);
    place.restic(&["snapshots"]);
    assert_eq!(files(&place.at("repo/keys")).len(), 2);
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn locks_of_one_hold_back_the_other() {
    let place = Place::with_repository();
    let theirs = place.hanging(place.restic_command(&[]));
    for args in [&["prune"][..], &["forget", "--keep-last", "1"]] {
        let ran = place.ark(args).ends(11);
        assert!(
            ran.err.contains("locked by") && ran.err.contains("ark engine unlock"),
            "{}",
            ran.err
        );
    }
    // A backup is no hindrance for reading and writing.
    place.fill(1);
    place.backup();
    place.ark(&["check"]).ends(0);
    // It lives, so its lock stays.
    place.ark(&["unlock"]).ends(0);
    assert_eq!(place.locks().len(), 1);
    kill(theirs);
    // It is dead, which can be seen on this machine.
    let ran = place.ark(&["unlock", "--json"]).ends(0);
    assert_eq!(ran.json()["locks_removed"], 1);
    place.ark(&["prune"]).ends(0);

    let ours = place.hanging(place.ark_command(&[]));
    let ran = Ran::of(place.restic_command(&["prune"]).output().unwrap());
    assert!(
        ran.code != Some(0) && ran.err.contains("locked"),
        "{}",
        ran.err
    );
    place.ark(&["prune"]).ends(11);
    // It lives, which can be seen on this machine.
    place.ark(&["unlock"]).ends(0);
    assert_eq!(place.locks().len(), 1);
    kill(ours);
    // restic does not know whose it is.
    place.restic(&["unlock"]);
    assert_eq!(place.locks().len(), 1);
    assert_eq!(
        place.ark(&["unlock", "--json"]).ends(0).json()["locks_removed"],
        1
    );
    place.ark(&["prune"]).ends(0);

    // Nobody has to unlock after a process of this machine was killed.
    kill(place.hanging(place.ark_command(&[])));
    place.ark(&["prune"]).ends(0);
    assert!(place.locks().is_empty());
}

#[test]
fn reading_without_locks() {
    let place = Place::with_repository();
    place.fill(1);
    place.backup();
    // No lock can be written: as with credentials that may only read.
    fs::remove_dir_all(place.at("repo/locks")).unwrap();
    fs::write(place.at("repo/locks"), "").unwrap();
    let before = files(&place.at("repo"));
    let file = format!("{}/f2", place.text("source"));
    for args in [
        &["snapshots", "--no-lock"][..],
        &["ls", "latest", "--no-lock"],
        &["dump", "latest", &file, "--no-lock"],
        &["restore", "latest", "--target", "target", "--no-lock"],
        &["key", "list", "--no-lock"],
    ] {
        place.ark(args).ends(0);
    }
    place.ark(&["ls", "latest"]).ends(1);
    place.assert_restored("target");
    assert_eq!(files(&place.at("repo")), before);
}

#[test]
fn exit_codes_are_restics() {
    let place = Place::new();
    // 10: nothing there, or a directory without a repository.
    place.ark(&["snapshots"]).ends(10);
    fs::create_dir(place.at("repo")).unwrap();
    let ran = place.ark(&["snapshots", "--json"]).ends(10);
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(
        (&error["message_type"], &error["code"]),
        (&"exit_error".into(), &10.into())
    );
    // 0, and 1 for what exists already.
    place.ark(&["init"]).ends(0);
    place.ark(&["init"]).ends(1);
    // 12.
    let mut command = place.ark_command(&["snapshots"]);
    Ran::of(command.env("RESTIC_PASSWORD", "wrong").output().unwrap()).ends(12);
    // 1: command lines that make no sense.
    for args in [
        &["backup"][..],
        &["nonsense"],
        &["backup", "x", "--nonsense"],
        &["restore", "latest"],
    ] {
        place.ark(args).ends(1);
    }
    // 3: the snapshot is kept. 1: there is nothing to be kept.
    place.fill(1);
    let source = place.text("source");
    let ran = place
        .ark(&["backup", "--json", &source, &place.text("missing")])
        .ends(3);
    let error: Value = serde_json::from_str(ran.err.lines().next().unwrap()).unwrap();
    assert_eq!(error["message_type"], "error");
    assert!(
        error["item"].as_str().unwrap().ends_with("missing"),
        "{error}"
    );
    let id = ran.lines().pop().unwrap()["snapshot_id"].clone();
    assert_eq!(place.restic(&["snapshots", "--json"]).json()[0]["id"], id);
    place.ark(&["backup", &place.text("missing")]).ends(1);
    // 1: damage.
    let pack = files(&place.at("repo/data")).pop().unwrap();
    let content = fs::read(&pack).unwrap();
    fs::write(&pack, &content[..content.len() / 2]).unwrap();
    place.ark(&["check"]).ends(1);
    fs::write(&pack, &content).unwrap();
    place.ark(&["check", "--read-data"]).ends(0);
}

#[test]
fn an_interrupted_backup_gives_its_lock_back() {
    let place = Place::with_repository();
    for quiet_input in [true, false] {
        let mut child = place.hanging(place.ark_command(&[]));
        if !quiet_input {
            child
                .stdin
                .as_mut()
                .unwrap()
                .write_all(&vec![1; 8 << 20])
                .unwrap();
        }
        signal(&child, Signal::INT);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130));
        wait_until("the lock is gone", || place.locks().is_empty());
        assert_eq!(ids(&place.restic(&["snapshots", "--json"]).json()).len(), 0);
    }
    place.restic(&["check"]);
}

#[test]
fn the_password_is_nowhere_to_be_seen() {
    let place = Place::with_repository();
    place.fill(1);
    let ran = place.ark(&["backup", &place.text("source")]).ends(0);
    assert!(!ran.out.contains(PASSWORD) && !ran.err.contains(PASSWORD));
    for file in files(&place.at("repo")) {
        let content = fs::read(&file).unwrap();
        assert!(
            !content
                .windows(PASSWORD.len())
                .any(|w| w == PASSWORD.as_bytes())
        );
    }
}
