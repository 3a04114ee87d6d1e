//! The processes of an installation: operators and agents, started, killed and asked to end.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jiff::Timestamp;
use xtask::exec;

use super::Ark;
use crate::node::{program, until};

/// A further process of an installation.
pub struct Extra {
    child: Child,
    log: PathBuf,
}

impl Extra {
    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ark {
    /// Starts the operator as the chart's Deployment would.
    pub fn start_operator(&mut self) {
        assert!(self.operator.is_none(), "the operator is running");
        let child = self.spawn(
            "ark-operator",
            &self.operator_kubeconfig,
            &self.operator_log_path(),
            &[
                ("ARK_POD_NAME", "ark-operator-x"),
                ("ARK_ARTEFACT_ADDRESS", "127.0.0.1:0"),
            ],
        );
        self.operator = Some(child);
    }

    fn spawn(&self, name: &str, kubeconfig: &Path, log: &Path, env: &[(&str, &str)]) -> Child {
        self.spawn_with(name, &[], kubeconfig, log, env)
    }

    fn spawn_with(
        &self,
        name: &str,
        args: &[&str],
        kubeconfig: &Path,
        log: &Path,
        env: &[(&str, &str)],
    ) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        // Another build of the programs, such as the one of the images, can be tried as well.
        let path = std::env::var_os("ARK_TEST_PROGRAMS")
            .map_or_else(|| program(name), |dir| PathBuf::from(dir).join(name));
        Command::new(path)
            .args(args)
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("ARK_NAMESPACE", &self.namespace)
            .env("ARK_LOCAL_STORE_ROOT", self.store_root())
            .env("ARK_HTTP_ADDRESS", "127.0.0.1:0")
            .env("ARK_LOG", "info,ark_operator=debug,ark_agent=debug")
            .env("TMPDIR", self.dir.path().join("spool"))
            .envs(env.iter().copied())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Makes the operators that are started from now on read their clock from a file of the test's.
    pub fn own_clock(&mut self) {
        let file = self.clock_path().display().to_string();
        self.env.push(("ARK_TEST_CLOCK".to_owned(), file));
    }

    /// Sets the clock of [`Ark::own_clock`] to `time`; it goes on from there.
    pub fn set_clock(&self, time: Timestamp) {
        let ahead = time.duration_since(Timestamp::now()).as_secs();
        // Renamed into place, so that nobody reads half a number.
        let new = self.clock_path().with_extension("new");
        std::fs::write(&new, ahead.to_string()).unwrap();
        std::fs::rename(&new, self.clock_path()).unwrap();
    }

    /// Makes the operators that are started from now on count their writes when
    /// [`Ark::end_operator_at_write`] asks.
    pub fn count_writes(&mut self) {
        let file = self.writes_path().display().to_string();
        self.env
            .push((ark_api::env::TEST_END_AT_WRITE.to_owned(), file));
    }

    /// Has the operator end without warning in place of the `number`th write from now on, to the
    /// API server or to a bucket.
    pub fn end_operator_at_write(&self, number: u64) {
        let new = self.writes_path().with_extension("new");
        std::fs::write(&new, number.to_string()).unwrap();
        std::fs::rename(&new, self.writes_path()).unwrap();
    }

    /// Takes back [`Ark::end_operator_at_write`]; whether the operator had not ended yet.
    pub fn spare_operator(&self) -> bool {
        std::fs::remove_file(self.writes_path()).is_ok()
    }

    /// Whether the operator has ended by itself; then another may be started.
    pub fn operator_has_ended(&mut self) -> bool {
        let child = self.operator.as_mut().unwrap();
        let ended = child.try_wait().unwrap().is_some();
        if ended {
            self.operator = None;
        }
        ended
    }

    fn writes_path(&self) -> PathBuf {
        self.dir.path().join("writes")
    }

    /// Memory of the operator that is in use now, in bytes.
    pub fn operator_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.operator_pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Requests that the operator has made of the API server so far.
    pub async fn operator_requests(&self) -> u64 {
        let address = self.said("http=").await;
        let address: std::net::SocketAddr = address.parse().unwrap();
        let fetch = move || xtask::http::get((address.ip(), address.port()), "/metrics").unwrap();
        let answer = tokio::task::spawn_blocking(fetch).await.unwrap();
        let page = String::from_utf8(answer.body).unwrap();
        page.lines()
            .filter(|line| line.starts_with("ark_api_requests_total{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    fn clock_path(&self) -> PathBuf {
        self.dir.path().join("clock")
    }

    /// Ends the operator without warning.
    pub fn kill_operator(&mut self) {
        if let Some(mut child) = self.operator.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the operator to end and waits until it has; its exit code.
    pub async fn stop_operator(&mut self) -> Option<i32> {
        let mut child = self.operator.take().unwrap();
        exec::output(Command::new("kill").args(["-TERM", &child.id().to_string()])).unwrap();
        until("end of the operator", async || child.try_wait().unwrap())
            .await
            .code()
    }

    /// Waits until the operator has ended by itself; its exit code.
    pub async fn operator_ended(&mut self) -> Option<i32> {
        let mut child = self.operator.take().unwrap();
        until("end of the operator", async || child.try_wait().unwrap())
            .await
            .code()
    }

    /// Starts another operator of the same installation.
    pub fn another_operator(&self, pod: &str) -> Extra {
        let log = self.dir.path().join(format!("{pod}.log"));
        let env = [
            ("ARK_POD_NAME", pod),
            ("ARK_ARTEFACT_ADDRESS", "127.0.0.1:0"),
        ];
        let child = self.spawn("ark-operator", &self.operator_kubeconfig, &log, &env);
        Extra { child, log }
    }

    /// Process id of the operator.
    pub fn operator_pid(&self) -> u32 {
        self.operator.as_ref().unwrap().id()
    }

    fn operator_log_path(&self) -> PathBuf {
        self.dir.path().join("operator.log")
    }

    /// What the operator has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.operator_log_path()).unwrap_or_default()
    }

    /// The last value of `key=` in the operator's log.
    pub async fn said(&self, key: &str) -> String {
        until(&format!("{key} in the operator's log"), async || {
            let log = self.log();
            let line = log.lines().rfind(|line| line.contains(key))?;
            let rest = line.split(key).nth(1)?;
            Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
        })
        .await
    }

    /// Starts a real agent for a node made with [`Self::node`].
    pub fn start_agent(&mut self, node: &str) {
        let pods = self.pods_dir();
        let pod = format!("agent-{node}");
        let kubeconfig = self.dir.path().join(format!("{pod}.kubeconfig"));
        let env = [
            ("ARK_NODE_NAME", node),
            ("ARK_POD_NAME", pod.as_str()),
            ("ARK_HOST_PODS", pods.to_str().unwrap()),
        ];
        let log = self.dir.path().join("agent.log");
        let child = self.spawn("ark-agent", &kubeconfig, &log, &env);
        self.agents.push(child);
    }

    /// Runs what the container of maintenance Job `job` runs, with `args`, to its end; whether it
    /// ended well.
    pub fn run_maintenance(&self, job: &str, args: &[&str]) -> bool {
        let log = self.dir.path().join("maintenance.log");
        let env = [
            ("ARK_NODE_NAME", "n"),
            ("ARK_POD_NAME", job),
            (ark_api::env::JOB_NAME, job),
        ];
        let mut child =
            self.spawn_with("ark-agent", args, &self.maintenance_kubeconfig, &log, &env);
        let ended_well = child.wait().unwrap().success();
        if !ended_well {
            // Shown with the test that fails, and nowhere else.
            std::io::copy(
                &mut std::fs::File::open(log).unwrap(),
                &mut std::io::stderr(),
            )
            .unwrap();
        }
        ended_well
    }

    /// What the agents have said so far.
    pub fn agent_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }
}
