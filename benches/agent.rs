//! `cargo xtask bench agent`: a real agent process, on a real API server, beside the command and restic.
//!
//! Two rows: a hundred volumes of half a megabyte, backed up twice; and a large and a many-file
//! volume, restored. The agent's pods exist on paper (their directories are made as a kubelet makes
//! them), so what is measured is the agent's own part: from the moment volume objects are created
//! to the end of the last. Nothing here asserts a time.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed step of a measurement is an error with a place, and results are printed"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ark_api::pod_volume_backup::VolumePhase;
use ark_tests::node::{Node, PASSWORD, program};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

/// Small volumes of the first row.
const VOLUMES: usize = 100;
/// Bytes of a small volume.
const SMALL: usize = 500_000;
/// Bytes of the large volume.
const LARGE: usize = 2 << 30;
/// Files of the volume of many files.
const FILES: usize = 20_000;
/// Rounds of each measurement.
const ROUNDS: usize = 3;

/// What a run took, in seconds but for the last.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    wall: f64,
    user: f64,
    system: f64,
    faults: u64,
}

impl Took {
    fn show(&self, what: &str) {
        let Self {
            wall,
            user,
            system,
            faults,
        } = self;
        println!(
            "{what:<44} {wall:6.2} s  user {user:5.2} s  kernel {system:5.2} s  page faults {faults}"
        );
    }
}

/// Processor time and page faults of a process so far; all its threads.
fn of_process(pid: u32) -> Took {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let field = |number: usize| -> u64 {
        // The state is field 3 of proc(5).
        let text = after_name.split(' ').nth(number - 3).unwrap();
        text.parse().unwrap()
    };
    // Ticks of 1/100 s, as on every Linux.
    let seconds = |ticks: u64| Duration::from_millis(10 * ticks).as_secs_f64();
    Took {
        wall: 0.0,
        user: seconds(field(14)),
        system: seconds(field(15)),
        faults: field(10),
    }
}

fn of_children() -> Took {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap()).as_secs_f64()
    };
    Took {
        wall: 0.0,
        user: seconds(usage.user_time()),
        system: seconds(usage.system_time()),
        faults: u64::try_from(usage.minor_page_faults()).unwrap(),
    }
}

fn since(start: Instant, before: Took, after: Took) -> Took {
    Took {
        wall: start.elapsed().as_secs_f64(),
        user: after.user - before.user,
        system: after.system - before.system,
        faults: after.faults - before.faults,
    }
}

/// Runs commands one after the other.
fn commands(commands: Vec<Command>) -> Took {
    let (start, before) = (Instant::now(), of_children());
    for mut command in commands {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {why}");
    }
    since(start, before, of_children())
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    SmallRng::seed_from_u64(seed).fill(&mut data[..]);
    data
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` starts it without this word.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    println!("{LARGE} bytes in one file and {FILES} files, restored");
    for round in 0..ROUNDS {
        restore(round == 0).await;
    }
    println!("{VOLUMES} volumes of {SMALL} bytes, from creating the objects to the last one's end");
    for round in 0..ROUNDS {
        many_volumes(round == 0).await;
    }
}

/// Restic is slow enough here to be measured once, `beside_restic`.
async fn many_volumes(beside_restic: bool) {
    let mut node = Node::new().await;
    let mut pods = Vec::new();
    for n in 0..VOLUMES {
        let (pod, dir) = node.pod_with_empty_dir(&format!("web-{n}"), "html").await;
        fs::write(dir.join("data"), noise(n as u64, SMALL)).unwrap();
        pods.push((pod, dir));
    }
    node.start_agent();
    node.http("/metrics").await;
    for round in ["first", "unchanged"] {
        let pid = node.agent_pid();
        let (start, before) = (Instant::now(), of_process(pid));
        let names: Vec<String> = (0..VOLUMES).map(|n| format!("{round}-{n}")).collect();
        join_all(names.iter().zip(&pods).map(async |(name, (pod, _))| {
            node.create(node.backup(name, pod, "html")).await;
            let status = node.ended(name).await.status.unwrap();
            assert_eq!(status.phase, Some(VolumePhase::Completed), "{status:?}");
        }))
        .await;
        since(start, before, of_process(pid)).show(&format!("agent, {round}"));
    }
    if !beside_restic {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let repository = scratch.path().join("restic");
    commands(vec![restic(&repository, &["init"])]);
    for round in ["first", "unchanged"] {
        let backup = |(_, dir): &(Pod, PathBuf)| restic(&repository, &["backup", &text(dir)]);
        commands(pods.iter().map(backup).collect()).show(&format!("restic, {round}"));
    }
}

async fn restore(beside_restic: bool) {
    let mut node = Node::new().await;
    let (large, large_dir) = node.pod_with_empty_dir("large", "data").await;
    fs::write(large_dir.join("database"), noise(1, LARGE)).unwrap();
    let (many, many_dir) = node.pod_with_empty_dir("many", "data").await;
    for n in 0..FILES {
        let folder = many_dir.join(format!("{:03}", n % 200));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(n.to_string()), noise(n as u64, 1000 + n % 7000)).unwrap();
    }
    node.start_agent();
    let mut snapshots = Vec::new();
    for (name, pod) in [("large", &large), ("many", &many)] {
        node.create(node.backup(name, pod, "data")).await;
        let status = node.ended(name).await.status.unwrap();
        snapshots.push(status.snapshot_id.unwrap());
    }
    let mut back = Vec::new();
    for snapshot in &snapshots {
        let name = format!("back-{}", back.len());
        let (pod, ..) = node.gated_pod(&name, "data").await;
        back.push((name, pod, snapshot));
    }
    settle();
    let pid = node.agent_pid();
    let (start, before) = (Instant::now(), of_process(pid));
    join_all(back.iter().map(async |(name, pod, snapshot)| {
        node.create(node.restore(name, pod, "data", snapshot)).await;
        let status = node.restored(name).await.status.unwrap();
        assert_eq!(status.phase, Some(VolumePhase::Completed), "{status:?}");
    }))
    .await;
    since(start, before, of_process(pid)).show("agent, restore of both volumes");
    let repository = node.bucket().join("restic/shop");
    let scratch = tempfile::tempdir().unwrap();
    let target = |n: usize, who: &str| text(&scratch.path().join(format!("{who}-{n}")));
    settle();
    let ark = |(n, id): (usize, &String)| {
        let mut command = Command::new(program("ark"));
        command
            .args(["engine", "--repo", &text(&repository), "restore", id])
            .args(["--target", &target(n, "ark")])
            .env("RESTIC_PASSWORD", PASSWORD);
        command
    };
    commands(snapshots.iter().enumerate().map(ark).collect())
        .show("ark engine restore, one after the other");
    if !beside_restic {
        return;
    }
    settle();
    let rival = |(n, id): (usize, &String)| {
        restic(
            &repository,
            &["restore", id, "--target", &target(n, "restic")],
        )
    };
    commands(snapshots.iter().enumerate().map(rival).collect())
        .show("restic restore, one after the other");
}

/// What one run left to be written is not the next one's work.
fn settle() {
    assert!(Command::new("sync").status().unwrap().success());
}

fn restic(repository: &Path, arguments: &[&str]) -> Command {
    let restic = std::env::var_os("ARK_TEST_RESTIC").unwrap();
    let mut command = Command::new(restic);
    command
        .args(["--no-cache", "--quiet", "--repo", &text(repository)])
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD);
    command
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
