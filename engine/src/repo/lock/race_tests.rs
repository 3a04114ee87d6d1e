use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::*;
use crate::{OpenOptions, StoreConfig, restore::forge::Forge};

const RIVALS: u64 = 6;
const ROUNDS: u64 = 150;
/// How long they go on until one of them was alone.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who holds what, by a look that cannot be wrong.
#[derive(Debug, Default)]
struct Held {
    shared: u64,
    exclusive: u64,
}

/// Without any wait between writing and looking, on a file system of this machine.
#[test]
fn of_rivals_that_do_not_wait_at_most_one_excludes_the_others() {
    let forge = Forge::new();
    let held = Mutex::new(Held::default());
    let had = [AtomicU64::new(0), AtomicU64::new(0)];
    let refused = AtomicU64::new(0);
    let begun = Instant::now();
    let rival = |n: u64| {
        // Of one machine, but perhaps one that is not known to be.
        let repo = forge.another(OpenOptions {
            lock_timing: LockTiming {
                settle: Some(Duration::ZERO),
                ..LockTiming::default()
            },
            ..OpenOptions::default()
        });
        let cancel = Cancel::new();
        // On a busy machine it may take long until somebody is alone.
        let more = |round| {
            let alone = had[usize::from(true)].load(Ordering::Relaxed) > 0;
            round < ROUNDS || (!alone && begun.elapsed() < PATIENCE)
        };
        for round in (0..).take_while(|round| more(*round)) {
            let kind = if (n + round).is_multiple_of(3) {
                Locked::Exclusive
            } else {
                Locked::Shared
            };
            let guard = match forge.runtime.block_on(repo.try_lock(kind, &cancel)) {
                Ok(guard) => guard,
                Err(Error::Locked { .. }) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            {
                let mut held = held.lock().unwrap();
                match kind {
                    Locked::Shared => held.shared += 1,
                    Locked::Exclusive => held.exclusive += 1,
                }
                let alone = held.exclusive == 0 || (held.exclusive == 1 && held.shared == 0);
                assert!(alone, "{held:?} in round {round}");
            }
            had[usize::from(kind == Locked::Exclusive)].fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
            {
                let mut held = held.lock().unwrap();
                match kind {
                    Locked::Shared => held.shared -= 1,
                    Locked::Exclusive => held.exclusive -= 1,
                }
            }
            forge.runtime.block_on(guard.release(&cancel));
        }
    };
    std::thread::scope(|scope| {
        for n in 0..RIVALS {
            let rival = &rival;
            scope.spawn(move || rival(n));
        }
    });
    let [shared, exclusive] = had.map(AtomicU64::into_inner);
    // Both kinds were had, and there were races.
    assert!(
        shared > 0 && exclusive > 0 && refused.into_inner() > 0,
        "{shared} shared, {exclusive} exclusive"
    );
    let left = std::fs::read_dir(forge.dir.path().join("repo/locks")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn nobody_waits_on_a_file_system_of_this_machine_and_everybody_elsewhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let wait = |timing: LockTiming, config: &StoreConfig| {
        let store = Store::open(config).unwrap();
        runtime.block_on(timing.settling(&store))
    };
    // Not on a disk, but of one machine.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let here = StoreConfig::Local {
        root: dir.path().to_owned(),
    };
    let usual = LockTiming::default();
    // What its file system is, is not known before there is one.
    assert_eq!(wait(usual, &here), SETTLE);
    std::fs::create_dir(dir.path().join("locks")).unwrap();
    assert_eq!(wait(usual, &here), Duration::ZERO);
    let said = LockTiming {
        settle: Some(Duration::from_secs(3)),
        ..usual
    };
    assert_eq!(wait(said, &here), Duration::from_secs(3));
    let elsewhere = StoreConfig::Local {
        root: "/proc/self".into(),
    };
    assert_eq!(wait(usual, &elsewhere), SETTLE);
}
