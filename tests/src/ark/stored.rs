//! What an installation has stored in its location `default`.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use ark_api::layout;
use ark_api::results::Results;
use ark_api::volume::VolumeRow;
use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Ark;

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

    /// Paths of a bundle without those of the preferred versions.
    pub fn items(&self, backup: &str) -> Vec<String> {
        let all = self.bundle(backup).into_iter().map(|(path, _)| path);
        all.filter(|path| !path.contains("-preferredversion"))
            .collect()
    }
}
