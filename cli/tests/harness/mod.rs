//! The command and a real API server to run it against. The operator is played by the tests: they
//! write the statuses that it would write.

use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::cluster::ControlPlane;
use xtask::exec;
use xtask::wait::{self, Look};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// One API server for all tests; each has a namespace of its own.
pub(crate) static PLANE: LazyLock<ControlPlane> = LazyLock::new(|| {
    let plane = ControlPlane::start().unwrap();
    plane.install_crds().unwrap();
    plane
});

/// A namespace in which Ark would be installed.
pub(crate) struct Ark {
    pub(crate) namespace: &'static str,
}

impl Ark {
    pub(crate) fn new(namespace: &'static str) -> Self {
        let ark = Self { namespace };
        kubectl(&["create", "namespace", namespace], "");
        ark
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ark"));
        command
            .env("KUBECONFIG", PLANE.kubeconfig())
            .env("ARK_NAMESPACE", self.namespace)
            .args(line.split_whitespace());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line).output().unwrap())
    }

    pub(crate) fn start(&self, line: &str) -> Child {
        self.command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn apply(&self, object: &Value) {
        kubectl(
            &["apply", "-n", self.namespace, "-f", "-"],
            &object.to_string(),
        );
    }

    pub(crate) fn set_status(&self, kind: &str, name: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let args = [
            "-n",
            self.namespace,
            "patch",
            kind,
            name,
            "--subresource=status",
        ];
        kubectl(&[&args[..], &["--type=merge", "-p", &patch]].concat(), "");
    }

    /// Waits until an object of this kind exists and returns it.
    pub(crate) fn appears(&self, kind: &str) -> Value {
        wait::until(kind, LIMIT, || {
            let text = kubectl(&["-n", self.namespace, "get", kind, "-o", "json"], "");
            let list: Value = serde_json::from_str(&text)?;
            Ok(match list["items"].get(0) {
                Some(object) => Look::Ready(object.clone()),
                None => Look::NotYet("none".to_owned()),
            })
        })
        .unwrap()
    }
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        self
    }
}

pub(crate) fn kubectl(args: &[&str], input: &str) -> String {
    let mut command = PLANE.kubectl().unwrap();
    exec::output_with_input(command.args(args), input).unwrap()
}
