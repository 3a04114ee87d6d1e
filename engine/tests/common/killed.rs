//! Work in a process that kills itself (SIGKILL) at a write or removal, or a little later.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ark_engine::{
    Repository, Result,
    storage::fault::{Fault, Faults, Operation},
};
use tokio::runtime::Handle;

use super::{
    points::{self, open_store},
    trees,
};

/// What the child was told.
pub struct Told {
    /// Which work, by its number.
    pub work: usize,
    pub dir: PathBuf,
    /// The plan of its store.
    pub faults: Faults,
    changes: Arc<AtomicU64>,
}

impl Told {
    /// In the child: at which change it dies is in the environment.
    pub fn get() -> Self {
        let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
        let (at, later) = (number("ARK_TEST_WRITE"), number("ARK_TEST_LATER"));
        let changes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&changes);
        let faults = Faults::new(move |call| {
            let is_change = matches!(call.operation, Operation::Write | Operation::Delete);
            if is_change && counted.fetch_add(1, Ordering::SeqCst) + 1 == at {
                die(later);
            }
            Fault::None
        });
        Self {
            work: usize::try_from(number("ARK_TEST_WORK")).unwrap(),
            dir: PathBuf::from(std::env::var_os("ARK_TEST_DIR").unwrap()),
            faults,
            changes,
        }
    }

    /// It came to its end: says how many changes there were.
    pub fn ended(&self) {
        let changes = self.changes.load(Ordering::SeqCst).to_string();
        std::fs::write(self.dir.join("count"), changes).unwrap();
    }
}

fn die(later: u64) {
    let kill = move || {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(later) {
            std::hint::spin_loop();
        }
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
    };
    if later == 0 {
        kill();
    }
    std::thread::spawn(kill);
}

/// Runs a test of this program as the child; with `at` 0 it is not killed.
pub fn child(test: &str, work: usize, dir: &Path, (at, later): (u64, u64)) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .env("ARK_TEST_WORK", work.to_string())
        .env("ARK_TEST_WRITE", at.to_string())
        .env("ARK_TEST_LATER", later.to_string())
        .env("ARK_TEST_DIR", dir)
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

/// How many changes the child's work takes when it is not killed; what it leaves is in `dir`.
pub fn undisturbed(test: &str, work: usize, repo: &Path, dir: &Path) -> u64 {
    points::copy(repo, &dir.join("repo"));
    assert!(child(test, work, dir, (0, 0)).success());
    let count = std::fs::read_to_string(dir.join("count")).unwrap();
    count.parse().unwrap()
}

/// When to kill at a point: each change in turn, then seeded moments.
pub fn moment(point: u64, changes: u64) -> (u64, u64) {
    if point < changes {
        return (point + 1, 0);
    }
    let dice = trees::noise(point * 5 + 3, 4);
    let most = [100, 1000, 8000][usize::from(dice[0]) % 3];
    let later = (u64::from(dice[1]) << 8 | u64::from(dice[2])) % most;
    (u64::from(dice[3]) % changes + 1, later + 1)
}

/// Opens with a short wait for rivals, perhaps with a plan.
pub fn open(
    root: &Path,
    faults: Option<&Faults>,
    password: &str,
    handle: &Handle,
) -> Result<Repository> {
    let store = open_store(root);
    let store = match faults {
        Some(faults) => store.with_faults(faults),
        None => store,
    };
    points::open_with(store, password, handle)
}
