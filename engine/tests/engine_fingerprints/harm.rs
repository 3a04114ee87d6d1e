//! What may happen to a state: it is old, damaged, another's, or gone, or there is no room for it.

use std::{fs, path::Path, process::Command};

use ark_engine::{
    ArchiveRequest, Cancel, OpenOptions, Outcome, Progress, Repository, Secret,
    archive::StateRequest,
    maintain::{Forget, PruneRequest, Unused, forget, prune},
    storage::fault::{Fault, Faults, Operation},
};

use super::{
    common::{PASSWORD, archive, files, trees},
    volume::{ALL, MIB, Volume},
};

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

/// The state's directory goes, at the beginning, in the middle, or when the snapshot is being
/// written.
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
