//! `ark-restore-wait` as the kubelet runs it: a process, a directory, an exit code.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Gate {
    dir: tempfile::TempDir,
}

impl Gate {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("gate")).unwrap();
        Self { dir }
    }

    fn start(&self, volumes: &str, deadline: u64) -> Child {
        self.command(volumes, deadline)
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn start_heard(&self, volumes: &str, deadline: u64) -> Child {
        self.command(volumes, deadline)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn command(&self, volumes: &str, deadline: u64) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ark-restore-wait"));
        command
            .args([
                "--volumes",
                volumes,
                "--deadline-seconds",
                &deadline.to_string(),
                "--dir",
            ])
            .arg(self.path())
            .env("ARK_TERMINATION_LOG", self.log());
        command
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("gate")
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("termination-log")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }
}

/// Exit code of `child`, which must end soon.
fn code(mut child: Child) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        assert!(Instant::now() < deadline, "still running");
        // Between two looks at the condition.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn ends_when_the_last_volume_is_done() {
    let gate = Gate::new();
    gate.write("a.done", "");
    let child = gate.start("a,b", 600);
    gate.write("b.done", "");
    assert_eq!(code(child), 0);
    assert!(!gate.log().exists());
    assert!(
        gate.path().join("a.done").exists(),
        "the gate removes nothing"
    );
    assert_eq!(
        code(gate.start("a,b", 600)),
        0,
        "and gives the same answer again"
    );
}

#[test]
fn a_failed_volume_ends_it_at_once_with_the_reason() {
    let gate = Gate::new();
    gate.write("b.failed", "snapshot 1234 was not found\n");
    assert_eq!(code(gate.start("a,b", 600)), 1);
    assert_eq!(
        text(&gate.log()),
        "volume b was not restored: snapshot 1234 was not found"
    );
}

#[test]
fn the_deadline_names_what_is_missing() {
    let gate = Gate::new();
    gate.write("a.done", "");
    assert_eq!(code(gate.start("a,b", 1)), 1);
    assert_eq!(
        text(&gate.log()),
        "gave up after 1 seconds; not restored yet: b"
    );
}

#[test]
fn done_wins_over_an_earlier_failure() {
    let gate = Gate::new();
    gate.write("a.failed", "first try");
    gate.write("a.done", "");
    assert_eq!(code(gate.start("a", 600)), 0);
}

#[test]
fn a_reason_is_cut_to_what_fits_and_a_directory_is_no_answer() {
    let gate = Gate::new();
    fs::create_dir(gate.path().join("a.done")).unwrap();
    gate.write("a.failed", &"x".repeat(100_000));
    assert_eq!(code(gate.start("a", 600)), 1);
    assert!(text(&gate.log()).len() <= 4096);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let gate = Gate::new();
    fs::write(gate.dir.path().join("x.done"), "").unwrap();
    assert_eq!(code(gate.start("../x", 600)), 1);
    assert!(text(&gate.log()).contains("not the name of a volume"));
}

#[test]
fn ends_at_once_when_told_to() {
    let gate = Gate::new();
    let mut child = gate.start_heard("a", 600);
    // It says what it waits for when it has begun to listen.
    let mut said = [0; 64];
    let heard = child.stderr.as_mut().unwrap().read(&mut said).unwrap();
    assert!(heard > 0);
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(code(child), 1);
    assert!(text(&gate.log()).contains("told to end"));
}

#[test]
fn ends_with_the_reason_when_somebody_gives_up() {
    let gate = Gate::new();
    let told = gate.dir.path().join("gave-up");
    fs::write(&told, "").unwrap();
    let child = gate
        .command("a,b", 600)
        .arg("--told")
        .arg(&told)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    gate.write("a.done", "");
    fs::write(&told, "claim web/data is Pending").unwrap();
    assert_eq!(code(child), 1);
    let said = fs::read_to_string(gate.log()).unwrap();
    assert!(
        said.contains("claim web/data is Pending") && said.contains("b:"),
        "{said}"
    );
    // What is there is there: an agent that ended well after all wins.
    gate.write("b.done", "");
    let again = gate
        .command("a,b", 600)
        .arg("--told")
        .arg(&told)
        .stderr(Stdio::null())
        .spawn();
    assert_eq!(code(again.unwrap()), 0);
}

#[test]
fn refuses_to_let_an_application_start_without_its_data() {
    let gate = Gate::new();
    gate.write("a.done", "");
    let child = gate
        .command("a", 600)
        .args(["--refuse", "the backup has no data of volume b"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(code(child), 1);
    let said = fs::read_to_string(gate.log()).unwrap();
    assert!(said.contains("no data of volume b"), "{said}");
}
