//! What users type and bring, and what the machine around is like: marks and encodings of files, blanks, slashes, groups,
//! modes, terminals that hang up and pipes that are cut.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    io::Read as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Stdio,
};

use engine_harness::{Place, Ran, files, noise, signal, wait_until};
use rustix::process::Signal;

/// Of nobody, in particular not of root.
const USER: u32 = 65534;

#[test]
fn blanks_around_tags_and_hosts_and_slashes_behind_paths_are_not_part_of_them() {
    let place = Place::with_repository();
    place.fill(1);
    let source = place.text("source");
    place
        .ark(&[
            "backup", "-q", &source, "--tag", "db, keep", "--host", " h ",
        ])
        .ends(0);
    let stored = place.restic(&["snapshots", "--json"]).json();
    assert_eq!(stored[0]["tags"], serde_json::json!(["db", "keep"]));
    assert_eq!(stored[0]["hostname"], "h");
    let found = |args: &[&str]| {
        let args = [&["snapshots", "--json"][..], args].concat();
        place.ark(&args).ends(0).json().as_array().unwrap().len()
    };
    assert_eq!(found(&["--tag", " keep ,db"]), 1);
    assert_eq!(found(&["--host", "h "]), 1);
    assert_eq!(found(&["--path", &format!("{source}//")]), 1);
    assert_eq!(found(&["--tag", "other"]), 0);
    place.fill(2);
    place.ark(&["backup", "-q", &source, "--host", "h"]).ends(0);
    let rules = ["forget", "-q", "--keep-last", "1", "--keep-tag", " keep"];
    place
        .ark(&[&rules[..], &["--group-by", "host, paths"]].concat())
        .ends(0);
    assert_eq!(found(&[]), 2);
    place.ark(&["backup", &source, "--tag", " "]).ends(1);
}

#[test]
fn tags_of_a_snapshot_have_a_line_each() {
    let place = Place::with_repository();
    place.fill(1);
    let source = place.text("source");
    place
        .ark(&["backup", "-q", &source, "--tag", "one,two,three"])
        .ends(0);
    let table = place.ark(&["snapshots"]).ends(0).out;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    let at = lines[0].find("TAGS").unwrap();
    let tags: Vec<&str> = lines[1..4]
        .iter()
        .map(|line| line[at..].split_whitespace().next().unwrap())
        .collect();
    assert_eq!(tags, ["one", "two", "three"]);
}

#[test]
fn byte_order_marks_are_no_part_of_the_first_pattern() {
    let place = Place::with_repository();
    let source = place.at("source");
    for name in ["a.tmp", "b.log", "c"] {
        fs::write(source.join(name), name).unwrap();
    }
    let utf16: Vec<u8> = "\u{feff}*.tmp\r\n*.log\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for patterns in [b"\xef\xbb\xbf*.tmp\r\n*.log\r\n".to_vec(), utf16] {
        fs::write(place.at("patterns"), patterns).unwrap();
        let (source, file) = (place.text("source"), place.text("patterns"));
        place
            .ark(&["backup", "-q", &source, "--exclude-file", &file])
            .ends(0);
        let listed = place.ark(&["ls", "latest"]).ends(0).out;
        assert!(listed.contains("source/c"), "{listed}");
        assert!(
            !listed.contains("b.log") && !listed.contains("a.tmp"),
            "{listed}"
        );
    }
    // In an option there are no comments.
    fs::write(source.join("#recycle"), "").unwrap();
    place
        .ark(&[
            "backup",
            "-q",
            &place.text("source"),
            "--exclude",
            "#recycle",
        ])
        .ends(0);
    let listed = place.ark(&["ls", "latest"]).ends(0).out;
    assert!(
        listed.contains("source/c") && !listed.contains("#recycle"),
        "{listed}"
    );
    // The same of the file that names the repository.
    let named = format!("\u{feff}{}\r\n", place.text("repo"));
    fs::write(place.at("named"), named).unwrap();
    let mut command = place.ark_command(&["snapshots", "--repository-file", &place.text("named")]);
    Ran::of(command.env_remove("RESTIC_REPOSITORY").output().unwrap()).ends(0);
}

#[test]
fn passwords_that_restic_takes_open_its_repository() {
    let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}geh\u{fc}im\r\n"
            .encode_utf16()
            .flat_map(unit)
            .collect()
    };
    let latin1 = b"ge\xfcheim\n".to_vec();
    let passwords = [
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        latin1.clone(),
        b" \xff \n".to_vec(),
    ];
    for password in &passwords {
        let place = Place::new();
        fs::write(place.at("password"), password).unwrap();
        let file = place.text("password");
        place.restic(&["init", "-q", "--password-file", &file]);
        place.ark(&["snapshots", "--password-file", &file]).ends(0);
    }
    let place = Place::new();
    fs::write(place.at("password"), &latin1).unwrap();
    place.restic(&["init", "-q", "--password-file", &place.text("password")]);
    let print = format!("cat {}", place.text("password"));
    place
        .ark(&["snapshots", "--password-command", &print])
        .ends(0);
    let mut command = place.ark_command(&["snapshots"]);
    command.env("RESTIC_PASSWORD", OsStr::from_bytes(b"ge\xfcheim"));
    Ran::of(command.output().unwrap()).ends(0);
    // Ours for restic.
    let place = Place::new();
    fs::write(place.at("password"), &latin1).unwrap();
    let file = place.text("password");
    place.ark(&["init", "-q", "--password-file", &file]).ends(0);
    place.restic(&["snapshots", "--password-file", &file]);
}

#[test]
fn new_files_are_for_the_group_that_may_read_the_repository() {
    let place = Place::new();
    place.restic(&["init", "-q"]);
    place.fill(1);
    let root = place.at("repo");
    let shared = || {
        let mut todo = vec![root.clone()];
        while let Some(path) = todo.pop() {
            chown(&path, None, Some(USER)).unwrap();
            let dir = path.is_dir();
            let mode = if dir { 0o2770 } else { 0o440 };
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            if dir {
                todo.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        }
    };
    shared();
    place.backup();
    for file in files(&root) {
        let meta = fs::metadata(&file).unwrap();
        assert!(
            meta.mode() & 0o040 != 0,
            "{} {:o}",
            file.display(),
            meta.mode()
        );
        assert_eq!(
            (meta.mode() & 0o007, meta.gid()),
            (0, USER),
            "{}",
            file.display()
        );
    }
    // A repository of its owner alone stays that.
    let place = Place::with_repository();
    place.fill(1);
    place.backup();
    for file in files(&place.at("repo")) {
        assert_eq!(
            fs::metadata(&file).unwrap().mode() & 0o077,
            0,
            "{}",
            file.display()
        );
    }
}

#[test]
fn what_is_written_into_a_pipe_that_is_cut_is_no_success() {
    let place = Place::with_repository();
    fs::write(place.at("source/f"), noise(1, 1, 4 << 20)).unwrap();
    place.backup();
    let file = place.text("source/f");
    for args in [&["dump", "latest", &file][..], &["dump", "latest", "/"]] {
        let mut child = place
            .ark_command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut part = [0; 1000];
        child.stdout.take().unwrap().read_exact(&mut part).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(141), "{args:?}");
    }
}

/// As `nohup` starts it, a backup goes on; else it ends, and its lock is gone.
#[test]
fn a_terminal_that_hangs_up_ends_a_backup_and_leaves_no_lock() {
    let place = Place::with_repository();
    let mut child = place.hanging(place.ark_command(&[]));
    signal(&child, Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(place.locks().is_empty());

    let mut ignoring = std::process::Command::new("sh");
    let plain = place.ark_command(&[]);
    ignoring
        .args([
            "-c",
            "trap '' HUP; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_ark"),
            "engine",
        ])
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(place.dir.path());
    let mut child = place.hanging(ignoring);
    signal(&child, Signal::HUP);
    drop(child.stdin.take());
    // It was handed nothing, and that is what it says.
    assert_ne!(child.wait().unwrap().code(), Some(130));
    assert!(place.locks().is_empty());
}

#[test]
fn a_dry_run_makes_no_target() {
    let place = Place::with_repository();
    place.fill(1);
    place.backup();
    let target = place.text("new/target");
    let ran = place
        .ark(&["restore", "latest", "--dry-run", "--target", &target])
        .ends(0);
    assert!(ran.out.contains("f1"), "{}", ran.out);
    assert!(!place.at("new").exists());
}

/// What is restored to a place on the machine reaches it, though a link or a mount lies on the way.
#[test]
fn a_restore_goes_through_links_and_mounts_on_the_way() {
    let place = Place::with_repository();
    let source = place.at("source");
    for name in ["linked/data", "mounted/data"] {
        fs::create_dir_all(source.join(name)).unwrap();
        fs::write(source.join(name).join("f"), name).unwrap();
    }
    place.backup();
    let target = place.at("target").join(source.strip_prefix("/").unwrap());
    fs::create_dir_all(target.join("mounted")).unwrap();
    let away = place.at("away");
    fs::create_dir(&away).unwrap();
    std::os::unix::fs::symlink(&away, target.join("linked")).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(target.join("mounted"))
        .status()
        .unwrap();
    assert!(
        mount.success(),
        "this test mounts a file system: run it as root"
    );
    fs::write(target.join("mounted/other"), "of the mounted one").unwrap();
    let data = [
        place.text("source/linked/data"),
        place.text("source/mounted/data"),
    ];
    let args = [
        "restore",
        "latest",
        "--target",
        "target",
        "--include",
        &data[0],
        "--include",
        &data[1],
    ];
    let ran = place.ark(&args);
    let through_link = fs::read_to_string(place.at("away/data/f"));
    let through_mount = fs::read_to_string(target.join("mounted/data/f"));
    let other = target.join("mounted/other").exists();
    let umount = std::process::Command::new("umount")
        .arg("-l")
        .arg(target.join("mounted"))
        .status();
    assert!(umount.unwrap().success());
    ran.ends(0);
    assert_eq!(through_link.unwrap(), "linked/data");
    assert_eq!(through_mount.unwrap(), "mounted/data");
    assert!(other);
    assert!(
        fs::symlink_metadata(target.join("linked"))
            .unwrap()
            .is_symlink()
    );
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// An ordinary user owns directories without the right to write into them, or to read them.
#[test]
fn a_user_restores_into_directories_that_are_closed_to_their_owner() {
    let place = Place::new();
    let place_dir = place.dir.path();
    fs::set_permissions(place_dir, Permissions::from_mode(0o777)).unwrap();
    let source = place.at("source");
    fs::set_permissions(&source, Permissions::from_mode(0o755)).unwrap();
    for name in ["closed", "way"] {
        fs::create_dir_all(source.join(name).join("in")).unwrap();
        fs::write(source.join(name).join("in/f"), name).unwrap();
        fs::write(source.join(name).join("f"), name).unwrap();
    }
    let owned = |path: &Path| {
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            chown(&path, Some(USER), Some(USER)).unwrap();
            if path.is_dir() {
                todo.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        }
    };
    let close =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    close(&source.join("closed"), 0o555);
    owned(place_dir);
    // The folder that the program was built in may be closed to others.
    let program = place.at("ark");
    let built = env!("CARGO_BIN_EXE_ark");
    if fs::hard_link(built, &program).is_err() {
        fs::copy(built, &program).unwrap();
    }
    let as_user = |args: &[&str]| {
        let plain = place.ark_command(args);
        let mut command = std::process::Command::new(&program);
        command
            .args(plain.get_args())
            .envs(
                plain
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("HOME", place_dir)
            .current_dir(place_dir)
            .uid(USER)
            .gid(USER);
        Ran::of(command.output().unwrap())
    };
    as_user(&["init", "-q"]).ends(0);
    as_user(&["backup", "-q", &place.text("source")]).ends(0);
    let restore = ["restore", "latest", "--target", "target", "-q"];
    as_user(&restore).ends(0);
    let restored = place.at("target").join(source.strip_prefix("/").unwrap());
    let remove = |name: &str, closed| {
        let dir = restored.join(name);
        close(&dir, 0o755);
        fs::remove_file(dir.join("f")).unwrap();
        fs::remove_file(dir.join("in/f")).unwrap();
        close(&dir, closed);
    };
    // It was backed up so; it is closed in the target alone; it cannot even be read.
    for closed in [0o555, 0o500, 0o000] {
        remove("closed", closed);
        remove("way", closed);
        as_user(&restore).ends(0);
        for name in ["closed", "way"] {
            for file in ["f", "in/f"] {
                assert_eq!(
                    fs::read_to_string(restored.join(name).join(file)).unwrap(),
                    name
                );
            }
        }
        assert_eq!(mode(&restored.join("closed")), 0o555);
        assert_eq!(mode(&restored.join("way")), 0o755);
    }
    // A directory on the way to what is selected keeps its mode.
    remove("way", 0o511);
    let only = place.text("source/way/in");
    as_user(&[&restore[..], &["--include", &only]].concat()).ends(0);
    assert!(restored.join("way/in/f").exists() && !restored.join("way/f").exists());
    assert_eq!(mode(&restored.join("way")), 0o511);
    // A dry run opens nothing.
    as_user(&restore).ends(0);
    remove("way", 0o555);
    as_user(&[&restore[..], &["--dry-run"]].concat()).ends(0);
    assert_eq!(mode(&restored.join("way")), 0o555);
}

/// A run that was killed holds back nobody on its machine.
#[test]
fn the_lock_of_a_killed_run_is_known_to_be_dead_here_and_nowhere_else() {
    let place = Place::with_repository();
    let mut child = place.hanging(place.ark_command(&[]));
    place.ark(&["prune"]).ends(11);
    // Stopped is not dead.
    signal(&child, Signal::STOP);
    place.ark(&["prune"]).ends(11);
    place.ark(&["unlock"]).ends(0);
    assert_eq!(place.locks().len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("a prune takes the lock of the dead away", || {
        place.ark(&["prune"]).code == Some(0)
    });
    assert!(place.locks().is_empty());
}
