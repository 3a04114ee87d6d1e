//! Power lost at any moment of a backup: what was not synced by then is gone, or there, or there in
//! part, and the repository is whole. The order of things is taken from the kernel, by a trace of a
//! real backup.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::{files, points, trees::noise};

/// One thing that the kernel has done.
#[derive(Debug)]
enum Event {
    Synced(PathBuf),
    Renamed(PathBuf, PathBuf),
    Made(PathBuf),
}

#[test]
#[ignore = "run and traced by the other test"]
fn child_backs_up() {
    let dir = PathBuf::from(std::env::var_os("ARK_TEST_DIR").unwrap());
    let source = PathBuf::from(std::env::var_os("ARK_TEST_SOURCE").unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let repo = points::open(points::open_store(&dir.join("repo")), runtime.handle()).unwrap();
    points::backup(&repo, &source).unwrap();
}

/// Backs up under the eyes of strace.
fn trace(dir: &Path, source: &Path) -> Vec<Event> {
    let log = dir.join("trace");
    let status = Command::new("strace")
        .args(["-f", "-y", "-qq", "-s", "4096", "-o"])
        .arg(&log)
        .args([
            "-e",
            "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_backs_up", "--ignored"])
        .env("ARK_TEST_DIR", dir)
        .env("ARK_TEST_SOURCE", source)
        .stdout(Stdio::null())
        .status()
        .expect("strace is needed: install the package");
    assert!(status.success());
    let mut begun: BTreeMap<String, String> = BTreeMap::new();
    let mut events = Vec::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        // A call that others interrupt in the trace counts when it is over.
        let whole = if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread.to_owned(), start.to_owned());
            continue;
        } else if call.starts_with("<... ") {
            let end = call.split_once(" resumed>").unwrap().1;
            format!("{}{end}", begun.remove(thread).unwrap())
        } else {
            call.to_owned()
        };
        if whole.trim_end().ends_with("= 0") {
            events.extend(event(&whole));
        }
    }
    events
}

fn event(call: &str) -> Option<Event> {
    let (name, rest) = call.split_once('(')?;
    let quoted: Vec<_> = rest
        .split('"')
        .skip(1)
        .step_by(2)
        .map(PathBuf::from)
        .collect();
    match (name, &quoted[..]) {
        ("fsync" | "fdatasync", _) => {
            let path = rest.split_once('<')?.1.split_once('>')?.0;
            Some(Event::Synced(path.into()))
        }
        ("mkdir" | "mkdirat", [dir]) => Some(Event::Made(dir.clone())),
        (_, [from, to]) => Some(Event::Renamed(from.clone(), to.clone())),
        _ => None,
    }
}

/// What may be on the disk after some events.
#[derive(Default)]
struct Disk {
    /// Files with all their bytes.
    content: BTreeSet<PathBuf>,
    /// Names that are certainly there; true if their file's content is.
    certain: BTreeMap<PathBuf, bool>,
    /// Names that may be there.
    possible: BTreeMap<PathBuf, bool>,
}

impl Disk {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Made(dir) => {
                self.possible.insert(dir.clone(), true);
            }
            Event::Renamed(from, to) => {
                let whole = self.content.contains(from);
                self.possible.insert(to.clone(), whole);
            }
            Event::Synced(path) => {
                self.content.insert(path.clone());
                let below = |name: &PathBuf| name.parent() == Some(path.as_path());
                let now: Vec<_> = self
                    .possible
                    .keys()
                    .filter(|name| below(name))
                    .cloned()
                    .collect();
                for name in now {
                    let whole = self.possible.remove(&name).unwrap();
                    self.certain.insert(name, whole);
                }
            }
        }
    }

    /// Lays out a repository as it may be found: each possible name is there or not, by the dice.
    fn lay_out(&self, run: &Path, repo: &Path, dice: &[u8]) {
        let mut dice = dice.iter().cycle();
        let mut names: Vec<_> = self.certain.iter().collect();
        names.extend(
            self.possible
                .iter()
                .filter(|_| dice.next().unwrap().is_multiple_of(2)),
        );
        names.sort();
        for (name, whole) in names {
            let at = repo.join(name.strip_prefix(run).unwrap());
            // A name in a directory that is not there is not there either.
            if !at.parent().unwrap().is_dir() || at.exists() {
                continue;
            }
            if name.is_dir() {
                fs::create_dir(at).unwrap();
            } else if name.exists() {
                let bytes = fs::read(name).unwrap();
                let len = if *whole { bytes.len() } else { bytes.len() / 2 };
                fs::write(at, &bytes[..len]).unwrap();
            }
        }
    }
}

#[test]
fn power_lost_at_any_moment() {
    let all = points::Points::new();
    let run = all.bench.dir.path().join("run");
    points::copy(&all.bench.repo_dir(), &run.join("repo"));
    let before = files(&run.join("repo")).len();
    let events = trace(&run, &all.bench.source());
    assert!(files(&run.join("repo")).len() > before + 3);
    let renames = events
        .iter()
        .filter(|event| matches!(event, Event::Renamed(..)));
    assert!(renames.count() > 4 && events.len() > 15, "{events:?}");
    // With the trace's own bytes undone at the end, not one of the names is only possible.
    let mut last = Disk::default();
    for event in &events {
        last.apply(event);
    }
    assert!(last.possible.is_empty(), "{:?}", last.possible);
    let throws = 6;
    let moments = events.len() as u64 + 1;
    all.each(moments * throws, |all, point, dir| {
        let mut disk = Disk::default();
        let moment = usize::try_from(point / throws).unwrap();
        events[..moment].iter().for_each(|event| disk.apply(event));
        disk.lay_out(&run.join("repo"), &dir.join("repo"), &noise(point, 64));
        all.is_whole(point, dir);
    });
}
