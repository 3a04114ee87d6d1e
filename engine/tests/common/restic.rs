//! Stock restic, as installed.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::PASSWORD;

pub struct Restic {
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
            repo: repo.to_owned(),
        }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("restic");
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
