//! Calling the cluster with the programs a user would use.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Cluster;
use crate::exec;

impl Cluster {
    /// `kubectl`, `helm` or `ark` as administrator, found and shown by its name alone as in a shell
    /// that evaluated `cluster env`. Helm's own files stay in the cluster's folder.
    pub fn program(&self, name: &str) -> Result<Command> {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.programs()).chain(std::env::split_paths(&inherited));
        let path = std::env::join_paths(folders).context("PATH cannot be extended")?;
        let helm = self.dir().join("helm");
        let mut command = Command::new(name);
        command
            .env("PATH", path)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HELM_CACHE_HOME", helm.join("cache"))
            .env("HELM_CONFIG_HOME", helm.join("config"))
            .env("HELM_DATA_HOME", helm.join("data"));
        Ok(command)
    }

    /// `kubectl get … -o json`.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let mut kubectl = self.kubectl()?;
        kubectl.arg("get").args(args).arg("--output=json");
        let text = exec::output(&mut kubectl)?;
        serde_json::from_str(&text).context("kubectl's answer is not JSON")
    }

    /// Waits until a workload is as wanted.
    pub fn rollout(&self, namespace: &str, workload: &str) -> Result<()> {
        let mut kubectl = self.program("kubectl")?;
        kubectl.args(["rollout", "status", workload, "--timeout=120s"]);
        exec::run(kubectl.args(["--namespace", namespace])).with_context(|| self.report(namespace))
    }

    /// The pods of a namespace and what happened there last, for an error message.
    pub fn report(&self, namespace: &str) -> String {
        let ask = |args: &[&str]| {
            let mut kubectl = self.kubectl()?;
            kubectl.args(args).args(["--namespace", namespace]);
            exec::output(&mut kubectl)
        };
        let text = |answer: Result<String>| answer.unwrap_or_else(|error| format!("{error:#}"));
        let pods = text(ask(&["get", "pods", "--output=wide"]));
        let events = text(ask(&["get", "events", "--sort-by=.lastTimestamp"]));
        let events: Vec<&str> = events.lines().collect();
        let last = &events[events.len().saturating_sub(12)..];
        format!(
            "pods of {namespace}:\n{pods}\nlast events:\n{}\n",
            last.join("\n")
        )
    }
}
