//! Killed at any moment, a backup leaves a valid repository, and the next one succeeds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use ark_engine::{Cancel, OpenOptions, Outcome, Progress, Repository, Secret, Store, StoreConfig};
use common::{Bench, PASSWORD, compare::assert_same, files, trees, wait_until};

fn start(bench: &Bench) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_backs_up", "--ignored"])
        .env("ARK_TEST_DIR", bench.dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "run and killed by the other test"]
fn child_backs_up() {
    let dir = PathBuf::from(std::env::var_os("ARK_TEST_DIR").unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Store::open(&StoreConfig::Local {
        root: dir.join("repo"),
    })
    .unwrap();
    let passwords = [Secret::new(PASSWORD)];
    let repo = Repository::open(
        store,
        &passwords,
        OpenOptions::default(),
        runtime.handle().clone(),
    );
    let request = common::request(&dir.join("source"));
    ark_engine::archive(&repo.unwrap(), &request, &Progress::new(), &Cancel::new()).unwrap();
}

/// Everything in the repository that is not a lock: names appear one by one.
fn written(bench: &Bench) -> usize {
    files(&bench.repo_dir()).len()
}

#[test]
fn killed_after_any_write() {
    let bench = Bench::in_memory();
    trees::plain(&bench.source(), 40, 1 << 20);
    let repo = bench.init();
    let restic = bench.restic();
    let mut killed = 0;
    // A full backup of this source makes about a dozen files; a kill after each of the first ones.
    for extra in 1..10 {
        let before = written(&bench);
        // New content each time, so that there is something to write.
        trees::plain(&bench.source(), 40, (1 << 20) + extra);
        let mut child = start(&bench);
        let mut ended = false;
        wait_until("something is written", || {
            ended = child.try_wait().unwrap().is_some();
            ended || written(&bench) >= before + extra
        });
        child.kill().unwrap();
        child.wait().unwrap();
        killed += usize::from(!ended);
        // Stock restic removes the dead one's lock (its host is unknown here) only when told to.
        restic.run(&["unlock", "--remove-all"]);
        restic.check();
    }
    assert!(killed >= 5, "only {killed} backups were killed in time");
    let report = bench.archive(&repo);
    assert_eq!(report.outcome(), Outcome::Complete);
    restic.check();
    fs::remove_dir_all(bench.target()).unwrap();
    fs::create_dir(bench.target()).unwrap();
    bench.restore(&repo, &report.snapshot_id);
    assert_same(&bench.source(), &bench.target());
    // Whatever other snapshots there are can be restored as well.
    for snapshot in repo.snapshots().unwrap() {
        let restored = bench.restore(&repo, &snapshot.id);
        assert_eq!(restored.outcome(), Outcome::Complete);
    }
}

/// The order in which a backup's files become durable, as the kernel sees it: a file is synced
/// before it gets its name, its directory after, packs before index files, and those before the
/// snapshot.
#[test]
fn durable_before_named_and_in_order() {
    let found = Command::new("strace").arg("-V").output();
    assert!(
        found.is_ok_and(|out| out.status.success()),
        "strace is needed: install the package"
    );
    let bench = Bench::in_memory();
    trees::plain(&bench.source(), 30, 1 << 20);
    bench.init();
    let log = bench.dir.path().join("trace");
    let status = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-qq",
            "-e",
            "trace=fsync,fdatasync,rename,renameat2,linkat",
            "-o",
        ])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_backs_up", "--ignored"])
        .env("ARK_TEST_DIR", bench.dir.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let trace = fs::read_to_string(&log).unwrap();
    let repo = bench.repo_dir();
    let repo = repo.to_str().unwrap();
    let position = |what: &dyn Fn(&str) -> bool| trace.lines().position(what);
    let mut last = [0; 3];
    let mut first = [usize::MAX; 3];
    for file in files(&bench.repo_dir()) {
        let name = file.to_str().unwrap();
        let rank = match name.strip_prefix(repo).unwrap().split('/').nth(1) {
            Some("data") => 0,
            Some("index") => 1,
            Some("snapshots") => 2,
            _ => continue,
        };
        let renamed = |line: &str| line.contains("rename") && line.contains(&format!("\"{name}\""));
        let renamed = position(&renamed).unwrap_or_else(|| panic!("{name} never got its name"));
        let temporary = format!("<{name}-tmp-");
        let synced = position(&|line| line.contains("sync(") && line.contains(&temporary));
        assert!(
            synced.unwrap() < renamed,
            "{name} was named before it was synced"
        );
        let dir = format!("<{}>", file.parent().unwrap().display());
        let after = trace
            .lines()
            .skip(renamed)
            .position(|line| line.contains("sync(") && line.contains(&dir));
        let after = renamed + after.unwrap_or_else(|| panic!("{name}'s directory was not synced"));
        last[rank] = last[rank].max(after);
        first[rank] = first[rank].min(renamed);
    }
    assert!(
        last[0] < first[1] && last[1] < first[2],
        "{first:?} {last:?}\n{trace}"
    );
}

/// Kills itself at a write of the store, named by its number: before it is begun, or so many
/// microseconds later.
#[test]
#[ignore = "run by the other test"]
fn child_kills_itself() {
    use ark_engine::storage::fault::{Fault, Faults, Operation};
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (at, later) = (number("ARK_TEST_WRITE"), number("ARK_TEST_LATER"));
    let dir = PathBuf::from(std::env::var_os("ARK_TEST_DIR").unwrap());
    let source = PathBuf::from(std::env::var_os("ARK_TEST_SOURCE").unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let writes = std::sync::atomic::AtomicU64::new(0);
    let faults = Faults::new(move |call| {
        let is_write = matches!(call.operation, Operation::Write | Operation::Delete);
        if is_write && writes.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == at {
            let kill = move || {
                let begun = std::time::Instant::now();
                while begun.elapsed() < std::time::Duration::from_micros(later) {
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
        Fault::None
    });
    let store = common::points::open_store(&dir.join("repo")).with_faults(&faults);
    let repo = common::points::open(store, runtime.handle()).unwrap();
    common::points::backup(&repo, &source).unwrap();
}

#[test]
fn killed_at_hundreds_of_writes() {
    use std::os::unix::process::ExitStatusExt as _;
    let points = common::points::Points::new();
    let killed = std::sync::atomic::AtomicU64::new(0);
    points.each(200, |points, point, dir| {
        let at = point % 8 + 1;
        let later = [0, 30, 200, 1000, 4000][(point / 8 % 5) as usize] * (1 + point / 40);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_kills_itself", "--ignored"])
            .env("ARK_TEST_WRITE", at.to_string())
            .env("ARK_TEST_LATER", later.to_string())
            .env("ARK_TEST_DIR", dir)
            .env("ARK_TEST_SOURCE", points.bench.source())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        if status.signal() == Some(9) {
            killed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        } else {
            assert!(status.success(), "point {point}: {status}");
        }
        points.is_whole(point, dir);
    });
    let killed = killed.into_inner();
    assert!(killed >= 120, "only {killed} were killed");
}
