//! A repository whose content a test writes by hand.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use serde_json::{Value, json};

use super::{RestoreReport, RestoreRequest, restore};
use crate::{
    Cancel, InitOptions, OpenOptions, Progress, Repository, Secret, Store, StoreConfig,
    crypto::Id,
    error::Result,
    format::{snapshot::SnapshotFile, unpacked},
    rows::FileOperation,
};

/// A repository into which a test writes blobs of its own making.
pub(crate) struct Forge {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) repo: Repository,
    blobs: Vec<Value>,
    pack: Vec<u8>,
}

impl Forge {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["repo", "outside", "target"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside/precious"), "precious").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Store::open(&StoreConfig::Local {
            root: dir.path().join("repo"),
        })
        .unwrap();
        let options = InitOptions {
            random_password: true,
            ..InitOptions::default()
        };
        let password = Secret::new("x");
        let repo = Repository::init(store, &password, options, runtime.handle().clone()).unwrap();
        Self {
            dir,
            runtime,
            repo,
            blobs: Vec::new(),
            pack: Vec::new(),
        }
    }

    /// The same repository, opened as by another program.
    pub(crate) fn another(&self, options: OpenOptions) -> Repository {
        let (store, runtime) = (self.repo.store().clone(), self.runtime.handle().clone());
        Repository::open(store, &[Secret::new("x")], options, runtime).unwrap()
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    pub(crate) fn blob_named(&mut self, kind: &str, id: &str, plain: &[u8], claimed: Option<u64>) {
        let sealed = self.repo.key().seal(plain);
        let mut blob =
            json!({"id": id, "type": kind, "offset": self.pack.len(), "length": sealed.len()});
        if let Some(claimed) = claimed {
            blob["uncompressed_length"] = claimed.into();
        }
        self.blobs.push(blob);
        self.pack.extend(sealed);
    }

    pub(crate) fn blob(&mut self, kind: &str, plain: &[u8]) -> String {
        let id = Id::of(plain).to_string();
        self.blob_named(kind, &id, plain, None);
        id
    }

    /// Another entry of the index for the place of the last blob, moved by so many bytes.
    pub(crate) fn alias(&mut self, id: &str, moved: u64) {
        let mut blob = self.blobs.last().unwrap().clone();
        blob["id"] = id.into();
        blob["offset"] = (blob["offset"].as_u64().unwrap() + moved).into();
        self.blobs.push(blob);
    }

    pub(crate) fn tree(&mut self, nodes: &Value) -> String {
        let json = serde_json::to_vec(&json!({ "nodes": nodes })).unwrap();
        self.blob("tree", &json)
    }

    pub(crate) fn write(&self, path: &str, data: Vec<u8>) {
        let write = self.repo.store().write(path, data.into());
        self.runtime.block_on(write).unwrap();
    }

    /// Writes what was made so far as a pack, and an index of it. Returns the pack's path.
    pub(crate) fn publish(&mut self) -> String {
        let pack = Id::of(&self.pack);
        let path = crate::format::pack::path(&pack);
        let bytes = std::mem::take(&mut self.pack);
        self.write(&path, bytes);
        let index = json!({"packs": [{"id": pack.to_string(), "blobs": self.blobs}]});
        self.blobs.clear();
        let index = serde_json::to_vec(&index).unwrap();
        let (id, sealed) = unpacked::encode(self.repo.key(), &index, 2).unwrap();
        self.write(&format!("index/{id}"), sealed);
        path
    }

    /// Writes pack, index and a snapshot of this tree, and restores it.
    pub(crate) fn restore(&mut self, tree: &str) -> Result<RestoreReport> {
        self.restore_with(tree, Vec::new())
    }

    pub(crate) fn restore_with(&mut self, tree: &str, tags: Vec<String>) -> Result<RestoreReport> {
        self.publish();
        let file = SnapshotFile {
            time: "2024-01-01T00:00:00Z".to_owned(),
            tree: tree.to_owned(),
            paths: vec!["/x".to_owned()],
            tags,
            ..SnapshotFile::default()
        };
        let snapshot = self
            .runtime
            .block_on(self.repo.save_snapshot(&file))
            .unwrap();
        let request = RestoreRequest {
            snapshot,
            target: self.target(),
            sparse: true,
            restore_owner: true,
            ..RestoreRequest::default()
        };
        let done = restore(&self.repo, &request, &Progress::new(), &Cancel::new());
        let outside: Vec<_> = fs::read_dir(self.dir.path().join("outside"))
            .unwrap()
            .collect();
        assert_eq!(outside.len(), 1);
        let precious = self.dir.path().join("outside/precious");
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert_eq!(fs::metadata(&precious).unwrap().mode() & 0o7777, 0o644);
        done
    }
}

pub(crate) fn file(name: &str, content: &[&str]) -> Value {
    json!({"name": name, "type": "file", "mode": 0o777, "mtime": "2024-01-01T00:00:00Z", "content": content})
}

pub(crate) fn operations(report: &RestoreReport) -> Vec<FileOperation> {
    report.errors.iter().map(|row| row.operation).collect()
}
