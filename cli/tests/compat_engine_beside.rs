//! `ark engine` and stock restic at work on one repository at the same time: what may run beside each other does, what
//! may not ends with 11, and whatever happened, the repository is whole and every snapshot can be restored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use engine_harness::{Place, Ran, assert_same, ids, noise, signal, wait_until};
use rustix::process::Signal;

/// The newest one, which has exit codes for locks.
fn restic_command(place: &Place, args: &[&str]) -> Command {
    place.newest_restic_command(args)
}

fn restic(place: &Place, args: &[&str]) -> Ran {
    Ran::of(restic_command(place, args).output().unwrap())
}

/// Repository in memory where there is some: the moments that are to be met are short.
fn place() -> Place {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    for name in ["source", "target"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let place = Place { dir };
    fs::write(place.at("password"), engine_harness::PASSWORD).unwrap();
    place.ark(&["init", "--random-password"]).ends(0);
    place
}

fn piped(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ended(child: Child) -> Ran {
    Ran::of(child.wait_with_output().unwrap())
}

/// Waits a while that differs from seed to seed, so that the second program meets the first at another moment each time.
fn at_some_moment(seed: u8) {
    let millis = u64::from(noise(seed, 77, 1)[0]) * 3;
    std::thread::sleep(Duration::from_millis(millis));
}

/// The ids of all snapshots, after both programs found nothing wrong and each restored each.
fn all_is_whole(place: &Place, snapshots: usize) {
    assert!(place.locks().is_empty(), "{:?}", place.locks());
    restic(place, &["check", "--read-data"]).ends(0);
    place.ark(&["check", "--read-data"]).ends(0);
    let listed = ids(&restic(place, &["snapshots", "--json"]).ends(0).json());
    assert_eq!(listed.len(), snapshots);
    for id in listed {
        let (ours, theirs) = (place.text("by-ark"), place.text("by-restic"));
        place.ark(&["restore", &id, "--target", &ours]).ends(0);
        restic(place, &["restore", &id, "--verify", "--target", &theirs]).ends(0);
        assert_same(Path::new(&ours), Path::new(&theirs));
        fs::remove_dir_all(ours).unwrap();
        fs::remove_dir_all(theirs).unwrap();
    }
}

/// Enough content for a second of work, and different for each seed in a part.
fn fill(place: &Place, seed: u8) {
    place.fill(seed);
    for n in 0..60 {
        let content = noise(if n % 2 == 0 { 0 } else { seed }, n, 256 << 10);
        fs::write(place.at("source").join(format!("more {n}")), content).unwrap();
    }
}

/// Neither hinders the other: restic's backup and check beside our backup, restore and check, begun at several moments.
#[test]
fn readers_and_writers_beside_each_other() {
    let place = place();
    fill(&place, 1);
    let source = place.text("source");
    place.backup();
    let mut snapshots = 1;
    for seed in 2..4 {
        fill(&place, seed);
        let theirs = piped(&mut restic_command(
            &place,
            &["backup", "-q", "--force", &source],
        ));
        at_some_moment(seed);
        place.ark(&["backup", "-q", "--force", &source]).ends(0);
        ended(theirs).ends(0);
        snapshots += 2;

        // Restic's check excludes others, unless it takes no lock.
        let theirs = piped(&mut restic_command(
            &place,
            &["check", "--read-data", "--no-lock"],
        ));
        at_some_moment(seed);
        place.ark(&["backup", "-q", "--force", &source]).ends(0);
        ended(theirs).ends(0);
        snapshots += 1;

        let theirs = piped(&mut restic_command(
            &place,
            &["backup", "-q", "--force", &source],
        ));
        at_some_moment(seed);
        let target = place.text("target");
        place
            .ark(&["restore", "latest", "--target", &target])
            .ends(0);
        place.ark(&["check"]).ends(0);
        ended(theirs).ends(0);
        snapshots += 1;
    }
    all_is_whole(&place, snapshots);
}

/// While we back up, restic's prune and check end with 11; while it backs up, our prune and forget do.
#[test]
fn who_excludes_others_ends_with_11_beside_a_backup() {
    let place = place();
    fill(&place, 1);
    place.backup();
    fill(&place, 2);
    place.backup();
    let ours = place.hanging(place.ark_command(&[]));
    for args in [
        &["prune"][..],
        &["check"],
        &["forget", "--keep-last", "1"],
        &["repair", "index"],
    ] {
        restic(&place, args).ends(11);
    }
    finish(ours);

    let theirs = place.hanging(restic_command(&place, &[]));
    for args in [
        &["prune"][..],
        &["forget", "--keep-last", "1"],
        &["key", "passwd", "--new-password-file", "password"],
    ] {
        place.ark(args).ends(11);
    }
    finish(theirs);
    restic(&place, &["forget", "--keep-last", "9", "--prune"]).ends(0);
    place.ark(&["prune"]).ends(0);
    all_is_whole(&place, 4);
}

/// Ends the input of a backup of what a program writes: it makes its snapshot.
fn finish(mut child: Child) {
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"all of it").unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// Restic holds the lock that excludes others: our verbs end with 11 at once, and with --retry-lock when it is gone.
#[test]
fn beside_who_excludes_others_we_end_with_11_or_wait() {
    let place = place();
    fill(&place, 1);
    place.backup();
    let source = place.text("source");
    let mut theirs = stopped(
        &place,
        &mut restic_command(&place, &["check", "--read-data"]),
    );
    for args in [
        &["backup", &source][..],
        &["restore", "latest", "--target", "target"],
        &["ls", "latest"],
        &["check"],
        &["prune"],
        &["forget", "--keep-last", "1"],
    ] {
        let ran = place.ark(args).ends(11);
        assert!(ran.err.contains("locked by"), "{}", ran.err);
        let waited = [args, &["--retry-lock", "600ms"]].concat();
        place.ark(&waited).ends(11);
    }
    // Interrupted, the wait is over.
    let mut waiting = piped(&mut place.ark_command(&["prune", "--retry-lock", "10m"]));
    wait_until("it listens to signals", || catches_interrupts(&waiting));
    signal(&waiting, Signal::INT);
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    let waiting = piped(&mut place.ark_command(&["backup", "-q", "--retry-lock", "2m", &source]));
    at_some_moment(2);
    signal(&theirs, Signal::CONT);
    assert!(theirs.wait().unwrap().success());
    ended(waiting).ends(0);
    drop(
        theirs
            .stdout
            .take()
            .map(|mut out| out.read_to_end(&mut Vec::new())),
    );
    all_is_whole(&place, 2);
}

/// How often to begin anew, if a program had ended before it could be stopped.
const TRIES: u32 = 100;

/// A program, stopped while it holds the first lock it has taken. Who is quicker than that begins anew, with the repository
/// as it was.
fn stopped(place: &Place, command: &mut Command) -> Child {
    let (repo, before) = (place.at("repo"), place.at("before"));
    copy(&repo, &before);
    for _ in 0..TRIES {
        let child = piped(command);
        let mut first = Vec::new();
        wait_until("the first locks", || {
            first = place.locks();
            !first.is_empty() || state(&child) == "Z"
        });
        signal(&child, Signal::STOP);
        wait_until("it is stopped", || {
            ["Z", "T"].contains(&state(&child).as_str())
        });
        if first.len() == 1 && place.locks() == first {
            fs::remove_dir_all(&before).unwrap();
            return child;
        }
        signal(&child, Signal::CONT);
        ended(child).ends(0);
        fs::remove_dir_all(&repo).unwrap();
        copy(&before, &repo);
    }
    panic!("it always ended before it was stopped");
}

/// What the kernel says a process does: `T` when it is stopped, `Z` when it has ended.
fn state(child: &Child) -> String {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest[..1].to_owned()
}

/// Whether SIGINT does not simply end a process: the second bit of what the kernel says it catches.
fn catches_interrupts(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(caught.unwrap().trim(), 16).unwrap() & 2 != 0
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Both, the first of them stopped when its lock is there, until the second has ended with one of these codes.
fn meeting(place: &Place, first: &mut Command, second: &mut Command, codes: &[i32]) -> (Ran, Ran) {
    let first = stopped(place, first);
    let second = ended(piped(second));
    let code = second.code.unwrap();
    assert!(
        codes.contains(&code),
        "{code} {} {}",
        second.out,
        second.err
    );
    signal(&first, Signal::CONT);
    (ended(first), second)
}

/// While our prune looks and copies, restic's backup is made; restic's prune is refused.
#[test]
fn backups_go_on_beside_our_prune() {
    let place = place();
    let source = place.text("source");
    fill(&place, 1);
    let first = place.backup();
    fill(&place, 2);
    place.backup();
    place.ark(&["forget", &first]).ends(0);
    let mut pruning =
        place.ark_command(&["prune", "-q", "--max-unused", "0", "--retry-lock", "1m"]);
    let ours = stopped(&place, &mut pruning);
    let locks = restic(&place, &["list", "locks", "--no-lock", "-q"]).ends(0);
    let lock = restic(
        &place,
        &["cat", "lock", locks.out.trim(), "--no-lock", "-q"],
    )
    .ends(0);
    assert!(!lock.out.contains("\"exclusive\": true"), "{}", lock.out);
    // What it needs is what was to go.
    fill(&place, 1);
    restic(&place, &["backup", "-q", "--force", &source]).ends(0);
    place.ark(&["backup", "-q", "--force", &source]).ends(0);
    restic(&place, &["prune"]).ends(11);
    signal(&ours, Signal::CONT);
    ended(ours).ends(0);
    all_is_whole(&place, 3);
}

/// A prune of one and a backup of the other, the second begun when the first has its lock, or at some moment: each ends
/// with 0, or with 11 and without having done anything. Then both are done, and nothing is lost.
fn prune_beside_backup(ours_prunes: bool) {
    let place = place();
    let source = place.text("source");
    fill(&place, 1);
    place.backup();
    let mut snapshots = 1;
    for seed in 2..6 {
        // Something to be freed, and to be written at the same time: half of it shared.
        fill(&place, seed);
        place.backup();
        let listed = restic(&place, &["snapshots", "--json"]).json();
        let oldest = listed[0]["id"].as_str().unwrap().to_owned();
        place.ark(&["forget", &oldest]).ends(0);
        fill(&place, seed + 100);
        let backup = ["backup", "-q", "--force", &source];
        let prune = ["prune", "-q", "--max-unused", "0"];
        let (mut pruning, mut backing_up) = if ours_prunes {
            (place.ark_command(&prune), restic_command(&place, &backup))
        } else {
            (restic_command(&place, &prune), place.ark_command(&backup))
        };
        let (first, second) = if seed % 2 == 0 {
            (&mut backing_up, &mut pruning)
        } else {
            (&mut pruning, &mut backing_up)
        };
        let (first, second) = if seed < 4 {
            // Only at its end, which is short, does our prune exclude others.
            let codes: &[i32] = if ours_prunes && seed % 2 == 1 {
                &[0, 11]
            } else {
                &[11]
            };
            meeting(&place, first, second, codes)
        } else {
            let first = piped(first);
            at_some_moment(seed);
            let second = piped(second);
            (ended(first), ended(second))
        };
        let (pruned, backed_up) = if seed % 2 == 0 {
            (second, first)
        } else {
            (first, second)
        };
        for ran in [&pruned, &backed_up] {
            assert!(
                [Some(0), Some(11)].contains(&ran.code),
                "{:?} {} {}",
                ran.code,
                ran.out,
                ran.err
            );
        }
        snapshots += usize::from(backed_up.code == Some(0));
        restic(&place, &["check"]).ends(0);
        // Who was refused has its turn now.
        if pruned.code == Some(11) {
            Ran::of(pruning.output().unwrap()).ends(0);
        }
        restic(&place, &["check", "--read-data"]).ends(0);
    }
    all_is_whole(&place, snapshots);
}

#[test]
fn our_prune_and_restics_backup() {
    prune_beside_backup(true);
}

#[test]
fn restics_prune_and_our_backup() {
    prune_beside_backup(false);
}
