//! The agent's process on a simulated node: started, asked, ended.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use xtask::exec;

use super::{Node, until};

/// Name of the agent's pod.
pub const AGENT: &str = "agent-x";

/// A kubeconfig with a token as the kubelet would mount it into `pod`, which runs as `ark-agent`:
/// it names the pod and its node. `account` is a kubeconfig of the service account; the new one is
/// written into `dir`.
pub async fn pod_kubeconfig(
    client: &Client,
    namespace: &str,
    pod: &str,
    account: &Path,
    dir: &Path,
) -> PathBuf {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let uid = api.get(pod).await.unwrap().metadata.uid;
    let request = json!({"spec": {"audiences": [], "expirationSeconds": 86400,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}}});
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let answer: TokenRequest = accounts
        .create_subresource("token", "ark-agent", &PostParams::default(), &request)
        .await
        .unwrap();
    let text = std::fs::read_to_string(account).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": answer.status.unwrap().token});
    let path = dir.join(format!("{pod}.kubeconfig"));
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

impl Node {
    /// Makes the agent's pod, for its name and node to be in the agent's token.
    pub(super) async fn make_agent_pod(&self) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": AGENT, "labels": {"app.kubernetes.io/component": "agent"}},
            "spec": {
                "nodeName": self.name,
                "serviceAccountName": "ark-agent",
                "containers": [{"name": "agent", "image": "none"}],
            },
        }))
        .unwrap();
        self.create(pod).await;
    }

    /// A kubeconfig of the agents' service account with a token that names no pod and no node.
    pub fn account_kubeconfig(&self) -> &Path {
        &self.account
    }

    /// The agent's kubeconfig.
    pub fn agent_kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Starts the agent as the chart's DaemonSet would.
    pub fn start_agent(&mut self) {
        self.start_agent_with(&[]);
    }

    /// The same with other environment variables on top.
    pub fn start_agent_with(&mut self, env: &[(&str, &str)]) {
        assert!(self.agent.is_none(), "the agent is running");
        self.log_start = self.log().len();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let child = Command::new(program("ark-agent"))
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("ARK_NAMESPACE", &self.namespace)
            .env("ARK_NODE_NAME", &self.name)
            .env("ARK_POD_NAME", AGENT)
            .env("ARK_HOST_PODS", self.pods_dir())
            .env("ARK_LOCAL_STORE_ROOT", self.dir.path().join("store"))
            .env("ARK_STATE_DIR", self.dir.path().join("state"))
            .env("ARK_HTTP_ADDRESS", "127.0.0.1:0")
            .env("ARK_LOG", "info,ark_agent=debug")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    /// Process id of the agent.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// Ends the agent without warning.
    pub fn kill_agent(&mut self) {
        if let Some(mut child) = self.agent.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the agent to end and waits until it has; its exit code.
    pub async fn stop_agent(&mut self) -> Option<i32> {
        let mut child = self.agent.take().unwrap();
        let pid = child.id().to_string();
        exec::output(Command::new("kill").args(["-TERM", &pid])).unwrap();
        until("end of the agent", async || child.try_wait().unwrap())
            .await
            .code()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    /// What the agent has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Asks the agent over HTTP: status code and body.
    pub async fn http(&self, path: &str) -> (u16, String) {
        let address = until("address of the agent", async || {
            let log = self.log();
            let own = log.get(self.log_start..)?;
            let line = own.lines().find(|l| l.contains("agent started"))?;
            let rest = line.split("http=").nth(1)?;
            Some(rest.split_whitespace().next()?.to_owned())
        })
        .await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        let answer = tokio::task::spawn_blocking(move || {
            use std::io::{Read as _, Write as _};
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
        .await
        .unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (code, body)
    }
}

/// A program of this workspace: built beside this one, or from the folder `ARK_TEST_PROGRAMS`.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let beside = own.parent().and_then(Path::parent).unwrap().to_owned();
    let folder = std::env::var_os("ARK_TEST_PROGRAMS").map_or(beside, PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: build it first (cargo xtask test does)",
        path.display()
    );
    path
}
