//! etcd, the API server and the controllers of Kubernetes.
//!
//! Used alone by tests that need no node ([`ControlPlane`]: in a folder of its own, ends with the
//! process that started it, any number beside each other), and as the first part of a whole
//! cluster. Order: etcd, API server, controllers; ready means that the API server says so and that
//! the controllers have made the default service account.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::pki::{self, Pki};
use super::ports;
use super::state::{Component, Spec};
use super::supervisor::Supervisor;
use crate::tools::{self, Tool};
use crate::wait::Look;
use crate::{exec, place};

const READY: Duration = Duration::from_secs(90);
/// The addresses of Services; nothing serves them, the API server only wants to hand them out.
const SERVICES: &str = "10.96.0.0/16";
const SERVICE_OF_API: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// What the API server tells others to call it at when it listens on loopback only, which it
/// refuses to say. From the addresses for documentation: nobody answers there.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Two control planes that start at once may choose the same port; the loser tries again.
const TRIES: usize = 3;

/// A control plane without a node, in a temporary folder, on loopback.
///
/// Everything ends, and the folder goes, when this value is dropped or its process ends in whatever
/// way. Its methods block; call them from a blocking thread in async code.
pub struct ControlPlane {
    supervisor: Supervisor,
    // Dropped after the supervisor, whose reaper removes the folder.
    _dir: tempfile::TempDir,
}

impl ControlPlane {
    /// Starts one and waits until it is ready. Builds and installs what it needs if that is
    /// missing.
    pub fn start() -> Result<Self> {
        tools::ensure(&Tool::CONTROL_PLANE)?;
        let mut attempt = 1;
        loop {
            match Self::start_once() {
                Ok(started) => return Ok(started),
                Err(error) if attempt < TRIES && is_port_taken(&error) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn start_once() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("ark-control-plane-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let supervisor = Supervisor::ending_with_us(dir.path())?;
        start(&supervisor, Ipv4Addr::LOCALHOST)?;
        Ok(Self {
            supervisor,
            _dir: dir,
        })
    }

    /// The folder of this control plane; tests may put their own files below it.
    pub fn dir(&self) -> &Path {
        self.supervisor.dir()
    }

    /// A kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.dir())
    }

    /// A kubeconfig that acts as a service account, with just the rights this one has.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        service_account_kubeconfig(&self.supervisor, namespace, name)
    }

    /// Installs Ark's definitions from the chart and waits until the API server serves them.
    pub fn install_crds(&self) -> Result<()> {
        let folder = place::workspace().join("charts/ark/crds");
        exec::output(
            self.kubectl()?
                .args(["apply", "--server-side", "-f"])
                .arg(&folder),
        )?;
        exec::output(
            self.kubectl()?
                .args(["wait", "--for=condition=Established", "--timeout=30s", "-f"])
                .arg(&folder),
        )
        .map(drop)
    }

    /// A `kubectl` command as administrator.
    pub fn kubectl(&self) -> Result<Command> {
        kubectl(self.dir())
    }

    /// The components, to kill and start again.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// A MinIO server beside the control plane; started if it does not run.
    pub fn minio(&self) -> Result<super::Minio> {
        super::minio::start(&self.supervisor)
    }

    /// Waits until the API server is ready, after it was started again.
    pub fn wait_ready(&self) -> Result<()> {
        wait_api_server(&self.supervisor)
    }
}

/// Whether an error came from a port that somebody else took in the meantime.
fn is_port_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("address already in use")
}

/// Where the administrator's kubeconfig lies.
pub(super) fn kubeconfig(dir: &Path) -> PathBuf {
    dir.join("admin.kubeconfig")
}

/// A `kubectl` command as administrator of the cluster in `dir`.
pub(super) fn kubectl(dir: &Path) -> Result<Command> {
    let mut command = Command::new(tools::path(Tool::Kubectl)?);
    command.env("KUBECONFIG", kubeconfig(dir));
    Ok(command)
}

/// Where the API server of a cluster listens.
pub(super) fn api_port(supervisor: &Supervisor, address: Ipv4Addr) -> Result<u16> {
    ports::port(supervisor, "kube-apiserver", address)
}

/// Starts what does not run of the control plane, and waits until it is ready.
pub(super) fn start(supervisor: &Supervisor, address: Ipv4Addr) -> Result<()> {
    launch(supervisor, address)?;
    finish(supervisor, address)
}

/// The first half of [`start`]: etcd is ready, the API server is on its way.
pub(super) fn launch(supervisor: &Supervisor, address: Ipv4Addr) -> Result<()> {
    let dir = supervisor.dir();
    let pki = Pki::ensure(dir, &[Ipv4Addr::LOCALHOST, address, SERVICE_OF_API])?;
    let port = api_port(supervisor, address)?;
    pki.write_kubeconfig(&kubeconfig(dir), &format!("https://{address}:{port}"))?;
    start_etcd(supervisor)?;
    start_api_server(supervisor, &pki, address)
}

/// The second half of [`start`].
pub(super) fn finish(supervisor: &Supervisor, address: Ipv4Addr) -> Result<()> {
    let pki = Pki::ensure(
        supervisor.dir(),
        &[Ipv4Addr::LOCALHOST, address, SERVICE_OF_API],
    )?;
    wait_api_server(supervisor)?;
    start_controllers(supervisor, &pki)?;
    let kubectl = || kubectl(supervisor.dir());
    supervisor.wait_ready(Component::KubeControllerManager, READY, || {
        let mut command = kubectl()?;
        command.args(["get", "serviceaccount", "default", "-o", "name"]);
        Ok(seen(exec::output(&mut command)))
    })
}

fn seen(answer: Result<String>) -> Look<()> {
    match answer {
        Ok(_) => Look::Ready(()),
        Err(error) => Look::NotYet(format!("{error:#}")),
    }
}

fn start_etcd(supervisor: &Supervisor) -> Result<()> {
    let here = Ipv4Addr::LOCALHOST;
    let clients = ports::port(supervisor, "etcd", here)?;
    let peers = ports::port(supervisor, "etcd-peer", here)?;
    let client_url = format!("http://{here}:{clients}");
    let peer_url = format!("http://{here}:{peers}");
    let data = supervisor.dir().join("etcd");
    let spec = Spec {
        program: tools::path(Tool::Etcd)?,
        args: flags(&[
            ("data-dir", &text(&data)),
            ("listen-client-urls", &client_url),
            ("advertise-client-urls", &client_url),
            ("listen-peer-urls", &peer_url),
            ("initial-advertise-peer-urls", &peer_url),
            ("initial-cluster", &format!("default={peer_url}")),
            // A test cluster does not outlive the machine.
            ("unsafe-no-fsync", "true"),
            ("log-level", "warn"),
        ]),
        env: [(
            "ETCD_UNSUPPORTED_ARCH".to_owned(),
            std::env::consts::ARCH.to_owned(),
        )]
        .into(),
        in_node: false,
    };
    supervisor.start(Component::Etcd, spec)?;
    supervisor.wait_ready(Component::Etcd, READY, || {
        Ok(match std::net::TcpStream::connect((here, clients)) {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::NotYet(error.to_string()),
        })
    })
}

fn start_api_server(supervisor: &Supervisor, pki: &Pki, address: Ipv4Addr) -> Result<()> {
    let etcd = ports::port(supervisor, "etcd", Ipv4Addr::LOCALHOST)?;
    let port = api_port(supervisor, address)?;
    let (advertise, reconciler) = if address.is_loopback() {
        (NOWHERE, "none")
    } else {
        (address, "lease")
    };
    let certificates = text(&supervisor.dir().join("apiserver-certificates"));
    let mut args = flags(&[
        ("etcd-servers", &format!("http://127.0.0.1:{etcd}")),
        ("bind-address", &address.to_string()),
        ("advertise-address", &advertise.to_string()),
        ("endpoint-reconciler-type", reconciler),
        ("secure-port", &port.to_string()),
        ("cert-dir", &certificates),
        ("service-cluster-ip-range", SERVICES),
        ("authorization-mode", "Node,RBAC"),
        ("allow-privileged", "true"),
        // Without this, exec and logs try to resolve the node's name.
        ("kubelet-preferred-address-types", "InternalIP"),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        ),
        ("enable-aggregator-routing", "true"),
        ("requestheader-allowed-names", "front-proxy"),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ("requestheader-group-headers", "X-Remote-Group"),
        ("requestheader-username-headers", "X-Remote-User"),
        ("profiling", "false"),
    ]);
    args.extend(flags(&[
        ("client-ca-file", &text(&pki.certificate("ca"))),
        (
            "requestheader-client-ca-file",
            &text(&pki.certificate("ca")),
        ),
        ("tls-cert-file", &text(&pki.certificate("apiserver"))),
        ("tls-private-key-file", &text(&pki.key("apiserver"))),
        (
            "kubelet-client-certificate",
            &text(&pki.certificate("apiserver-kubelet")),
        ),
        ("kubelet-client-key", &text(&pki.key("apiserver-kubelet"))),
        (
            "proxy-client-cert-file",
            &text(&pki.certificate("front-proxy")),
        ),
        ("proxy-client-key-file", &text(&pki.key("front-proxy"))),
        (
            "service-account-key-file",
            &text(&pki.service_account_public()),
        ),
        (
            "service-account-signing-key-file",
            &text(&pki.key("service-account")),
        ),
    ]));
    let spec = Spec {
        program: tools::path(Tool::KubeApiserver)?,
        args,
        env: BTreeMap::new(),
        in_node: false,
    };
    supervisor.start(Component::KubeApiserver, spec)
}

/// Waits until the API server says that it is ready.
pub(super) fn wait_api_server(supervisor: &Supervisor) -> Result<()> {
    supervisor.wait_ready(Component::KubeApiserver, READY, || {
        let mut command = kubectl(supervisor.dir())?;
        command.args(["get", "--raw=/readyz", "--request-timeout=5s"]);
        Ok(seen(exec::output(&mut command)))
    })
}

fn start_controllers(supervisor: &Supervisor, pki: &Pki) -> Result<()> {
    let spec = Spec {
        program: tools::path(Tool::KubeControllerManager)?,
        args: flags(&[
            ("kubeconfig", &text(&kubeconfig(supervisor.dir()))),
            (
                "service-account-private-key-file",
                &text(&pki.key("service-account")),
            ),
            ("root-ca-file", &text(&pki.certificate("ca"))),
            ("use-service-account-credentials", "true"),
            ("leader-elect", "false"),
            // It serves nothing that anybody asks for.
            ("secure-port", "0"),
            ("kube-api-qps", "200"),
            ("kube-api-burst", "300"),
        ]),
        env: BTreeMap::new(),
        in_node: false,
    };
    supervisor.start(Component::KubeControllerManager, spec)
}

/// Writes a kubeconfig with a token of a service account, good for a day.
pub(super) fn service_account_kubeconfig(
    supervisor: &Supervisor,
    namespace: &str,
    name: &str,
) -> Result<PathBuf> {
    let dir = supervisor.dir();
    let mut command = kubectl(dir)?;
    command.args([
        "create",
        "token",
        name,
        "--duration=24h",
        "--namespace",
        namespace,
    ]);
    let token = exec::output(&mut command)?;
    let token = token.trim();
    ensure!(!token.is_empty(), "no token for {namespace}/{name}");

    let mut command = kubectl(dir)?;
    let server = "-o=jsonpath={.clusters[0].cluster.server}";
    command.args(["config", "view", server]);
    let server = exec::output(&mut command)?;
    let ca = dir.join("pki/ca.crt");
    let path = dir.join(format!("{namespace}.{name}.kubeconfig"));
    pki::write_kubeconfig(&path, server.trim(), &ca, &json!({"token": token}))?;
    Ok(path)
}

/// Flags in the form all of these programs take.
pub(super) fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

/// A path as an argument. The harness chooses its folders itself, and they are text.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
