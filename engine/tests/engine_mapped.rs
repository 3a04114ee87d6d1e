//! A program writes through a shared mapping, without ever syncing it, before, during and after
//! backups. Each backup has what was in the file when it was read, on file systems that show such
//! stores and on those that do not; and where they show, a file that nobody touched is not read
//! again.
//!
//! Needs root, loop devices, and ext4, XFS, Btrfs and overlay in the kernel. Where one is missing
//! the test fails and says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
};

use ark_engine::{
    ArchiveReport, ArchiveRequest, FormatVersion, InitOptions, Repository, Secret, Source,
    archive::Chunking,
    storage::fault::{Fault, Faults, Operation},
};
use common::{Bench, PASSWORD, archive, request, settle, trees};

/// Bytes of the large file: more than a pack, so that some of it is stored while the rest is read.
const LARGE: usize = 24 << 20;
/// Bytes of the small file, which one worker reads at once.
const SMALL: usize = 1 << 20;
const FILES: [(&str, usize); 2] = [("large", LARGE), ("small", SMALL)];

/// Maps the files named and stores into them: `NUMBER OFFSET BYTE` a line; answers each line.
const WRITER: &str = "
import mmap, sys
maps = []
for name in sys.argv[1:]:
    with open(name, 'r+b') as file:
        maps.append(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
print('ready', flush=True)
for line in sys.stdin:
    number, offset, byte = map(int, line.split())
    maps[number][offset] = byte
    print('stored', flush=True)
";

/// The program that writes.
struct Writer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    byte: u8,
}

impl Writer {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", WRITER])
            .args(FILES.map(|(name, _)| dir.join(name)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let ask = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut writer = Self {
            child,
            ask,
            answers,
            byte: 0,
        };
        writer.answer("ready");
        writer
    }

    fn answer(&mut self, expected: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected);
    }

    /// Stores another byte into the first and the last page of each file.
    fn store(&mut self) {
        self.byte += 1;
        for (number, (_, size)) in FILES.iter().enumerate() {
            for offset in [17, size - 17] {
                writeln!(self.ask, "{number} {offset} {}", self.byte).unwrap();
                self.answer("stored");
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A file system of its own, mounted as long as this lives.
struct Mounted {
    points: Vec<PathBuf>,
    _dir: tempfile::TempDir,
}

fn run(command: &mut Command, why: &str) {
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let done = command
        .output()
        .unwrap_or_else(|error| panic!("{why}: {command:?}: {error}"));
    assert!(
        done.status.success(),
        "{why}: {command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

impl Mounted {
    /// In memory, or in an image on a loop device.
    fn new(kind: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts file systems: run it as root"
        );
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join("mounted");
        fs::create_dir(&point).unwrap();
        let why =
            format!("this machine cannot make or mount {kind}, so nothing is proved of it here");
        let mut mount = Command::new("mount");
        if kind == "tmpfs" {
            mount.args(["-t", kind, "tmpfs"]);
        } else {
            let image = dir.path().join("image");
            fs::File::create(&image)
                .unwrap()
                .set_len(400 << 20)
                .unwrap();
            run(
                Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image),
                &why,
            );
            mount.args(["-t", kind, "-o", "loop"]).arg(image);
        }
        run(mount.arg(&point), &why);
        Self {
            points: vec![point],
            _dir: dir,
        }
    }

    /// An overlay with its upper directory in this file system.
    fn overlaid(mut self, more: &str) -> Self {
        let below = self.points[0].clone();
        let [lower, upper, work, point] = ["lower", "upper", "work", "overlay"].map(|name| {
            let dir = below.join(name);
            fs::create_dir(&dir).unwrap();
            dir
        });
        let options = format!(
            "lowerdir={},upperdir={},workdir={}{more}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let why = "this machine cannot mount an overlay, so nothing is proved of it here";
        run(
            Command::new("mount")
                .args(["-t", "overlay", "-o", &options, "overlay"])
                .arg(&point),
            why,
        );
        self.points.push(point);
        self
    }

    fn source(&self) -> PathBuf {
        self.points.last().unwrap().join("source")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for point in self.points.iter().rev() {
            drop(Command::new("umount").arg("-l").arg(point).status());
        }
    }
}

/// What is called at the first write of a pack, once for each time it is set.
type During = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A volume on a file system, and its repository.
struct Volume {
    bench: Bench,
    repo: Repository,
    source: PathBuf,
    during: During,
}

impl Volume {
    fn new(mounted: &Mounted) -> Self {
        let source = mounted.source();
        fs::create_dir(&source).unwrap();
        for (number, (name, size)) in (1..).zip(FILES) {
            fs::write(source.join(name), trees::noise(number, size)).unwrap();
        }
        let bench = Bench::new();
        let during = During::default();
        let told = Arc::clone(&during);
        let faults = Faults::new(move |call| {
            if call.operation == Operation::Write && call.path.starts_with("data/") {
                let work = told.lock().unwrap().take();
                if let Some(work) = work {
                    work();
                }
            }
            Fault::None
        });
        let options = InitOptions {
            version: FormatVersion::default(),
            random_password: true,
            ..InitOptions::default()
        };
        let store = bench.store().with_faults(&faults);
        let handle = bench.runtime.handle().clone();
        let repo = Repository::init(store, &Secret::new(PASSWORD), options, handle).unwrap();
        Self {
            bench,
            repo,
            source,
            during,
        }
    }

    fn request(&self) -> ArchiveRequest {
        ArchiveRequest {
            source: Source::Directory(self.source.clone()),
            chunking: Chunking::Fixed,
            ..request(&self.source)
        }
    }

    fn archive(&self) -> ArchiveReport {
        archive(&self.repo, &self.request()).unwrap()
    }

    /// The newest snapshot holds the files as they are now.
    fn assert_current(&self, report: &ArchiveReport, when: &str) {
        let target = tempfile::tempdir().unwrap();
        common::restore(&self.repo, &report.snapshot_id, target.path()).unwrap();
        for (name, _) in FILES {
            let [stored, real] =
                [target.path(), &self.source].map(|dir| fs::read(dir.join(name)).unwrap());
            assert!(stored == real, "{name}: stores {when} are missing");
        }
    }
}

/// `shows`: stores show in the files' times, so that what nobody touched is not read.
fn stores_reach_the_next_backup(mounted: &Mounted, shows: bool) {
    let volume = Volume::new(mounted);
    let writer = Arc::new(Mutex::new(Writer::start(&volume.source)));
    let store = || writer.lock().unwrap().store();
    store();
    // The pages wait to be written, and their times are old.
    settle(&volume.source);
    let first = volume.archive();
    volume.assert_current(&first, "before the backup");
    // Into pages that were stored into before.
    store();
    let second = volume.archive();
    volume.assert_current(&second, "after the first backup");
    settle(&volume.source);
    let shared = Arc::clone(&writer);
    *volume.during.lock().unwrap() = Some(Box::new(move || shared.lock().unwrap().store()));
    // So that there is something to be written.
    fs::write(volume.source.join("new"), trees::noise(9, 3 << 20)).unwrap();
    let third = ArchiveRequest {
        reread_all: true,
        parent: None,
        ..volume.request()
    };
    archive(&volume.repo, &third).unwrap();
    assert!(
        volume.during.lock().unwrap().is_none(),
        "nothing was stored during the backup"
    );
    let fourth = volume.archive();
    volume.assert_current(&fourth, "during the backup");
    store();
    let fifth = volume.archive();
    volume.assert_current(&fifth, "after the last backup");

    // Nobody touches them, though they are still mapped.
    settle(&volume.source);
    volume.archive();
    let untouched = volume.archive();
    volume.assert_current(&untouched, "long ago");
    let files = FILES.len() as u64 + 1;
    let unchanged = if shows { files } else { 0 };
    assert_eq!(untouched.files_unchanged, unchanged);
    store();
    let last = volume.archive();
    volume.assert_current(&last, "into files that were not read for some time");
    volume.bench.restic().check();
}

#[test]
fn stores_through_a_mapping_on_ext4_reach_the_next_backup() {
    stores_reach_the_next_backup(&Mounted::new("ext4"), true);
}

#[test]
fn stores_through_a_mapping_on_xfs_reach_the_next_backup() {
    stores_reach_the_next_backup(&Mounted::new("xfs"), true);
}

#[test]
fn stores_through_a_mapping_on_btrfs_reach_the_next_backup() {
    stores_reach_the_next_backup(&Mounted::new("btrfs"), true);
}

#[test]
fn stores_through_a_mapping_in_memory_reach_the_next_backup() {
    stores_reach_the_next_backup(&Mounted::new("tmpfs"), false);
}

#[test]
fn stores_through_a_mapping_on_an_overlay_reach_the_next_backup() {
    stores_reach_the_next_backup(&Mounted::new("ext4").overlaid(""), true);
}

/// Syncs do nothing there.
#[test]
fn stores_through_a_mapping_on_a_volatile_overlay_reach_the_next_backup() {
    stores_reach_the_next_backup(&Mounted::new("ext4").overlaid(",volatile"), false);
}

#[test]
fn stores_through_a_mapping_on_an_overlay_in_memory_reach_the_next_backup() {
    stores_reach_the_next_backup(&Mounted::new("tmpfs").overlaid(""), false);
}

/// What a snapshot says of synced files is of one boot, and of snapshots of this program.
#[test]
fn a_backup_that_reads_everything_reads_untouched_files_too() {
    let mounted = Mounted::new("ext4");
    let volume = Volume::new(&mounted);
    settle(&volume.source);
    volume.archive();
    assert_eq!(volume.archive().files_unchanged, 2);
    let all = ArchiveRequest {
        reread_all: true,
        ..volume.request()
    };
    assert_eq!(archive(&volume.repo, &all).unwrap().files_unchanged, 0);
}
