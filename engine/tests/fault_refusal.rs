//! A store that refuses to hand out what it holds, as with an expired token or a bad sector: nobody
//! takes that for damage, and nothing is changed or removed for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ark_engine::{
    Cancel, Class, Error, OpenOptions, Progress, Repository, Result, Secret, Store, StoreConfig,
    check,
    maintain::{
        CopyRequest, PruneRequest, RepairSnapshotsRequest, Unused, copy, prune, repair_index,
        repair_snapshots,
    },
    storage::fault::{Fault, Faults, Operation},
};
use common::{Bench, PASSWORD, files, trees};

/// The content of all files below a directory but for locks.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = files(dir).into_iter();
    let kept = paths.filter(|path| !path.starts_with(dir.join("locks")));
    kept.map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

/// A repository with two snapshots, one of them to be pruned, and a switch: what begins with these
/// words is refused while it is on.
struct Refusing {
    bench: Bench,
    repo: Repository,
    on: Arc<AtomicBool>,
}

impl Refusing {
    fn new(refused: &'static [&'static str]) -> Self {
        let bench = Bench::new();
        trees::plain(&bench.source(), 14, 20_000);
        let repo = bench.init();
        bench.archive(&repo);
        trees::plain(&bench.source(), 18, 20_000);
        bench.archive(&repo);
        let on = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&on);
        let faults = Faults::new(move |call| {
            let named = refused.iter().any(|start| call.path.starts_with(start));
            if switch.load(Ordering::Relaxed) && call.operation == Operation::Read && named {
                Fault::Refuse
            } else {
                Fault::None
            }
        });
        let store = bench.store().with_faults(&faults);
        let handle = bench.runtime.handle().clone();
        let repo = Repository::open(
            store,
            &[Secret::new(PASSWORD)],
            OpenOptions::default(),
            handle,
        );
        Self {
            repo: repo.unwrap(),
            bench,
            on,
        }
    }

    /// Does something while the store refuses: it fails for that reason, and the repository stays
    /// as it was.
    fn fails<T: std::fmt::Debug>(&self, what: &str, work: impl Fn(&Repository) -> Result<T>) {
        let before = content(&self.bench.repo_dir());
        self.on.store(true, Ordering::Relaxed);
        let error = work(&self.repo).expect_err(what);
        self.on.store(false, Ordering::Relaxed);
        assert!(!error.is_content(), "{what}: {error}");
        assert!(
            content(&self.bench.repo_dir()) == before,
            "{what} changed the repository"
        );
    }
}

/// Every work that judges the repository, or removes something of it.
fn all_fail(refusing: &Refusing) {
    let cancel = Cancel::new();
    let progress = Progress::new();
    let snapshots = refusing.bench.open().snapshots().unwrap();
    refusing.fails("a check of everything", |repo| check(repo, true, &cancel));
    refusing.fails("a repair of the index", |repo| {
        repair_index(repo, true, false, &cancel)
    });
    refusing.fails("a repair of snapshots", |repo| {
        let request = RepairSnapshotsRequest {
            forget: true,
            ..RepairSnapshotsRequest::new(snapshots.clone())
        };
        repair_snapshots(repo, &request, &progress, &cancel)
    });
    refusing.fails("a prune", |repo| {
        let request = PruneRequest {
            max_unused: Unused::Percent(0),
            ..PruneRequest::default()
        };
        prune(repo, &request, &progress, &cancel)
    });
    let elsewhere = Bench::new();
    let destination = elsewhere.init();
    refusing.fails("a copy", |repo| {
        copy(
            repo,
            &destination,
            &CopyRequest::new(snapshots.clone()),
            &progress,
            &cancel,
        )
    });
    assert_eq!(destination.snapshots().unwrap(), []);
    // Nothing was wrong with it.
    refusing.bench.restic().check();
}

#[test]
fn packs_that_the_store_does_not_hand_out_are_not_damaged() {
    let refusing = Refusing::new(&["data/"]);
    all_fail(&refusing);
}

#[test]
fn index_files_that_the_store_does_not_hand_out_are_not_damaged() {
    let refusing = Refusing::new(&["index/"]);
    all_fail(&refusing);
}

/// A directory is in two packs. One of them is really damaged, and the store refuses the other.
#[test]
fn a_refused_copy_of_a_damaged_directory_is_not_taken_for_lost() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 5, 2000);
    common::settle(&bench.source());
    let repo = bench.init();
    bench.archive(&repo);
    let first = files(&bench.repo_dir().join("data"));
    let index = files(&bench.repo_dir().join("index"));
    let hidden = tempfile::tempdir().unwrap();
    for file in &index {
        fs::rename(file, hidden.path().join(file.file_name().unwrap())).unwrap();
    }
    bench.archive(&repo);
    for file in &index {
        fs::rename(hidden.path().join(file.file_name().unwrap()), file).unwrap();
    }
    let second: Vec<_> = files(&bench.repo_dir().join("data"))
        .into_iter()
        .filter(|pack| !first.contains(pack))
        .collect();
    for (damaged, refused) in [(&first, &second), (&second, &first)] {
        let kept: Vec<_> = damaged.iter().map(|pack| fs::read(pack).unwrap()).collect();
        for (pack, bytes) in damaged.iter().zip(&kept) {
            fs::write(pack, vec![0; bytes.len()]).unwrap();
        }
        let names: Vec<String> = refused
            .iter()
            .map(|pack| pack.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        let faults = Faults::new(move |call| {
            let refused = names.iter().any(|name| call.path.ends_with(name.as_str()));
            if call.operation == Operation::Read && refused {
                Fault::Refuse
            } else {
                Fault::None
            }
        });
        let store = bench.store().with_faults(&faults);
        let handle = bench.runtime.handle().clone();
        let repo = Repository::open(
            store,
            &[Secret::new(PASSWORD)],
            OpenOptions::default(),
            handle,
        )
        .unwrap();
        let before = content(&bench.repo_dir());
        let request = RepairSnapshotsRequest {
            forget: true,
            ..RepairSnapshotsRequest::new(repo.snapshots().unwrap())
        };
        let error =
            repair_snapshots(&repo, &request, &Progress::new(), &Cancel::new()).unwrap_err();
        assert!(!error.is_content(), "{error}");
        assert!(content(&bench.repo_dir()) == before);
        for (pack, bytes) in damaged.iter().zip(kept) {
            fs::write(pack, bytes).unwrap();
        }
    }
    bench.restic().check();
}

/// The store hands out directories and no content of files: what was there stays as it was, and is
/// said.
#[test]
fn a_restore_keeps_old_files_whose_content_the_store_refuses() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 6, 300_000);
    let repo = bench.init();
    let snapshot = bench.archive(&repo).snapshot_id;
    bench.restore(&repo, &snapshot);
    let restored = files(&bench.target());
    for path in &restored {
        fs::write(path, format!("older {}", path.display())).unwrap();
    }
    let before = content(&bench.target());
    let mut packs = files(&bench.repo_dir().join("data"));
    packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
    // The smallest holds the directories.
    let names: Vec<String> = packs[1..]
        .iter()
        .map(|pack| pack.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let faults = Faults::new(move |call| {
        let refused = names.iter().any(|name| call.path.ends_with(name.as_str()));
        if call.operation == Operation::Read && refused {
            Fault::Refuse
        } else {
            Fault::None
        }
    });
    let store = bench.store().with_faults(&faults);
    let handle = bench.runtime.handle().clone();
    let options = OpenOptions::default();
    let refusing = Repository::open(store, &[Secret::new(PASSWORD)], options, handle).unwrap();
    let report = bench.restore(&refusing, &snapshot);
    assert_eq!(report.errors.len(), restored.len(), "{:?}", report.errors);
    assert!(content(&bench.target()) == before);
    let report = bench.restore(&repo, &snapshot);
    assert_eq!(report.errors, []);
    common::compare::assert_same(&bench.source(), &bench.target());
}

/// Something else lies where the store was: an empty directory in place of a disk that is not
/// mounted any more.
#[test]
fn a_store_whose_directory_was_replaced_is_not_empty() {
    let bench = Bench::new();
    trees::plain(&bench.source(), 3, 2000);
    let repo = bench.init();
    bench.archive(&repo);
    fs::rename(bench.repo_dir(), bench.dir.path().join("away")).unwrap();
    fs::create_dir(bench.repo_dir()).unwrap();
    let runtime = &bench.runtime;
    let gone = |error: Error| assert!(matches!(&error, Error::NoStore { .. }), "{error}");
    let store = bench.store();
    fs::rename(bench.repo_dir(), bench.dir.path().join("away too")).unwrap();
    fs::create_dir(bench.repo_dir()).unwrap();
    gone(runtime.block_on(store.list("data")).unwrap_err());
    gone(check(&repo, true, &Cancel::new()).unwrap_err());
    gone(
        prune(
            &repo,
            &PruneRequest::default(),
            &Progress::new(),
            &Cancel::new(),
        )
        .unwrap_err(),
    );
    assert_eq!(files(&bench.repo_dir()), [] as [PathBuf; 0]);
}

#[test]
fn an_object_that_is_too_short_is_damaged_and_one_that_cannot_be_read_is_not() {
    let root = tempfile::tempdir().unwrap();
    let config = StoreConfig::Local {
        root: root.path().to_owned(),
    };
    let store = Store::open(&config).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(store.write("a", "four".into())).unwrap();
    let short = runtime.block_on(store.read_range("a", 0, 5)).unwrap_err();
    assert!(
        matches!(&short, Error::ObjectShort { .. }) && short.is_content(),
        "{short}"
    );
    let refused = Error::Store {
        location: String::new(),
        operation: "read",
        path: "a".to_owned(),
        message: "Input/output error".to_owned(),
        temporary: false,
    };
    assert!(!refused.is_content() && refused.is_of_one_object());
    assert_eq!(refused.class(), Class::Permanent);
    for none in [Error::Cancelled, Error::Bug(String::new())] {
        assert!(!none.is_of_one_object());
    }
}
