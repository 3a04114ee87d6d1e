//! `cargo xtask`: builds, tests and shows Ark on a real cluster on this machine.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::cluster_command::ClusterCommand;
use xtask::tools::Tool;
use xtask::{cluster_command, image, print, tools};

/// Tasks of the Ark workspace
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A real one-node Kubernetes cluster on this machine
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Build the container images, without a container tool
    Image,
    /// Build and install every tool the other tasks need
    Tools,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Cluster(command) => cluster_command::run(command),
        Task::Image => images(),
        Task::Tools => tools::ensure(&Tool::ALL),
    }
}

fn images() -> Result<()> {
    let mut archives = image::ark_images()?;
    archives.extend(image::test_images()?);
    for archive in archives {
        print::data(&format!(
            "{:<36} {}",
            archive.reference,
            archive.path.display()
        ));
    }
    Ok(())
}
