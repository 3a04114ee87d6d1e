//! `cargo xtask cluster …`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::cluster::{Cluster, Component, Supervisor};
use crate::{image, place, print};

/// What to do with the test cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Start the cluster; one that runs is kept
    Up,
    /// Remove every trace of the cluster
    Down,
    /// Show what runs, where its logs are, and whether all is well
    Status,
    /// Print the shell lines that set KUBECONFIG and PATH: eval "$(cargo xtask cluster env)"
    Env,
    /// Run kubectl against the cluster
    #[command(disable_help_flag = true)]
    Kubectl(Rest),
    /// Run helm against the cluster
    #[command(disable_help_flag = true)]
    Helm(Rest),
    /// Run a program where the volumes of pods are visible, in the node's mount namespace
    #[command(disable_help_flag = true)]
    Exec(Rest),
    /// Start a MinIO server beside the cluster and print how to reach it
    Minio {
        /// A bucket to make
        #[arg(long, default_value = "ark")]
        bucket: String,
    },
    /// Kill a component, as a crash would
    Kill {
        /// Its name, as `status` shows it
        component: String,
    },
    /// Start a component that was killed
    Start {
        /// Its name, as `status` shows it
        component: String,
    },
    /// Build Ark's images and make them known to the node
    Load,
}

/// Arguments for another program, passed on as they are.
#[derive(Debug, clap::Args)]
pub struct Rest {
    /// Arguments, passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs it.
pub fn run(command: ClusterCommand) -> Result<()> {
    match command {
        ClusterCommand::Up => up(),
        ClusterCommand::Down => Cluster::down(),
        ClusterCommand::Status => status(),
        ClusterCommand::Env => env(),
        ClusterCommand::Kubectl(rest) => replace(Cluster::open()?.kubectl()?.args(rest.args)),
        ClusterCommand::Helm(rest) => replace(Cluster::open()?.program("helm")?.args(rest.args)),
        ClusterCommand::Exec(rest) => {
            // Entering the namespace leads to its root; this goes back to where it was called.
            let mut command = Cluster::open()?.node_command("sh")?;
            command.args(["-c", r#"cd "$0" && exec "$@""#]);
            command.arg(std::env::current_dir().context("no current folder")?);
            replace(command.args(rest.args))
        }
        ClusterCommand::Minio { bucket } => minio(&bucket),
        ClusterCommand::Kill { component } => {
            Supervisor::of(&place::cluster()?).kill(named(&component)?)
        }
        ClusterCommand::Start { component } => start(&component),
        ClusterCommand::Load => {
            let cluster = Cluster::open()?;
            let count = cluster.import(&image::ark_images()?)?;
            print::note(&format!("{count} images were new to the node"));
            Ok(())
        }
    }
}

fn up() -> Result<()> {
    let cluster = Cluster::up()?;
    print::note(&format!("kubeconfig: {}", cluster.kubeconfig().display()));
    print::note("in your shell: eval \"$(cargo xtask cluster env)\"");
    Ok(())
}

fn status() -> Result<()> {
    let dir = place::cluster()?;
    let supervisor = Supervisor::of(&dir);
    let state = supervisor.state()?;
    if state.members.is_empty() {
        bail!("no cluster in {}", dir.display());
    }
    let mut dead = Vec::new();
    for (component, member) in &state.members {
        let alive = member.identity.is_alive();
        let what = if alive {
            format!("pid {}", member.identity.pid)
        } else {
            dead.push(component.name());
            "not running".to_owned()
        };
        let log = supervisor.log(*component);
        print::data(&format!(
            "{:<24} {what:<12} {}",
            component.name(),
            log.display()
        ));
    }
    if let Some(network) = &state.network {
        print::data(&format!(
            "{:<24} {} on {}",
            "address", network.address, network.bridge
        ));
    }
    if !dead.is_empty() {
        bail!("not running: {}", dead.join(", "));
    }
    if !state.ready {
        bail!("the cluster was never started to the end; `cargo xtask cluster up` does");
    }
    Cluster::open()?.wait_ready()?;
    print::data("ready");
    Ok(())
}

fn env() -> Result<()> {
    let cluster = Cluster::open()?;
    let quoted = |text: String| format!("'{}'", text.replace('\'', r"'\''"));
    let kubeconfig = quoted(cluster.kubeconfig().display().to_string());
    let programs = quoted(cluster.programs().display().to_string());
    print::data(&format!("export KUBECONFIG={kubeconfig}"));
    print::data(&format!("export PATH={programs}:\"$PATH\""));
    Ok(())
}

fn minio(bucket: &str) -> Result<()> {
    let minio = Cluster::open()?.minio()?;
    minio.make_bucket(bucket)?;
    print::data(&format!("export AWS_ENDPOINT_URL={}", minio.endpoint));
    print::data(&format!("export AWS_ACCESS_KEY_ID={}", minio.access_key));
    print::data(&format!(
        "export AWS_SECRET_ACCESS_KEY={}",
        minio.secret_key
    ));
    print::note(&format!("bucket {bucket}"));
    Ok(())
}

fn start(name: &str) -> Result<()> {
    let supervisor = Supervisor::of(&place::cluster()?);
    supervisor.start_again(named(name)?)
}

fn named(name: &str) -> Result<Component> {
    let state = Supervisor::of(&place::cluster()?).state()?;
    let component = state
        .members
        .keys()
        .find(|component| component.name() == name);
    component.copied().with_context(|| {
        let names: Vec<&str> = state.members.keys().map(|one| one.name()).collect();
        format!(
            "no component {name:?} here; there are: {}",
            names.join(", ")
        )
    })
}

/// Becomes the other program, so that its exit status and its signals are its own.
fn replace(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    Err(command.exec()).with_context(|| format!("cannot start {name}"))
}
