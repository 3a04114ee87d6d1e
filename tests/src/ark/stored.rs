//! What an installation has stored in its location `default`.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use ark_api::layout;
use ark_api::results::Results;
use ark_api::volume::VolumeRow;
use ark_engine::{OpenOptions, Repository, Store, StoreConfig};
use flate2::read::GzDecoder;
use k8s_openapi::api::core::v1::Secret;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Ark;
use crate::node::until;

impl Ark {
    /// A gzipped JSON artefact of the location `default`.
    pub fn artefact<T: DeserializeOwned>(&self, path: &str) -> T {
        let file = std::fs::File::open(self.bucket().join(path)).unwrap();
        serde_json::from_reader(GzDecoder::new(file)).unwrap()
    }

    /// Errors and warnings of a backup.
    pub fn results(&self, backup: &str) -> Results {
        self.artefact(&layout::backup_results(backup))
    }

    /// Volume rows of a backup.
    pub fn rows(&self, backup: &str) -> Vec<VolumeRow> {
        self.artefact(&layout::volume_rows(backup))
    }

    /// Paths and contents of a bundle.
    pub fn bundle(&self, backup: &str) -> Vec<(String, Value)> {
        let file = std::fs::File::open(self.bucket().join(layout::bundle(backup))).unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(file));
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, serde_json::from_reader(entry).unwrap_or(Value::Null))
            })
            .collect()
    }

    /// Opens the repository of a namespace and has `work` done with it on a thread of its own.
    pub async fn in_repository<T: Send + 'static>(
        &self,
        namespace: &str,
        work: impl FnOnce(&Repository) -> T + Send + 'static,
    ) -> T {
        let secret: Secret = self.api().get("ark-repository-key-default").await.unwrap();
        let key = secret.data.unwrap()["repository-password"].0.clone();
        let key = String::from_utf8(key).unwrap();
        let root = self.bucket().join(layout::repository(namespace));
        let runtime = tokio::runtime::Handle::current();
        let open = move || {
            let store = Store::open(&StoreConfig::Local { root }).unwrap();
            let keys = [key.as_str().into()];
            let repository = Repository::open(store, &keys, OpenOptions::default(), runtime);
            work(&repository.unwrap())
        };
        tokio::task::spawn_blocking(open).await.unwrap()
    }

    /// What has to be true of a repository that nobody works on: nothing is damaged, all data
    /// included, and nobody's lock is left. Agents keep a lock for a moment after their work, so it
    /// is waited for.
    pub async fn repository_is_clean(&self, namespace: &str) {
        let locks = self
            .bucket()
            .join(layout::repository(namespace))
            .join("locks");
        until(&format!("no locks of {namespace}"), async || {
            let left = std::fs::read_dir(&locks).map_or(0, Iterator::count);
            (left == 0).then_some(())
        })
        .await;
        let check = |repository: &Repository| {
            ark_engine::check(repository, true, &ark_engine::Cancel::new())
        };
        let report = self.in_repository(namespace, check).await.unwrap();
        assert!(report.is_ok(), "{namespace}: {:?}", report.findings);
    }

    /// Paths of a bundle without those of the preferred versions.
    pub fn items(&self, backup: &str) -> Vec<String> {
        let all = self.bundle(backup).into_iter().map(|(path, _)| path);
        all.filter(|path| !path.contains("-preferredversion"))
            .collect()
    }
}
