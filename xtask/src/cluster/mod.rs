//! A real Kubernetes cluster on this machine: `cargo xtask cluster`, the quickstart and the tests.
//!
//! ```text
//!  etcd ◄── API server ◄── controller manager, scheduler, local-path-provisioner     (on the machine)
//!               ▲  on the bridge's address
//!               │
//!            kubelet ──► containerd ──► pods on the bridge     (in a mount namespace of their own)
//! ```
//!
//! [`Cluster`] is the whole of it, kept in one folder until `down`; [`ControlPlane`] is the upper
//! half alone, for tests that need no node. There is no kube-proxy and no cluster DNS: pods call the
//! API server and MinIO at the bridge's address. All methods block.
//!
//! Fails with the name of the component's log and its last lines.

mod cgroup;
mod clean;
mod client;
mod control_plane;
mod machine;
mod minio;
mod network;
mod node;
mod pki;
mod ports;
mod process;
mod provisioner;
mod reaper;
mod state;
mod supervisor;

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

pub use control_plane::ControlPlane;
pub use minio::Minio;
pub use node::NODE_NAME;
pub use process::Identity;
pub use provisioner::{HOST_PATH_CLASS, STORAGE_CLASS};
pub use state::{Component, Member, Network, Spec, State};
pub use supervisor::Supervisor;

use crate::image::{self, Archive};
use crate::print::{self, Progress};
use crate::tools::{self, Lock, Tool};
use crate::{exec, place};

/// What makes up a cluster, in the order of starting.
const COMPONENTS: [Component; 8] = [
    Component::Node,
    Component::Containerd,
    Component::Etcd,
    Component::KubeApiserver,
    Component::KubeControllerManager,
    Component::KubeScheduler,
    Component::Kubelet,
    Component::LocalPathProvisioner,
];

/// A running one-node cluster.
pub struct Cluster {
    supervisor: Supervisor,
    network: Network,
}

impl Cluster {
    /// The cluster in the default folder, started if it does not run. One that runs is kept, with
    /// all that is in it; what a crashed run left is removed first.
    pub fn up() -> Result<Self> {
        let dir = place::cluster()?;
        let _lock = lock(&dir)?;
        require_root()?;
        if let Some(cluster) = Self::revive(&dir) {
            return Ok(cluster);
        }
        tools::ensure(&Tool::CLUSTER)?;
        if dir.exists() {
            print::step("removing what an earlier run left");
            clean::clean(&dir)?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let progress = Progress::start("starting the cluster");
        let cluster = Self::start(&dir)?;
        progress.done();
        Ok(cluster)
    }

    /// The cluster in the default folder, which must run.
    pub fn open() -> Result<Self> {
        let dir = place::cluster()?;
        match Self::in_folder(&dir)? {
            Some(cluster) if cluster.dead()?.is_empty() => Ok(cluster),
            Some(cluster) => {
                let dead: Vec<_> = cluster.dead()?.iter().map(|one| one.name()).collect();
                bail!(
                    "not running: {}; `cargo xtask cluster up` starts it",
                    dead.join(", ")
                )
            }
            None => bail!(
                "no cluster in {}; `cargo xtask cluster up` makes one",
                dir.display()
            ),
        }
    }

    /// Removes every trace of the cluster in the default folder.
    pub fn down() -> Result<()> {
        let dir = place::cluster()?;
        let _lock = lock(&dir)?;
        require_root()?;
        let progress = Progress::start("removing the cluster");
        clean::clean(&dir)?;
        progress.done();
        Ok(())
    }

    /// A cluster that once was ready, with whatever has died since started again.
    fn revive(dir: &Path) -> Option<Self> {
        let revive = || {
            let Some(cluster) = Self::in_folder(dir)? else {
                return Ok(None);
            };
            if cluster.supervisor.running(Component::Node)?.is_none()
                || !network::exists(&cluster.network.bridge)
            {
                return Ok(None);
            }
            for component in cluster.dead()? {
                print::step(&format!("starting {} again", component.name()));
                cluster.supervisor.start_again(component)?;
            }
            cluster.wait_ready()?;
            cluster.link_programs()?;
            anyhow::Ok(Some(cluster))
        };
        revive().unwrap_or_else(|error| {
            print::warning(&format!("the cluster cannot be used as it is: {error:#}"));
            None
        })
    }

    fn in_folder(dir: &Path) -> Result<Option<Self>> {
        if !dir.exists() {
            return Ok(None);
        }
        let supervisor = Supervisor::lasting(dir);
        let state = supervisor.state()?;
        Ok(match state.network {
            Some(network) if state.ready => Some(Self {
                supervisor,
                network,
            }),
            _ => None,
        })
    }

    fn start(dir: &Path) -> Result<Self> {
        let supervisor = Supervisor::lasting(dir);
        let network = network::ensure(&supervisor)?;
        let cluster = Self {
            supervisor,
            network,
        };
        let (supervisor, network) = (&cluster.supervisor, &cluster.network);
        print::note(&format!("node {NODE_NAME} at {}", network.address));

        // containerd and the API server come up side by side.
        node::launch(supervisor, network)?;
        control_plane::launch(supervisor, network.address)?;
        let images = image::test_images()?;
        node::wait_containerd(supervisor)?;
        cluster.import(&images)?;
        control_plane::finish(supervisor, network.address)?;
        print::note("API server and controllers are ready");
        node::start_kubelet(supervisor, network)?;
        provisioner::start(supervisor)?;
        node::wait_ready(supervisor)?;
        cluster.link_programs()?;
        supervisor.update(|state| state.ready = true)?;
        Ok(cluster)
    }

    /// Programs to put on PATH, in one folder.
    fn link_programs(&self) -> Result<()> {
        let folder = self.programs();
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let ark = image::programs_dir()?.join("ark");
        let programs = [
            ("kubectl", tools::path(Tool::Kubectl)?),
            ("helm", tools::path(Tool::Helm)?),
            ("ark", ark),
        ];
        for (name, target) in programs {
            let link = folder.join(name);
            drop(std::fs::remove_file(&link));
            symlink(&target, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
        Ok(())
    }

    /// Waits until API server and node are ready.
    pub fn wait_ready(&self) -> Result<()> {
        control_plane::wait_api_server(&self.supervisor)?;
        node::wait_containerd(&self.supervisor)?;
        node::wait_ready(&self.supervisor)
    }

    /// The components that should run and do not.
    pub fn dead(&self) -> Result<Vec<Component>> {
        let mut dead = Vec::new();
        for component in COMPONENTS {
            if self.supervisor.running(component)?.is_none() {
                dead.push(component);
            }
        }
        Ok(dead)
    }

    /// The components, to kill and start again.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// The cluster's folder.
    pub fn dir(&self) -> &Path {
        self.supervisor.dir()
    }

    /// The folder of programs that `cluster env` puts on PATH.
    pub fn programs(&self) -> PathBuf {
        self.dir().join("bin")
    }

    /// A kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        control_plane::kubeconfig(self.dir())
    }

    /// A kubeconfig that acts as a service account, with just the rights this one has.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        control_plane::service_account_kubeconfig(&self.supervisor, namespace, name)
    }

    /// A `kubectl` command as administrator.
    pub fn kubectl(&self) -> Result<Command> {
        control_plane::kubectl(self.dir())
    }

    /// Where the kubelet keeps pods and volumes; not where most clusters have it. What is mounted
    /// below it is seen with [`Cluster::node_command`] only.
    pub fn kubelet_root(&self) -> PathBuf {
        node::kubelet_root(self.dir())
    }

    /// The address of the node, of the API server and of MinIO, reachable from pods.
    pub fn address(&self) -> Ipv4Addr {
        self.network.address
    }

    /// Where the API server listens, for `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
    pub fn api_server(&self) -> Result<(Ipv4Addr, u16)> {
        let port = control_plane::api_port(&self.supervisor, self.network.address)?;
        Ok((self.network.address, port))
    }

    /// A command that sees the volumes of pods as the node does. It runs in the root folder; give
    /// it absolute paths.
    pub fn node_command(&self, program: impl AsRef<Path>) -> Result<Command> {
        self.supervisor.node_command(program.as_ref())
    }

    /// The MinIO server beside the cluster, started if it does not run.
    pub fn minio(&self) -> Result<Minio> {
        minio::start(&self.supervisor)
    }

    /// Makes images known to the node. Returns how many were new to it.
    pub fn import(&self, images: &[Archive]) -> Result<usize> {
        let known = self.supervisor.state()?.images;
        let mut imported = 0;
        for image in images {
            if known.get(&image.reference) == Some(&image.digest) {
                continue;
            }
            let mut command = node::ctr(&self.supervisor)?;
            command.args(["images", "import"]).arg(&image.path);
            exec::output(&mut command)
                .with_context(|| format!("cannot import the image {}", image.reference))?;
            self.supervisor.update(|state| {
                state
                    .images
                    .insert(image.reference.clone(), image.digest.clone())
            })?;
            imported += 1;
        }
        Ok(imported)
    }
}

/// One run at a time starts or stops a cluster.
fn lock(dir: &Path) -> Result<Lock> {
    let cache = place::cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let name = format!("cluster-{}.lock", network::short_name(dir));
    Lock::take(
        &cache.join(name),
        "another run starts or stops this cluster",
    )
}

fn require_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a node takes root (mounts, containers, a bridge): run this as root"
    );
    Ok(())
}
