//! What a cluster's folder says about it: which processes, ports, network and images.
//!
//! The state is a file, read again for each use and replaced by a rename under a lock, so that
//! several processes (a test run, `cargo xtask cluster`) see the same thing. What is written there
//! is written **before** it is made on the machine wherever it could not be found again otherwise.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::process::Identity;
use crate::tools::Lock;

/// The parts of a cluster that are processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The API server's store.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// Kubernetes' own controllers.
    KubeControllerManager,
    /// Places pods.
    KubeScheduler,
    /// Keeps the node's mount namespace.
    Node,
    /// The container runtime.
    Containerd,
    /// Runs pods.
    Kubelet,
    /// Makes volumes for claims.
    LocalPathProvisioner,
    /// The S3 server.
    Minio,
}

impl Component {
    /// The name, as in the names of log files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Node => "node",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::LocalPathProvisioner => "local-path-provisioner",
            Self::Minio => "minio",
        }
    }
}

/// How a component is started, kept so that any process can start it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables on top of the harness's own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether it runs in the node's mount namespace.
    #[serde(default)]
    pub in_node: bool,
}

/// A component that was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// How.
    pub spec: Spec,
    /// As which process.
    pub identity: Identity,
}

/// The pod network of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    /// The bridge's name.
    pub bridge: String,
    /// The node's address, on the bridge.
    pub address: Ipv4Addr,
    /// The pods' addresses, in CIDR notation.
    pub subnet: String,
}

/// All that is known of a cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Whether `up` got to its end.
    pub ready: bool,
    /// The pod network, if there is a node.
    pub network: Option<Network>,
    /// Ports by what listens there.
    pub ports: BTreeMap<String, u16>,
    /// The components that were started.
    pub members: BTreeMap<Component, Member>,
    /// Folders outside the cluster's own that were made as mount points.
    pub mount_points: Vec<PathBuf>,
    /// What the kernel's packet forwarding was set to before.
    pub ip_forward: Option<String>,
    /// Digests of the images that were imported, by archive.
    pub images: BTreeMap<String, String>,
}

/// The file a [`State`] is kept in.
#[derive(Debug, Clone)]
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("state.json"),
        }
    }

    /// The state now; none if nothing was ever started here.
    pub(super) fn read(&self) -> Result<Option<State>> {
        let text = match std::fs::read(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot read {}", self.path.display()))?,
        };
        let state = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a cluster's state", self.path.display()))?;
        Ok(Some(state))
    }

    /// Changes the state, against all other changes.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T> {
        let _lock = Lock::quiet(&self.path.with_extension("lock"))?;
        let mut state = self.read()?.unwrap_or_default();
        let result = change(&mut state);
        let temporary = self.path.with_extension("new");
        let text = serde_json::to_vec_pretty(&state).context("the state cannot be written")?;
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_the_next_reader() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path());
        assert!(file.read().unwrap().is_none());
        file.update(|state| state.ports.insert("api".to_owned(), 6443))
            .unwrap();
        let other = StateFile::new(dir.path());
        assert_eq!(other.read().unwrap().unwrap().ports["api"], 6443);
    }

    #[test]
    fn a_file_that_is_no_state_is_an_error_and_not_an_empty_state() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("state.json"), "{").unwrap();
        let error = StateFile::new(dir.path()).read().unwrap_err().to_string();
        assert!(error.contains("is not a cluster's state"), "{error}");
    }
}
