//! Fingerprints: what did not change is found by them, and whatever happens to them costs time and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use ark_engine::{
    ArchiveReport, ArchiveRequest, Cancel, OpenOptions, Outcome, Progress, Repository, Secret,
    archive::{Chunking, StateReport, StateRequest},
    check,
    maintain::{Forget, PruneRequest, Unused, forget, prune},
    storage::fault::{Fault, Faults, Operation},
};
use common::{Bench, PASSWORD, archive, compare::assert_same, files, trees};

const MIB: u64 = 1 << 20;

/// Pages of a PostgreSQL relation, each with other rows.
fn relation(seed: u64, pages: usize) -> Vec<u8> {
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
struct Volume {
    bench: Bench,
    repo: Repository,
}

impl Volume {
    /// Files of each way of cutting and reading; the last is too small to be remembered.
    fn new() -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.bench.source().join(name)
    }

    fn write(&self, name: &str, data: &[u8]) {
        fs::write(self.path(name), data).unwrap();
    }

    fn state_dir(&self) -> PathBuf {
        self.bench.dir.path().join("state")
    }

    /// The state; there is only one.
    fn state(&self) -> PathBuf {
        let [file] = <[_; 1]>::try_from(files(&self.state_dir())).expect("one file");
        file
    }

    fn request(&self) -> ArchiveRequest {
        ArchiveRequest {
            reread_all: true,
            state: Some(StateRequest::new(self.state_dir())),
            ..self.bench.request()
        }
    }

    fn archive(&self) -> (ArchiveReport, StateReport) {
        let report = archive(&self.repo, &self.request()).unwrap();
        let state = report.state.clone().unwrap();
        (report, state)
    }

    /// Everything is hashed in full.
    fn archive_without(&self) -> ArchiveReport {
        let request = ArchiveRequest {
            state: None,
            ..self.request()
        };
        archive(&self.repo, &request).unwrap()
    }

    fn new_blobs(&self, report: &ArchiveReport) -> i64 {
        let snapshot = self.repo.find_snapshot(&report.snapshot_id).unwrap();
        snapshot.summary.unwrap().data_blobs
    }

    /// The snapshot holds the source as it is, which a restore compares with the ids, and the repository is whole.
    fn assert_right(&self, report: &ArchiveReport) {
        assert_eq!(report.outcome(), Outcome::Complete, "{:?}", report.errors);
        let target = tempfile::tempdir_in(self.bench.dir.path()).unwrap();
        common::restore(&self.repo, &report.snapshot_id, target.path()).unwrap();
        assert_same(&self.bench.source(), target.path());
        let found = check(&self.repo, false, &Cancel::new()).unwrap();
        assert!(found.is_ok(), "{found:?}");
    }

    /// Backed up with the state and without it, the blobs are the same.
    fn assert_as_without(&self) -> StateReport {
        let without = self.archive_without();
        assert!(without.state.is_none());
        let (report, state) = self.archive();
        assert_eq!(self.new_blobs(&report), 0, "cut as without a state");
        self.assert_right(&report);
        state
    }
}

/// Bytes of all files that are remembered.
const ALL: u64 = (8 + 2 + 12 + 3) * MIB;

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
    // Files of pages are always read; of the others only the one that is new.
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

/// Bytes go in and out at random places, so that chunks move, join and part; ends move; holes come and go.
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
    // Cut in another way: nothing of a content-defined chunk is taken for a fixed one, or the other way around.
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
fn an_old_state_whose_blobs_were_pruned_away_costs_time() {
    let volume = Volume::new();
    let (first, _) = volume.archive();
    let old = fs::read(volume.state()).unwrap();
    let saved = volume.bench.dir.path().join("saved");
    fs::create_dir(&saved).unwrap();
    for name in ["relation", "noise", "relation.1", "noise.1"] {
        fs::rename(volume.path(name), saved.join(name)).unwrap();
    }
    volume.archive();
    forget(
        &volume.repo,
        &Forget::Ids(vec![first.snapshot_id]),
        false,
        &Cancel::new(),
    )
    .unwrap();
    let all = PruneRequest {
        max_unused: Unused::Bytes(0),
        ..PruneRequest::default()
    };
    let pruned = prune(&volume.repo, &all, &Progress::new(), &Cancel::new()).unwrap();
    assert!(pruned.deleted_bytes + pruned.repack_dropped_bytes > 20 * MIB);
    for name in ["relation", "noise", "relation.1", "noise.1"] {
        fs::rename(saved.join(name), volume.path(name)).unwrap();
    }
    // Its name is that of the volume, whatever is in it.
    let path = volume.state_dir();
    let name = fs::read_dir(&path)
        .unwrap()
        .next()
        .map(|entry| entry.unwrap().path());
    assert!(name.is_none(), "nothing was remembered");
    volume.archive();
    fs::write(volume.state(), &old).unwrap();
    forget_all(&volume.repo);
    prune(&volume.repo, &all, &Progress::new(), &Cancel::new()).unwrap();
    let (report, state) = volume.archive();
    assert_eq!((state.blocks, state.problem), (0, None));
    assert!(state.looked_up > 0);
    volume.assert_right(&report);
}

fn forget_all(repo: &Repository) {
    let ids = repo
        .snapshots()
        .unwrap()
        .into_iter()
        .map(|snapshot| snapshot.id);
    forget(repo, &Forget::Ids(ids.collect()), false, &Cancel::new()).unwrap();
}

#[test]
fn a_damaged_state_costs_time() {
    let volume = Volume::new();
    volume.archive();
    let path = volume.state();
    let good = fs::read(&path).unwrap();
    // Header, records, table, end; cut off; nothing; something else.
    let mut bad: Vec<Vec<u8>> = [3, 20, 60, 3000, good.len() - 40_000, good.len() - 3]
        .map(|at| {
            let mut bad = good.clone();
            bad[at] ^= 4;
            bad
        })
        .into();
    bad.extend([0, 40, good.len() / 2, good.len() - 1].map(|len| good[..len].to_vec()));
    bad.push(trees::noise(1, good.len()));
    for bad in bad {
        fs::write(&path, &bad).unwrap();
        let (report, state) = volume.archive();
        assert!(state.bytes < ALL && state.problem.is_some(), "{state:?}");
        assert!(state.written.is_some());
        assert_eq!(volume.new_blobs(&report), 0);
        // Made good.
        let (_, state) = volume.archive();
        assert_eq!((state.bytes, state.problem), (ALL, None));
    }
    volume.assert_right(&volume.archive().0);
}

#[test]
fn a_state_of_another_volume_or_repository_costs_time() {
    let (volume, other) = (Volume::new(), Volume::new());
    volume.archive();
    other.archive();
    let elsewhere = ArchiveRequest {
        snapshot_path: "/test/elsewhere".to_owned(),
        state: Some(StateRequest::new(volume.bench.dir.path().join("elsewhere"))),
        ..volume.request()
    };
    archive(&volume.repo, &elsewhere).unwrap();
    let mut foreign = files(&volume.bench.dir.path().join("elsewhere"));
    foreign.push(other.state());
    for foreign in foreign {
        fs::copy(&foreign, volume.state()).unwrap();
        let (report, state) = volume.archive();
        assert_eq!(state.looked_up, 0);
        assert!(state.problem.unwrap().contains("not authentic"));
        volume.assert_right(&report);
    }
    // Side by side in one directory they do not meet.
    let both = ArchiveRequest {
        snapshot_path: "/test/elsewhere".to_owned(),
        ..volume.request()
    };
    archive(&volume.repo, &both).unwrap();
    assert_eq!(volume.archive().1.bytes, ALL);
    let report = archive(&volume.repo, &both).unwrap();
    assert_eq!(report.state.unwrap().bytes, ALL);
}

/// The state's directory goes, at the beginning, in the middle, or when the snapshot is being written.
#[test]
fn a_state_that_goes_while_a_backup_runs_costs_time() {
    for (operation, prefix, found) in [
        (Operation::Read, "index/", 0),
        (Operation::Write, "snapshots/", ALL),
    ] {
        let volume = Volume::new();
        volume.archive();
        volume.write("more", &trees::noise(8, 2 << 20));
        let dir = volume.state_dir();
        let faults = Faults::new(move |call| {
            if call.operation == operation && call.path.starts_with(prefix) {
                match fs::remove_dir_all(&dir) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                    _ => {}
                }
            }
            Fault::None
        });
        let store = volume.bench.store().with_faults(&faults);
        let handle = volume.bench.runtime.handle().clone();
        let secrets = [Secret::new(PASSWORD)];
        let repo = Repository::open(store, &secrets, OpenOptions::default(), handle).unwrap();
        let report = archive(&repo, &volume.request()).unwrap();
        let state = report.state.clone().unwrap();
        assert_eq!(state.bytes, found);
        // Removed before the state is opened, it is made anew.
        assert_eq!(state.written.is_some(), found == 0, "{state:?}");
        assert_eq!(state.problem.is_some(), found > 0, "{state:?}");
        volume.assert_right(&report);
        volume.archive();
        assert_eq!(volume.archive().1.bytes, ALL + 2 * MIB);
    }
}

fn mount(dir: &Path, size: &str) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", size, "tmpfs"])
        .arg(dir)
        .status()
        .unwrap();
    assert!(
        mounted.success(),
        "this test mounts a small tmpfs, which needs root"
    );
}

#[test]
fn a_full_disk_costs_the_new_state_only() {
    let volume = Volume::new();
    let dir = volume.state_dir();
    fs::create_dir(&dir).unwrap();
    // Room for one state of two segments, not for two.
    mount(&dir, "size=200k");
    let (first, state) = volume.archive();
    let written = (state.written, state.problem);
    volume.write("more", &trees::noise(8, 2 << 20));
    let (second, state) = volume.archive();
    let (_, later) = volume.archive();
    let left = files(&dir);
    assert!(Command::new("umount").arg(&dir).status().unwrap().success());
    assert!(written.0.is_some() && written.1.is_none(), "{written:?}");
    assert_eq!((state.bytes, state.written), (ALL, None));
    assert!(state.problem.unwrap().contains("cannot be written"));
    assert_eq!(later.bytes, ALL, "the one before is still good");
    assert_eq!(left.len(), 1, "{left:?}");
    volume.assert_right(&second);
    assert_eq!(first.outcome(), Outcome::Complete);

    // A directory that cannot be made.
    let request = ArchiveRequest {
        state: Some(StateRequest::new(volume.path("small").join("no directory"))),
        ..volume.request()
    };
    let report = archive(&volume.repo, &request).unwrap();
    assert!(report.state.as_ref().unwrap().problem.is_some());
    volume.assert_right(&report);
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

/// A file that grows and one that is cut short while they are read are rows, and what is remembered of them is right.
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
