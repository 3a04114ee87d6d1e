//! Starts, watches and kills the components of one cluster.
//!
//! A component outlives the process that started it (unless a reaper is set), writes to
//! `logs/<component>.log`, and is found again through the state file. An error about a component
//! names its log and quotes its end.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::process::{Identity, MARK};
use super::reaper::Reaper;
use super::state::{Component, Member, Spec, State, StateFile};
use crate::wait::{self, Look};
use crate::{exec, tools};

/// The components in one folder.
pub struct Supervisor {
    dir: PathBuf,
    file: StateFile,
    reaper: Option<Reaper>,
}

impl Supervisor {
    /// For a cluster that stays when this process ends.
    pub(super) fn lasting(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            file: StateFile::new(dir),
            reaper: None,
        }
    }

    /// The components of the cluster in this folder, whether or not there is one.
    pub fn of(dir: &Path) -> Self {
        Self::lasting(dir)
    }

    /// For a cluster that ends with this process, its folder included.
    pub(super) fn ending_with_us(dir: &Path) -> Result<Self> {
        Ok(Self {
            reaper: Some(Reaper::start(dir)?),
            ..Self::lasting(dir)
        })
    }

    /// The cluster's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The state now.
    pub fn state(&self) -> Result<State> {
        Ok(self.file.read()?.unwrap_or_default())
    }

    /// Changes the state.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T> {
        self.file.update(change)
    }

    /// The log of a component.
    pub fn log(&self, component: Component) -> PathBuf {
        self.dir
            .join("logs")
            .join(format!("{}.log", component.name()))
    }

    /// The process of a component, if it runs.
    pub fn running(&self, component: Component) -> Result<Option<Identity>> {
        let state = self.state()?;
        let member = state.members.get(&component);
        Ok(member
            .map(|member| member.identity)
            .filter(|identity| identity.is_alive()))
    }

    /// Starts a component, unless it runs.
    pub fn start(&self, component: Component, spec: Spec) -> Result<()> {
        if self.running(component)?.is_some() {
            return Ok(());
        }
        let mut command = self.command(&spec)?;
        let log = self.open_log(component)?;
        let errors = log.try_clone().context("cannot share a log")?;
        let child = command
            .env(MARK, &self.dir)
            .envs(&spec.env)
            // Its own group: an interrupt at the terminal is not for it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {} ({})",
                    component.name(),
                    spec.program.display()
                )
            })?;
        let pid = i32::try_from(child.id()).context("a process id that is too large")?;
        if let Some(reaper) = &self.reaper {
            reaper.add(pid)?;
        }
        let Some(identity) = Identity::of(pid) else {
            bail!(
                "{} ended at once; {}",
                component.name(),
                self.quote(component)
            );
        };
        self.update(|state| state.members.insert(component, Member { spec, identity }))?;
        Ok(())
    }

    /// Starts a component the way it was started before, unless it runs.
    pub fn start_again(&self, component: Component) -> Result<()> {
        let state = self.state()?;
        let member = state
            .members
            .get(&component)
            .with_context(|| format!("{} was never started here", component.name()))?;
        self.start(component, member.spec.clone())
    }

    /// Kills a component, without warning, and waits until it is gone. What it leaves (containers,
    /// data) stays.
    pub fn kill(&self, component: Component) -> Result<()> {
        match self.running(component)? {
            Some(identity) => identity.kill(),
            None => Ok(()),
        }
    }

    /// Waits until `look` says that a component is ready; an end of the component ends the wait.
    pub fn wait_ready(
        &self,
        component: Component,
        limit: Duration,
        mut look: impl FnMut() -> Result<Look<()>>,
    ) -> Result<()> {
        let what = format!("{} to be ready", component.name());
        let result = wait::until(&what, limit, || match look()? {
            Look::Ready(()) => Ok(Look::Ready(())),
            Look::NotYet(_) if self.running(component)?.is_none() => {
                Err(anyhow!("{} ended", component.name()))
            }
            seen @ Look::NotYet(_) => Ok(seen),
        });
        result.with_context(|| self.quote(component))
    }

    /// The log of a component and its last lines, for an error message.
    pub fn quote(&self, component: Component) -> String {
        exec::quote_log(&self.log(component), 15)
    }

    /// A command that runs in the node's mount namespace.
    pub fn node_command(&self, program: &Path) -> Result<Command> {
        let node = self
            .running(Component::Node)?
            .context("the cluster has no node that runs: `cargo xtask cluster up`")?;
        let mut command = Command::new(tools::path(tools::Tool::Nsenter)?);
        command
            .arg(format!("--target={}", node.pid))
            .args(["--mount", "--"])
            .arg(program);
        Ok(command)
    }

    fn command(&self, spec: &Spec) -> Result<Command> {
        let mut command = if spec.in_node {
            self.node_command(&spec.program)?
        } else {
            Command::new(&spec.program)
        };
        command.args(&spec.args);
        Ok(command)
    }

    fn open_log(&self, component: Component) -> Result<File> {
        let path = self.log(component);
        let open = || {
            std::fs::create_dir_all(self.dir.join("logs"))?;
            File::options().create(true).append(true).open(&path)
        };
        open().with_context(|| format!("cannot write {}", path.display()))
    }
}
