//! A prune without anybody beside it: what it leaves when it died, how far it goes, and when it
//! does not.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ark_engine::{
    Cancel, Error, FormatVersion, Progress,
    maintain::{PruneRequest, Unused, prune},
    storage::fault::{Fault, Faults, Operation},
};

use super::{
    common::{files, restic::Restic},
    everything, open, prepared, pruned,
};

fn stored(root: &Path) -> u64 {
    let packs = files(&root.join("data"));
    packs
        .iter()
        .map(|pack| fs::metadata(pack).unwrap().len())
        .sum()
}

/// What a prune that died had copied is taken by the next one, and not copied again.
#[test]
fn what_was_copied_is_not_copied_again() {
    let bench = prepared(FormatVersion::V2);
    let root = bench.repo_dir();
    let handle = bench.runtime.handle();
    let locks = AtomicU64::new(0);
    // It dies when it wants to be alone.
    let faults = Faults::new(move |call| {
        let is_lock = call.operation == Operation::Write && call.path.starts_with("locks/");
        if locks.fetch_add(u64::from(is_lock), Ordering::SeqCst) >= 2 {
            Fault::Refuse
        } else {
            Fault::None
        }
    });
    let repo = open(&root, Some(&faults), handle);
    let before = stored(&root);
    pruned(&repo).unwrap_err();
    let copied = stored(&root) - before;
    assert!(copied > 0);
    let repo = open(&root, None, handle);
    repo.unlock(true, &Cancel::new()).unwrap();
    let packs = files(&root.join("data"));
    let report = pruned(&repo).unwrap();
    assert_eq!(
        (report.repacked_blobs, report.unused_bytes),
        (0, 0),
        "{report:?}"
    );
    assert!(
        files(&root.join("data"))
            .iter()
            .all(|pack| packs.contains(pack))
    );
    assert!(stored(&root) < before);
    Restic::newest(&root).check();
}

#[test]
fn a_dry_run_says_what_a_run_does() {
    for (max_unused, max_repack) in [
        (Unused::Bytes(0), None),
        (Unused::Percent(5), None),
        (Unused::Unlimited, None),
        (Unused::Bytes(0), Some(60_000)),
        (Unused::Bytes(0), Some(0)),
    ] {
        let bench = prepared(FormatVersion::V2);
        let repo = open(&bench.repo_dir(), None, bench.runtime.handle());
        // Of no index.
        let stray = bench.repo_dir().join("data/00").join("0".repeat(64));
        fs::create_dir_all(stray.parent().unwrap()).unwrap();
        fs::write(&stray, "of a backup that was killed").unwrap();
        let request = PruneRequest {
            max_unused,
            max_repack,
            strays_older_than: Duration::ZERO,
            ..PruneRequest::default()
        };
        let run = |dry_run| {
            let request = PruneRequest {
                dry_run,
                ..request.clone()
            };
            prune(&repo, &request, &Progress::new(), &Cancel::new()).unwrap()
        };
        let before = files(&bench.repo_dir());
        let would = run(true);
        assert_eq!(files(&bench.repo_dir()), before);
        assert_eq!(would.unreferenced_packs, 1);
        let did = run(false);
        assert_eq!(would, did);
        assert!(!stray.exists());
        let most = max_repack.unwrap_or(u64::MAX);
        assert!(did.repacked_bytes <= most, "{did:?}");
        bench.restic().check();
    }
}

/// After its time nothing more is written anew; what is not used at all goes nevertheless.
#[test]
fn a_prune_whose_time_is_over_still_ends_well() {
    let bench = prepared(FormatVersion::V2);
    let repo = open(&bench.repo_dir(), None, bench.runtime.handle());
    let request = PruneRequest {
        max_time: Some(Duration::ZERO),
        ..everything()
    };
    let report = prune(&repo, &request, &Progress::new(), &Cancel::new()).unwrap();
    assert_eq!(report.repacked_blobs, 0);
    assert!(report.unused_bytes > 0);
    bench.restic().check();
    assert!(pruned(&repo).unwrap().repacked_blobs > 0);
    bench.restic().check();
}

/// Nothing is removed when the store's clock and ours disagree, or when something was written after
/// all were locked out.
#[test]
fn nothing_is_removed_while_clocks_disagree() {
    let bench = prepared(FormatVersion::V2);
    let repo = open(&bench.repo_dir(), None, bench.runtime.handle());
    let packs = files(&bench.repo_dir().join("data"));
    let pack = packs[0].clone();
    let set_time = |time| {
        for pack in &packs {
            fs::File::open(pack).unwrap().set_modified(time).unwrap();
        }
    };
    let now = std::time::SystemTime::now();
    set_time(now + Duration::from_mins(3));
    let error = pruned(&repo).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(packs.iter().all(|pack| pack.exists()));
    set_time(now);

    // A store that says its lock files are an hour old.
    let root = bench.repo_dir();
    let locks = root.join("locks");
    let faults = Faults::new(move |call| {
        if call.operation == Operation::Stat && call.path.starts_with("locks/") {
            let old = std::time::SystemTime::now() - Duration::from_hours(1);
            for lock in files(&locks) {
                fs::File::open(lock).unwrap().set_modified(old).unwrap();
            }
        }
        Fault::None
    });
    let repo = open(&root, Some(&faults), bench.runtime.handle());
    let error = pruned(&repo).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("clock"), "{error}");
    assert!(pack.exists());
    bench.restic().check();
    let repo = open(&root, None, bench.runtime.handle());
    pruned(&repo).unwrap();
}

/// A blob that has become bad is not carried into a new pack, and the pack it is in stays.
#[test]
fn damage_is_not_copied() {
    let bench = prepared(FormatVersion::V2);
    let root = bench.repo_dir();
    let repo = open(&root, None, bench.runtime.handle());
    for pack in files(&root.join("data")) {
        let mut bytes = fs::read(&pack).unwrap();
        // In packs of file content: directories are small.
        if bytes.len() > 50_000 {
            for byte in bytes.iter_mut().step_by(9000) {
                *byte ^= 1;
            }
            fs::write(&pack, bytes).unwrap();
        }
    }
    let before = files(&root.join("data"));
    let error = pruned(&repo).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    let after = files(&root.join("data"));
    assert!(before.iter().all(|pack| after.contains(pack)));
}

/// A program that takes no lock may be about to name what it wrote: strays stay for a day, by the
/// store's clock. So do uploads that are not finished, which no listing shows.
#[test]
fn strays_and_unfinished_uploads_go_only_when_they_are_a_day_old() {
    let bench = prepared(FormatVersion::V2);
    let repo = open(&bench.repo_dir(), None, bench.runtime.handle());
    let data = bench.repo_dir().join("data");
    let hours = |hours| std::time::SystemTime::now() - Duration::from_hours(hours);
    let put = |dir: &str, name: &str, age| {
        let path = data.join(dir).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "of a backup").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(hours(age)).unwrap();
        path
    };
    let [old, young] = [("00", 25), ("11", 23)].map(|(dir, age)| put(dir, &dir.repeat(32), age));
    let name = |random: &str| format!("{}-tmp-{random}", "00".repeat(32));
    let old_upload = put("00", &name("0123456789abcdef"), 25);
    let young_upload = put("00", &name("fedcba9876543210"), 23);
    let not_ours = put("00", "notes-tmp-1", 1000);
    let request = PruneRequest {
        max_unused: Unused::Unlimited,
        ..PruneRequest::default()
    };
    let run = |dry_run| {
        let request = PruneRequest {
            dry_run,
            ..request.clone()
        };
        prune(&repo, &request, &Progress::new(), &Cancel::new()).unwrap()
    };
    let would = run(true);
    assert!(old.exists() && old_upload.exists());
    let did = run(false);
    assert_eq!(would, did);
    let counts = (
        did.unreferenced_packs,
        did.young_packs,
        did.unfinished_files,
    );
    assert_eq!(counts, (1, 1, 1), "{did:?}");
    assert!(!old.exists() && !old_upload.exists());
    assert!(young.exists() && young_upload.exists() && not_ours.exists());
    let checked = ark_engine::check(&repo, false, &Cancel::new()).unwrap();
    assert!(checked.is_ok());
    assert_eq!(checked.unfinished_files, 1, "{checked:?}");
}
