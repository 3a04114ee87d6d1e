//! Stock restic: as installed (0.14 or newer), and the newest, which `cargo xtask` builds.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{PASSWORD, newest_restic::newest};

#[derive(Clone)]
pub struct Restic {
    program: PathBuf,
    repo: PathBuf,
}

impl Restic {
    pub fn local(repo: &Path) -> Self {
        let found = Command::new("restic").arg("version").output();
        assert!(
            found.is_ok_and(|out| out.status.success()),
            "restic is needed: install the package"
        );
        Self {
            program: "restic".into(),
            repo: repo.to_owned(),
        }
    }

    /// The newest one, which has commands and exit codes that the installed one may lack.
    pub fn newest(repo: &Path) -> Self {
        Self {
            program: newest(),
            repo: repo.to_owned(),
        }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--repo")
            .arg(&self.repo)
            .arg("--no-cache")
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs it and expects success.
    pub fn run(&self, args: &[&str]) -> String {
        let out = self.output(args);
        assert!(out.status.success(), "restic {args:?}: {}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Runs it, whatever comes of it.
    pub fn output(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    pub fn check(&self) {
        self.run(&["check", "--read-data"]);
    }
}

pub fn text(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}
