//! `cargo xtask`: builds, tests and shows Ark on a real cluster on this machine.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::bench::BenchCommand;
use xtask::cluster_command::ClusterCommand;
use xtask::install::Storage;
use xtask::test::Tier;
use xtask::tools::Tool;
use xtask::{
    bench, cluster_command, deny, fuzz, generate, image, lint, print, quickstart, test, tools,
};

/// Tasks of the Ark workspace
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// An application is lost and comes back, on a real cluster: everything from nothing
    Quickstart {
        /// Where backups go
        #[arg(long, value_enum, default_value_t)]
        storage: Storage,
    },
    /// A real one-node Kubernetes cluster on this machine
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Build the container images, without a container tool
    Image,
    /// Run the tests: all tiers, or those named
    Test {
        /// Which tiers
        tiers: Vec<Tier>,
        /// Passed to the tests, such as a name to run only
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Measure Ark's engine beside other programs
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check formatting, lints and the chart
    Lint,
    /// Check licences, duplicates and sources of all dependencies
    Deny,
    /// Hand made-up bytes to the engine's parsers, each target for a short time
    Fuzz(fuzz::Options),
    /// Print the longest Rust files
    Longest,
    /// Write the files that are made from other files
    Generate {
        /// Write nothing; fail if a file is not as it should be
        #[arg(long)]
        check: bool,
    },
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
        Task::Quickstart { storage } => quickstart::run(storage).map(drop),
        Task::Cluster(command) => cluster_command::run(command),
        Task::Image => images(),
        Task::Test { tiers, filter } => test::run(&tiers, &filter),
        Task::Bench(command) => bench::run(command),
        Task::Lint => lint::run(),
        Task::Deny => deny::run(),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Longest => lint::longest_files(),
        Task::Generate { check } => generate::run(check),
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
