//! The memory ceiling is kept: archives run in a control group that has no more, and end in success
//! or in an error that says how much would do. Needs root, because only root makes control groups.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use aes::{
    Aes128, Aes256,
    cipher::{BlockEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _},
};
use ark_engine::{
    ArchiveRequest, Cancel, Error, Progress,
    maintain::{self, CheckRequest, DataShare, GroupBy, PruneRequest},
    stats::{self, StatsMode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{
    Bench, archive,
    limits::{Operation, count, repair_snapshots, statistics, what_is_named_suffices},
    points, request,
    restic::Restic,
    restore,
    trees::noise,
};
use sha2::Digest as _;

const MIB: u64 = 1 << 20;

/// A control group with so much memory and no swap.
struct Group(PathBuf);

impl Group {
    fn new(name: &str, bytes: u64) -> Self {
        let name = format!("ark-engine-{name}-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let (dir, limit) = if root.join("memory/cgroup.procs").exists() {
            (root.join("memory").join(name), "memory.limit_in_bytes")
        } else {
            // Where it is delegated already this changes nothing; where it cannot be, the limit
            // below is missing.
            drop(fs::write(root.join("cgroup.subtree_control"), "+memory"));
            (root.join(name), "memory.max")
        };
        fs::create_dir(&dir)
            .unwrap_or_else(|why| panic!("a control group is needed, {}: {why}", dir.display()));
        let group = Self(dir);
        fs::write(group.0.join(limit), bytes.to_string())
            .unwrap_or_else(|why| panic!("the group {} takes no limit: {why}", group.0.display()));
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

/// A directory on the disk: memory of a file system in memory would count.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir(dir.path().join("repo")).unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        Restic::local(&dir.path().join("repo")).run(&["init"]);
        Self(dir)
    }

    fn source(&self) -> PathBuf {
        self.0.path().join("source")
    }

    fn restic(&self) -> Restic {
        Restic::local(&self.0.path().join("repo"))
    }

    /// Archives in a process of its own that has so much memory. What it says: the most it used, or
    /// how much it needs.
    fn archive(&self, name: &str, bytes: u64) -> Result<u64, u64> {
        let group = Group::new(name, bytes);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_archives", "--ignored"])
            .env("ARK_TEST_DIR", self.0.path())
            .env("ARK_TEST_GROUP", &group.0)
            .env("ARK_TEST_MEMORY", bytes.to_string())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{name} with {bytes} bytes: {status}");
        let said = fs::read_to_string(self.0.path().join("said")).unwrap();
        let (word, number) = said.split_once(' ').unwrap();
        let number = number.parse().unwrap();
        match word {
            "used" => {
                assert!(number <= bytes, "{name} used {number} of {bytes}");
                Ok(number)
            }
            _ => Err(number),
        }
    }
}

#[test]
#[ignore = "run in a control group by the other tests"]
fn child_archives() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let group = PathBuf::from(variable("ARK_TEST_GROUP")).join("cgroup.procs");
    fs::write(&group, std::process::id().to_string()).unwrap();
    let dir = PathBuf::from(variable("ARK_TEST_DIR"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let repo = points::open(points::open_store(&dir.join("repo")), runtime.handle()).unwrap();
    let request = ArchiveRequest {
        memory: variable("ARK_TEST_MEMORY").parse().unwrap(),
        ..request(&dir.join("source"))
    };
    let said = match archive(&repo, &request) {
        Ok(report) => {
            assert_eq!(report.errors, []);
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak: u64 = peak
                .unwrap()
                .trim()
                .trim_end_matches(" kB")
                .parse()
                .unwrap();
            format!("used {}", peak * 1024)
        }
        Err(Error::MemoryLimit { needed, limit, .. }) => {
            assert!(needed > limit, "{needed} {limit}");
            format!("needs {needed}")
        }
        Err(error) => panic!("{error}"),
    };
    fs::write(dir.join("said"), said).unwrap();
}

#[test]
fn a_large_file() {
    let place = Place::new();
    let mut file = File::create(place.source().join("large")).unwrap();
    for n in 0..40 {
        // Half of it compresses, so that all paths are used.
        let mut data = noise(n, 8 << 20);
        data[..2 << 20].fill(u8::try_from(n).unwrap());
        file.write_all(&data).unwrap();
    }
    drop(file);
    place.archive("file", 256 * MIB).unwrap();
    place.restic().run(&["check"]);
    let needed = place.archive("file-little", 60 * MIB).unwrap_err();
    assert!(needed < 256 * MIB, "{needed}");
}

#[test]
fn a_directory_of_very_many_entries() {
    let place = Place::new();
    let dir = place.source().join("many");
    fs::create_dir(&dir).unwrap();
    let entries = 400_000;
    for n in 0..entries {
        File::create(dir.join(format!("entry number {n:09}"))).unwrap();
    }
    place.archive("many", 256 * MIB).unwrap();
    let listed = place.restic().run(&["ls", "latest", "--quiet"]);
    assert_eq!(
        listed.lines().filter(|line| line.contains("entry")).count(),
        entries
    );
    place.restic().run(&["check"]);
    let repo = place.0.path().join("repo");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let repo = points::open(points::open_store(&repo), runtime.handle()).unwrap();
    let snapshot = repo.snapshots().unwrap().remove(0);
    let target = tempfile::tempdir_in(place.0.path()).unwrap();
    let restored = restore(&repo, &snapshot.id, target.path()).unwrap();
    assert_eq!(restored.errors, []);
    let many = fs::read_dir(target.path().join("many")).unwrap();
    assert_eq!(many.count(), entries);
    // Again, with a parent that is large as well.
    place.archive("many-again", 256 * MIB).unwrap();
    let needed = place.archive("many-little", 140 * MIB).unwrap_err();
    assert!(needed > 140 * MIB, "{needed}");
}

/// Its document is some 40 MB.
#[test]
fn a_directory_too_large_for_what_there_is_is_an_error_that_says_how_much_does() {
    let bench = Bench::new();
    let dir = bench.source().join("many");
    fs::create_dir(&dir).unwrap();
    for n in 0..150_000 {
        File::create(dir.join(format!("entry number {n:09}"))).unwrap();
    }
    let repo = bench.init();
    let snapshot = bench.archive(&repo).snapshot_id;
    let snapshot = repo.find_snapshot(&snapshot).unwrap();
    let (progress, cancel) = (Progress::new(), Cancel::new());
    let count = |memory, mode| count(&repo, memory, mode).map(drop);
    let operations: Vec<Operation<'_>> = vec![
        (
            "stats",
            Box::new(|memory| {
                let report = stats::stats(&repo, &statistics(memory), GroupBy::default(), &cancel)?;
                assert_eq!(report.problems, [""; 0]);
                assert_eq!(report.volumes[0].snapshots[0].files, 150_000);
                Ok(())
            }),
        ),
        (
            "stats restore-size",
            Box::new(|memory| count(memory, StatsMode::RestoreSize)),
        ),
        (
            "stats raw-data",
            Box::new(|memory| count(memory, StatsMode::RawData)),
        ),
        (
            "stats files-by-contents",
            Box::new(|memory| count(memory, StatsMode::FilesByContents)),
        ),
        (
            "check",
            Box::new(|memory| {
                let data = DataShare::None;
                let request = CheckRequest { data, memory };
                let report = maintain::check_with(&repo, &request, &progress, &cancel)?;
                assert!(report.is_ok(), "{:?}", report.findings);
                Ok(())
            }),
        ),
        (
            "prune",
            Box::new(|memory| {
                let request = PruneRequest {
                    memory,
                    dry_run: true,
                    ..PruneRequest::default()
                };
                maintain::prune(&repo, &request, &progress, &cancel).map(drop)
            }),
        ),
        repair_snapshots(&repo, &snapshot),
    ];
    what_is_named_suffices(operations, 120 * MIB, 512 * MIB);
}

#[test]
fn a_repository_with_a_large_index() {
    let place = Place::new();
    fs::write(place.source().join("file"), noise(7, 20 << 20)).unwrap();
    let blobs = 2_000_000;
    write_index(&place, blobs);
    place.archive("index", 256 * MIB).unwrap();
    // Too little is told at once, and with what was told it works.
    let needed = place.archive("index-little", 160 * MIB).unwrap_err();
    let index = 40 * blobs;
    assert!((160 * MIB..160 * MIB + index).contains(&needed), "{needed}");
    place.archive("index-enough", needed).unwrap();
}

/// Index files of packs that are nowhere.
fn write_index(place: &Place, blobs: u64) {
    let key: serde_json::Value =
        serde_json::from_str(&place.restic().run(&["cat", "masterkey"])).unwrap();
    let bytes = |value: &serde_json::Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let (encrypt, k, r) = (
        bytes(&key["encrypt"]),
        bytes(&key["mac"]["k"]),
        bytes(&key["mac"]["r"]),
    );
    let mut ids = noise(11, usize::try_from(blobs).unwrap() * 32).into_iter();
    let mut id = || hex::encode(ids.by_ref().take(32).collect::<Vec<_>>());
    for file in 0..blobs / 50_000 {
        let mut json = b"{\"packs\":[".to_vec();
        for pack in 0..1000 {
            let name = hex::encode(noise(file * 1000 + pack + 1, 32));
            let comma = if pack == 0 { "" } else { "," };
            write!(json, "{comma}{{\"id\":\"{name}\",\"blobs\":[").unwrap();
            for blob in 0..50 {
                let comma = if blob == 0 { "" } else { "," };
                let (id, offset) = (id(), blob * 1000);
                write!(
                    json,
                    "{comma}{{\"id\":\"{id}\",\"type\":\"data\",\"offset\":{offset},\"length\":1000,\"uncompressed_length\":2000}}"
                )
                .unwrap();
            }
            json.extend_from_slice(b"]}");
        }
        json.extend_from_slice(b"]}");
        let sealed = seal(&json, &encrypt, &k, &r, file);
        let name = hex::encode(sha2::Sha256::digest(&sealed));
        fs::write(place.0.path().join("repo/index").join(name), sealed).unwrap();
    }
}

/// As the format has it: a nonce, AES-256 in counter mode, Poly1305-AES.
fn seal(plain: &[u8], encrypt: &[u8], k: &[u8], r: &[u8], n: u64) -> Vec<u8> {
    let nonce = noise(n + 1, 16);
    let mut text = plain.to_vec();
    ctr::Ctr128BE::<Aes256>::new(encrypt.into(), nonce.as_slice().into())
        .apply_keystream(&mut text);
    let mut pad = *aes::Block::from_slice(&nonce);
    Aes128::new(k.into()).encrypt_block(&mut pad);
    let key = [r, &pad].concat();
    let tag = poly1305::Poly1305::new(key.as_slice().into()).compute_unpadded(&text);
    [nonce, text, tag.to_vec()].concat()
}
