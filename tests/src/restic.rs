//! Stock restic, pointed at a repository that Ark made: the judge that is not ours.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::cluster::Cluster;
use xtask::exec;
use xtask::install::{BUCKET, NAMESPACE, Storage};

/// One repository as restic reaches it.
#[derive(Debug)]
pub struct Restic {
    repository: String,
    environment: Vec<(&'static str, String)>,
}

impl Restic {
    /// The repository of `namespace` at the location that `storage` makes on a test cluster.
    pub fn of(cluster: &Cluster, storage: Storage, namespace: &str) -> Result<Self> {
        let mut environment = vec![("RESTIC_PASSWORD", password(cluster, storage.location())?)];
        let repository = match storage {
            Storage::Local => {
                let store = cluster.dir().join("store").join(BUCKET);
                store.join("restic").join(namespace).display().to_string()
            }
            Storage::Minio => {
                let minio = cluster.minio()?;
                environment.push(("AWS_ACCESS_KEY_ID", minio.access_key.clone()));
                environment.push(("AWS_SECRET_ACCESS_KEY", minio.secret_key.clone()));
                environment.push(("AWS_DEFAULT_REGION", "minio".to_owned()));
                format!("s3:{}/{BUCKET}/restic/{namespace}", minio.endpoint)
            }
        };
        Ok(Self {
            repository,
            environment,
        })
    }

    /// A restic command on the repository, without a cache that would outlive the test.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command
            .args(["--repo", &self.repository, "--no-cache"])
            .args(arguments);
        command.envs(
            self.environment
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        command
    }

    /// All snapshots, as restic lists them.
    pub fn snapshots(&self) -> Result<Vec<Value>> {
        let text = exec::output(&mut self.command(&["snapshots", "--json"]))?;
        serde_json::from_str(&text).context("restic's list of snapshots is not JSON")
    }

    /// Reads everything that is stored and checks it.
    pub fn check(&self) -> Result<()> {
        exec::output(&mut self.command(&["check", "--read-data"])).map(drop)
    }

    /// Writes a snapshot's files below `target`.
    pub fn restore(&self, snapshot: &str, target: &Path) -> Result<()> {
        let target = target.to_str().context("the target's path is not UTF-8")?;
        exec::output(&mut self.command(&["restore", snapshot, "--target", target])).map(drop)
    }
}

/// The key of a location's repositories.
fn password(cluster: &Cluster, location: &str) -> Result<String> {
    let secret = ark_api::naming::key_secret(location);
    let template = format!(
        "go-template={{{{index .data {:?} | base64decode}}}}",
        ark_api::naming::REPOSITORY_PASSWORD_KEY
    );
    let mut kubectl = cluster.kubectl()?;
    kubectl.args([
        "get",
        "secret",
        &secret,
        "--namespace",
        NAMESPACE,
        "--output",
        &template,
    ]);
    exec::output(&mut kubectl)
}
