//! The node: a mount namespace, containerd and kubelet in it, and the scheduler.
//!
//! The namespace is kept by a process that only sleeps, so that containerd and kubelet can be
//! killed and started again without losing what is mounted. Inside, mounts are shared (containers
//! and the kubelet see each other's) and never reach the machine; folders that containerd and the
//! kubelet use at fixed places are covered by private ones. All that the machine itself sees are a
//! bridge, a control group and the cluster's folder.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::control_plane::{flags, kubeconfig, kubectl, text};
use super::machine::{self, MachineLock};
use super::process::Identity;
use super::state::{Component, Network, Spec};
use super::supervisor::Supervisor;
use super::{cgroup, network, ports};
use crate::exec;
use crate::image::PAUSE;
use crate::tools::{self, Tool};
use crate::wait::Look;

/// The name of the one node.
pub const NODE_NAME: &str = "ark-node";
/// Where containerd listens, in the node's mount namespace.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
const READY: Duration = Duration::from_mins(1);

/// Folders with fixed names that the node's programs write to. Each gets a private one laid over
/// it.
const COVERED: [&str; 6] = [
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// Where the kubelet keeps pods and their volumes.
pub(super) fn kubelet_root(dir: &Path) -> PathBuf {
    dir.join("kubelet")
}

/// Makes the mount namespace and starts containerd in it.
pub(super) fn launch(supervisor: &Supervisor, net: &Network) -> Result<()> {
    cgroup::ensure(supervisor.dir())?;
    keep_namespace(supervisor)?;
    start_containerd(supervisor, net)
}

/// Waits until containerd answers.
pub(super) fn wait_containerd(supervisor: &Supervisor) -> Result<()> {
    supervisor.wait_ready(Component::Containerd, READY, || {
        let mut command = ctr(supervisor)?;
        Ok(match exec::output(command.arg("version")) {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::NotYet(format!("{error:#}")),
        })
    })
}

/// containerd's own command line, in the namespace that Kubernetes' images are in.
pub(super) fn ctr(supervisor: &Supervisor) -> Result<std::process::Command> {
    let mut command = supervisor.node_command(&tools::path(Tool::Ctr)?)?;
    command.args(["--address", CONTAINERD, "--namespace", "k8s.io"]);
    Ok(command)
}

fn keep_namespace(supervisor: &Supervisor) -> Result<()> {
    // Held until the folders are covered: whoever leaves before may remove them.
    let _lock = MachineLock::take()?;
    machine::make_mount_points(supervisor, &COVERED)?;
    // The last word of the script becomes the process that keeps the namespace.
    let covers = COVERED
        .map(|folder| format!("mount -t tmpfs ark {folder}; mount --make-rshared {folder}; "));
    let script = format!(
        "set -e; mount --make-rshared /; {}exec sleep infinity",
        covers.concat()
    );
    let spec = Spec {
        program: tools::path(Tool::Unshare)?,
        args: ["--mount", "--propagation", "private", "sh", "-c", &script]
            .map(str::to_owned)
            .to_vec(),
        env: BTreeMap::new(),
        in_node: false,
    };
    supervisor.start(Component::Node, spec)?;
    supervisor.wait_ready(Component::Node, READY, || {
        let name = match supervisor.running(Component::Node)? {
            Some(Identity { pid, .. }) => fs::read_to_string(format!("/proc/{pid}/comm")),
            None => Ok(String::new()),
        };
        Ok(match name.unwrap_or_default().trim() {
            "sleep" => Look::Ready(()),
            other => Look::NotYet(format!("still {other:?}")),
        })
    })
}

fn start_containerd(supervisor: &Supervisor, net: &Network) -> Result<()> {
    let dir = supervisor.dir();
    let config = dir.join("containerd.toml");
    let cni = network::write_cni(dir, net)?;
    let plugins = tools::path(Tool::CniBridge)?;
    let plugins = plugins.parent().unwrap_or(Path::new("/usr/lib/cni"));
    let body = format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd/state"
# Writing a lower value takes a capability that not every machine grants.
oom_score = 0
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  max_container_log_line_size = -1
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        Root = "/run/containerd/runc"
        SystemdCgroup = false
"#,
        root = dir.join("containerd").display(),
        plugins = plugins.display(),
        cni = cni.display(),
        snapshotter = snapshotter(dir),
        runc = tools::path(Tool::Runc)?.display(),
    );
    fs::write(&config, body).with_context(|| format!("cannot write {}", config.display()))?;
    let shim = tools::path(Tool::ContainerdShim)?;
    let spec = Spec {
        program: tools::path(Tool::Containerd)?,
        args: flags(&[("config", &text(&config))]),
        env: [("PATH".to_owned(), path_with(&[&shim]))].into(),
        in_node: true,
    };
    supervisor.start(Component::Containerd, spec)
}

/// overlayfs does not stack on itself, which is what the folder is on inside a container.
fn snapshotter(dir: &Path) -> &'static str {
    const OVERLAY: u64 = 0x794c_7630;
    match rustix::fs::statfs(dir) {
        #[expect(
            clippy::cast_sign_loss,
            reason = "a bit pattern, signed on some machines only"
        )]
        #[allow(
            clippy::unnecessary_cast,
            clippy::allow_attributes,
            reason = "see above"
        )]
        Ok(info) if info.f_type as u64 == OVERLAY => "native",
        _ => "overlayfs",
    }
}

/// This process's PATH, with the system's own programs and those given in any case.
fn path_with(programs: &[&Path]) -> String {
    let mut folders: Vec<String> = std::env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .map(str::to_owned)
        .collect();
    let given = programs
        .iter()
        .filter_map(|program| Some(text(program.parent()?)));
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(str::to_owned);
    for folder in given.chain(system) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.join(":")
}

/// Starts kubelet and scheduler; the API server must be ready and the sandbox image imported.
pub(super) fn start_kubelet(supervisor: &Supervisor, net: &Network) -> Result<()> {
    let dir = supervisor.dir();
    let config = dir.join("kubelet.json");
    let port = ports::port(supervisor, "kubelet", net.address)?;
    let body = kubelet_config(dir, net.address, port);
    fs::write(&config, format!("{body:#}\n"))
        .with_context(|| format!("cannot write {}", config.display()))?;
    let admin = text(&kubeconfig(dir));
    let kubelet = Spec {
        program: tools::path(Tool::Kubelet)?,
        args: flags(&[
            ("config", &text(&config)),
            ("kubeconfig", &admin),
            ("root-dir", &text(&kubelet_root(dir))),
            ("hostname-override", NODE_NAME),
            ("node-ip", &net.address.to_string()),
        ]),
        env: [("PATH".to_owned(), path_with(&[]))].into(),
        in_node: true,
    };
    supervisor.start(Component::Kubelet, kubelet)?;
    let scheduler = Spec {
        program: tools::path(Tool::KubeScheduler)?,
        args: flags(&[
            ("kubeconfig", &admin),
            ("leader-elect", "false"),
            // It serves nothing that anybody asks for.
            ("secure-port", "0"),
        ]),
        env: BTreeMap::new(),
        in_node: false,
    };
    supervisor.start(Component::KubeScheduler, scheduler)
}

/// Waits until the node takes pods.
pub(super) fn wait_ready(supervisor: &Supervisor) -> Result<()> {
    supervisor.wait_ready(Component::Kubelet, READY, || {
        let mut command = kubectl(supervisor.dir())?;
        command.args(["get", "node", NODE_NAME, "-o"]);
        command.arg(
            "jsonpath={.status.conditions[?(@.type=='Ready')].status} \
             {.status.conditions[?(@.type=='Ready')].message} {.spec.taints[*].key}",
        );
        Ok(match exec::output(&mut command) {
            Ok(text) if text.starts_with("True ") && !text.contains("node.kubernetes.io") => {
                Look::Ready(())
            }
            Ok(text) => Look::NotYet(text),
            Err(error) => Look::NotYet(format!("{error:#}")),
        })
    })
}

fn kubelet_config(dir: &Path, address: Ipv4Addr, port: u16) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "port": port,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": dir.join("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup::name(dir),
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // Must be positive; a test cluster runs on whatever a machine has left.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        // Images were imported and cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "",
        "makeIPTablesUtilChains": false,
        "podLogsDir": dir.join("pod-logs"),
        "volumePluginDir": dir.join("kubelet-volume-plugins"),
        "serializeImagePulls": false,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    })
}
