//! Fingerprints: what did not change is found by them, and whatever happens to them costs time and
//! nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;
#[path = "engine_fingerprints/harm.rs"]
mod harm;
#[path = "engine_fingerprints/volume.rs"]
#[allow(unreachable_pub, reason = "it is a test's own")]
mod volume;

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use ark_engine::{
    ArchiveRequest, Outcome,
    archive::{Chunking, StateRequest},
};
use common::{archive, files, trees};
use volume::{ALL, MIB, Volume, relation};

#[test]
fn what_did_not_change_is_found_and_what_did_is_stored() {
    let volume = Volume::new();
    let (first, state) = volume.archive();
    assert_eq!(
        (state.blocks, state.looked_up, &state.problem),
        (0, 0, &None)
    );
    assert_eq!(
        state.written,
        Some(fs::metadata(volume.state()).unwrap().len())
    );
    assert!(state.written.unwrap() < ALL / 200);
    volume.assert_right(&first);

    let before = fs::read(volume.state()).unwrap();
    let (second, state) = volume.archive();
    assert_eq!(
        (state.bytes, state.written, state.problem),
        (ALL, None, None)
    );
    assert_eq!(state.blocks, state.looked_up);
    assert_eq!(volume.new_blobs(&second), 0);
    assert!(
        fs::read(volume.state()).unwrap() == before,
        "nothing to write"
    );
    volume.assert_right(&second);

    // One byte of a page, and one of a chunk.
    for (name, at) in [("relation", 3 * MIB + 5), ("noise", 9 * MIB + 7)] {
        let file = fs::File::options()
            .write(true)
            .open(volume.path(name))
            .unwrap();
        file.write_all_at(b"changed", at).unwrap();
    }
    let (third, state) = volume.archive();
    assert_eq!(volume.new_blobs(&third), 2);
    assert!(
        state.bytes < ALL - 64 * 1024 && state.bytes > ALL - 10 * MIB,
        "{state:?}"
    );
    assert!(state.written.is_some());
    volume.assert_right(&third);
    let (_, state) = volume.archive();
    assert_eq!((state.bytes, state.written), (ALL, None));
}

#[test]
fn files_that_are_not_read_stay_remembered() {
    let volume = Volume::new();
    common::settle(&volume.bench.source());
    let usual = ArchiveRequest {
        reread_all: false,
        ..volume.request()
    };
    archive(&volume.repo, &usual).unwrap();
    // What was touched is read, and what is new.
    let long_ago = SystemTime::now() - Duration::from_hours(1);
    for name in ["relation", "relation.1"] {
        let file = fs::File::options().write(true).open(volume.path(name));
        file.unwrap().set_modified(long_ago).unwrap();
    }
    volume.write("noise.2", &trees::noise(6, 2 << 20));
    let report = archive(&volume.repo, &usual).unwrap();
    assert_eq!(report.files_unchanged, 3);
    let state = report.state.unwrap();
    assert_eq!((state.bytes, state.written.is_some()), (10 * MIB, true));
    let (_, state) = volume.archive();
    assert_eq!((state.bytes, state.written), (ALL + 2 * MIB, None));
    // What is gone is forgotten.
    let size = fs::metadata(volume.state()).unwrap().len();
    fs::remove_file(volume.path("noise")).unwrap();
    fs::remove_file(volume.path("relation")).unwrap();
    let (_, state) = volume.archive();
    assert!(state.written.unwrap() <= size);
    assert_eq!(state.bytes, ALL + 2 * MIB - 20 * MIB);
    for name in ["noise.1", "noise.2", "relation.1"] {
        fs::remove_file(volume.path(name)).unwrap();
    }
    volume.archive();
    assert_eq!(files(&volume.state_dir()), [] as [PathBuf; 0]);
}

/// Bytes go in and out at random places, so that chunks move, join and part; ends move; holes come
/// and go.
#[test]
fn chunks_end_where_they_would_without_a_state() {
    let volume = Volume::new();
    volume.archive();
    let mut random = 77_u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    let mut found = 0;
    for round in 0..6 {
        for name in ["noise", "noise.1"] {
            let mut data = fs::read(volume.path(name)).unwrap();
            for edit in 0..=next(4) {
                let at = next(data.len());
                let len = next(200_000).min(data.len() - at);
                match next(5) {
                    0 => drop(data.drain(at..at + len)),
                    1 => drop(data.splice(at..at, trees::noise(round * 10 + edit as u64, len))),
                    2 => data[at..at + len].fill(0),
                    3 => data[at] ^= 1,
                    _ => data.truncate(data.len() - len / 4),
                }
            }
            volume.write(name, &data);
        }
        if round == 3 {
            // Behind a hole chunks begin anew.
            let file = fs::File::options()
                .write(true)
                .open(volume.path("noise"))
                .unwrap();
            let end = file.metadata().unwrap().len();
            file.set_len(end + 20 * MIB).unwrap();
            file.write_all_at(&trees::noise(9, 3 << 20), end + 20 * MIB)
                .unwrap();
        }
        let state = volume.assert_as_without();
        assert_eq!(state.problem, None);
        found += state.bytes;
    }
    assert!(found > 6 * 14 * MIB, "{found}");
    // Cut in another way: nothing of a content-defined chunk is taken for a fixed one, or the other
    // way around.
    for chunking in [Chunking::Fixed, Chunking::Rabin] {
        let request = ArchiveRequest {
            chunking,
            ..volume.request()
        };
        let without = ArchiveRequest {
            state: None,
            ..request.clone()
        };
        archive(&volume.repo, &without).unwrap();
        let report = archive(&volume.repo, &request).unwrap();
        assert_eq!(volume.new_blobs(&report), 0);
        volume.assert_right(&report);
    }
}

#[test]
fn a_state_has_the_size_it_is_given() {
    let volume = Volume::new();
    let small = |bytes| ArchiveRequest {
        state: Some(StateRequest {
            dir: volume.state_dir(),
            bytes,
        }),
        ..volume.request()
    };
    let report = archive(&volume.repo, &small(1000)).unwrap();
    let state = report.state.unwrap();
    assert_eq!(state.written, None);
    assert!(state.problem.unwrap().contains("too large"));
    // One segment of records, and the table: not all blocks.
    volume.write("relation.2", &relation(7, 8 * 900));
    let report = archive(&volume.repo, &small(140_000)).unwrap();
    let state = report.state.clone().unwrap();
    assert!(
        state.written.unwrap() <= 140_000 && state.problem.is_some(),
        "{state:?}"
    );
    let report = archive(&volume.repo, &small(140_000)).unwrap();
    let state = report.state.clone().unwrap();
    assert!(state.bytes > 0, "{state:?}");
    volume.assert_right(&report);
}

#[test]
fn the_volume_read_longest_ago_makes_room_for_another() {
    let volume = Volume::new();
    let run = |host: &str, bytes| {
        let request = ArchiveRequest {
            host: host.to_owned(),
            state: Some(StateRequest {
                dir: volume.state_dir(),
                bytes,
            }),
            ..volume.request()
        };
        archive(&volume.repo, &request).unwrap().state.unwrap()
    };
    let one = run("one", 64 * MIB).written.unwrap();
    let room = 2 * one + one / 2;
    assert_eq!(run("two", room).written, Some(one));
    let long_ago = SystemTime::now() - Duration::from_hours(1);
    for state in files(&volume.state_dir()) {
        let state = fs::File::open(state).unwrap();
        state.set_modified(long_ago).unwrap();
    }
    // Used, and nothing to write.
    assert_eq!(run("one", room).written, None);
    assert_eq!(run("three", room).written, Some(one));
    assert_eq!(files(&volume.state_dir()).len(), 2);
    let again = run("one", room);
    assert_eq!((again.bytes, again.problem), (ALL, None));
    assert_eq!(run("two", room).looked_up, 0, "it had to go");
    assert_eq!(files(&volume.state_dir()).len(), 2);
}

#[test]
fn runs_at_the_same_time_leave_a_whole_state() {
    let volume = Volume::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let (report, _) = volume.archive();
                    assert_eq!(report.outcome(), Outcome::Complete);
                    // So that each writes one.
                    drop(fs::remove_file(volume.state_dir().join("none")));
                }
            });
        }
    });
    let (report, state) = volume.archive();
    assert_eq!((state.bytes, state.problem), (ALL, None));
    assert_eq!(files(&volume.state_dir()).len(), 1, "and nothing else");
    volume.assert_right(&report);
}

/// A file that grows and one that is cut short while they are read are rows, and what is remembered
/// of them is right.
#[test]
fn files_that_change_while_they_are_read_are_remembered_as_they_were_read() {
    let volume = Volume::new();
    volume.archive();
    for round in 0..2_u64 {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..40 {
                    let name = ["relation", "noise"][usize::from(n % 2 == 0)];
                    let file = fs::File::options()
                        .write(true)
                        .open(volume.path(name))
                        .unwrap();
                    let size = file.metadata().unwrap().len();
                    match n % 5 {
                        0 => file.set_len(size - 8192).unwrap(),
                        1 => file.write_all_at(&trees::noise(n, 8192), size).unwrap(),
                        _ => {
                            let at = (n * 7919 + round * 104_729) * 8192 % (size - 8192);
                            file.write_all_at(&trees::noise(n, 8192), at).unwrap();
                        }
                    }
                }
            });
            volume.archive();
            writer.join().unwrap();
        });
        // Now that nothing changes any more.
        let state = volume.assert_as_without();
        assert_eq!(state.problem, None);
    }
}
