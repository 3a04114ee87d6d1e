//! A state that says something wrong, as only a defect or somebody with the repository's key could
//! make it.

use std::{fs, path::Path};

use super::{
    fingerprints::{Cut, Keys, Record, Volume, Writer},
    *,
};
use crate::{
    InitOptions, RestoreRequest, Secret, Store, StoreConfig, chunk::rabin::tests::noise,
    crypto::Id, restore,
};

const BLOCK: usize = 64 << 10;

struct Bench {
    dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
    repo: Repository,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["repo", "source", "target"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let root = dir.path().join("repo");
        let store = Store::open(&StoreConfig::Local { root }).unwrap();
        let options = InitOptions {
            random_password: true,
            ..InitOptions::default()
        };
        let handle = runtime.handle().clone();
        let repo = Repository::init(store, &Secret::new("x"), options, handle).unwrap();
        Self {
            dir,
            _runtime: runtime,
            repo,
        }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn archive(&self) -> ArchiveReport {
        let request = ArchiveRequest {
            source: Source::Directory(self.at("source")),
            snapshot_path: "/volume".to_owned(),
            host: "host".to_owned(),
            reread_all: true,
            chunking: Chunking::Fixed,
            state: Some(StateRequest::new(self.at("state"))),
            ..ArchiveRequest::default()
        };
        archive(&self.repo, &request, &Progress::new(), &Cancel::new()).unwrap()
    }

    fn keys(&self) -> Keys {
        let volume = Volume {
            repository: self.repo.id(),
            polynomial: &self.repo.config().chunker_polynomial,
            host: "host",
            paths: &["/volume".to_owned()],
        };
        Keys::new(self.repo.key(), &volume).unwrap()
    }

    /// A state that takes the blocks of one content for those of another.
    fn forge(&self, file: &str, content: &[u8], taken_for: &[u8]) {
        let keys = self.keys();
        let blocks = content.chunks(BLOCK).zip(taken_for.chunks(BLOCK));
        let records: Vec<_> = (0..)
            .zip(blocks)
            .map(|(n, (block, other))| Record {
                offset: n * BLOCK as u64,
                length: u32::try_from(other.len()).unwrap(),
                cut: Cut::Arithmetic,
                print: keys.print(block),
                id: Id::of(other).0,
            })
            .collect();
        let mut writer = Writer::create(&self.at("state"), &keys, 1 << 30).unwrap();
        let key = keys.path(Path::new(file));
        assert!(writer.add(key, records.len(), records.into_iter()).unwrap());
        writer.publish().unwrap();
    }

    fn assert_restored(&self, snapshot: &str, file: &str, content: &[u8]) {
        let request = RestoreRequest {
            snapshot: snapshot.to_owned(),
            target: self.at("target"),
            ..RestoreRequest::default()
        };
        restore(&self.repo, &request, &Progress::new(), &Cancel::new()).unwrap();
        assert!(fs::read(self.at("target").join(file)).unwrap() == content);
    }
}

#[test]
fn a_block_remembered_as_another_is_found_out_and_nothing_of_it_is_kept() {
    let bench = Bench::new();
    let [old, new] = [1, 2].map(|seed| noise(seed, 6 << 20));
    let write = |content: &[u8]| fs::write(bench.at("source/file"), content).unwrap();
    write(&old);
    bench.archive();
    write(&new);
    bench.forge("file", &new, &old);
    let report = bench.archive();
    let state = report.state.unwrap();
    assert_eq!(state.blocks, 0, "{state:?}");
    assert!(state.problem.unwrap().contains("was not used"));
    bench.assert_restored(&report.snapshot_id, "file", &new);
    // It was replaced.
    let report = bench.archive();
    let state = report.state.unwrap();
    assert_eq!((state.blocks, state.problem), (96, None));
    bench.assert_restored(&report.snapshot_id, "file", &new);
}

/// What the sampling does not have to find: the index knows the blob's length, and whether there is
/// such a blob.
#[test]
fn a_block_remembered_as_no_blob_or_one_of_another_length_is_stored() {
    let bench = Bench::new();
    let (old, new) = (noise(1, (6 << 20) + 7), noise(2, 6 << 20));
    fs::write(bench.at("source/file"), &new).unwrap();
    bench.forge("file", &new, &old);
    let report = bench.archive();
    let state = report.state.unwrap();
    assert_eq!(
        (state.blocks, state.looked_up, state.problem),
        (0, 96, None)
    );
    bench.assert_restored(&report.snapshot_id, "file", &new);

    fs::write(bench.at("source/file"), &old).unwrap();
    bench.archive();
    // The last block of `old` has seven bytes.
    let (mut content, mut taken_for) = (new[..4 << 20].to_vec(), old[..4 << 20].to_vec());
    content.extend(&noise(3, BLOCK));
    taken_for.extend(&old[6 << 20..]);
    fs::write(bench.at("source/file"), &content).unwrap();
    bench.forge("file", &content[4 << 20..], &taken_for[4 << 20..]);
    let report = bench.archive();
    assert_eq!(report.state.unwrap().blocks, 0);
    bench.assert_restored(&report.snapshot_id, "file", &content);
}
