//! `cargo xtask bench`: Ark's engine beside other programs.
//!
//! Gets the programs, builds Ark's as it is released, and hands over to `ark-bench` (`benches/`),
//! which measures. The programs it compares with are built into the tool cache, and for this only.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::tools::{self, Tool};
use crate::{exec, image, place, print};

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Backups and restores beside the newest restic and rustic, in alternating rounds on a tmpfs
    Vs(Vs),
    /// The memory of each operation on a repository of ten million blobs, beside the newest restic
    Memory(Memory),
    /// Many volumes and large ones through a real agent on a real API server, beside the command
    /// and restic
    Agent,
}

/// How it is measured.
#[derive(Debug, Args)]
pub struct Vs {
    /// Write the results as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only this case; may be repeated (an unknown name lists all)
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// An eighth of the data, and three rounds
    #[arg(long)]
    quick: bool,
    /// How many rounds; by default five, three where a run takes 20 s or longer
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
    /// A tmpfs to work in
    #[arg(long, value_name = "FOLDER", default_value = "/dev/shm")]
    work: PathBuf,
}

/// What is measured of memory.
#[derive(Debug, Args)]
pub struct Memory {
    /// Blobs of the repository
    #[arg(long, value_name = "COUNT")]
    blobs: Option<u64>,
    /// Write the results as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only this operation; may be repeated (an unknown name lists all)
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// A tmpfs to work in
    #[arg(long, value_name = "FOLDER", default_value = "/dev/shm")]
    work: PathBuf,
}

/// Measures.
pub fn run(command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Vs(options) => vs(&options),
        BenchCommand::Memory(options) => memory(&options),
        BenchCommand::Agent => agent(),
    }
}

/// The harness is built for debugging, what it measures as it is released.
fn agent() -> Result<()> {
    tools::ensure(&Tool::CONTROL_PLANE)?;
    tools::ensure(&[Tool::Helm, Tool::NewestRestic])?;
    image::build_programs()?;
    let mut cargo = exec::cargo();
    cargo
        .args(["bench", "--workspace", "--locked", "--profile", "dev"])
        .args(["--bench", "agent"])
        .env("ARK_TEST_PROGRAMS", image::programs_dir()?)
        .env("ARK_TEST_RESTIC", tools::path(Tool::NewestRestic)?);
    hand_over(cargo)
}

fn vs(options: &Vs) -> Result<()> {
    let with_postgres = options.needs("postgres");
    let with_minio = options.needs("minio");
    let mut wanted = Tool::RIVALS.to_vec();
    wanted.extend(with_postgres.then_some(Tool::Initdb));
    wanted.extend(with_minio.then_some(Tool::Minio));
    tools::ensure(&wanted)?;
    let mut bench = built("vs")?;
    for (flag, tool) in [("--restic", Tool::NewestRestic), ("--rustic", Tool::Rustic)] {
        bench.arg(flag).arg(tools::path(tool)?);
    }
    if with_minio {
        bench.arg("--minio").arg(tools::path(Tool::Minio)?);
    }
    if with_postgres {
        let initdb = tools::path(Tool::Initdb)?;
        // What is on PATH may be a link to where all programs of the server are.
        let initdb = std::fs::canonicalize(&initdb)
            .with_context(|| format!("cannot resolve {}", initdb.display()))?;
        let folder = initdb.parent().context("initdb lies in no folder")?;
        bench.arg("--postgres").arg(folder);
    }
    options.pass_on(&mut bench);
    hand_over(bench)
}

fn memory(options: &Memory) -> Result<()> {
    tools::ensure(&[Tool::NewestRestic])?;
    let mut bench = built("memory")?;
    bench.arg("--restic").arg(tools::path(Tool::NewestRestic)?);
    options.pass_on(&mut bench);
    hand_over(bench)
}

/// The program that measures, built as Ark's is, with what it measures.
fn built(what: &str) -> Result<Command> {
    let mut cargo = exec::cargo();
    cargo
        .args(["build", "--release", "--locked", "--bins"])
        .args(["-p", "ark-bench", "-p", "ark-cli"]);
    exec::run(&mut cargo)?;
    let built = place::target().join("release");
    let mut bench = Command::new(built.join("ark-bench"));
    bench.arg(what).arg("--ark").arg(built.join("ark"));
    Ok(bench)
}

/// In place of this process: what interrupts the task interrupts the measurement.
fn hand_over(mut bench: Command) -> Result<()> {
    print::command(&bench);
    Err(bench.exec()).with_context(|| format!("cannot start {}", bench.get_program().display()))
}

impl Memory {
    fn pass_on(&self, bench: &mut Command) {
        if let Some(blobs) = self.blobs {
            bench.args(["--blobs", &blobs.to_string()]);
        }
        if let Some(file) = &self.json {
            bench.arg("--json").arg(file);
        }
        for case in &self.cases {
            bench.args(["--case", case]);
        }
        bench.arg("--work").arg(&self.work);
    }
}

impl Vs {
    /// Whether a case that needs this server may run.
    fn needs(&self, server: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|case| case.starts_with(server))
    }

    fn pass_on(&self, bench: &mut Command) {
        if let Some(file) = &self.json {
            bench.arg("--json").arg(file);
        }
        for case in &self.cases {
            bench.args(["--case", case]);
        }
        if self.quick {
            bench.arg("--quick");
        }
        if let Some(rounds) = self.rounds {
            bench.args(["--rounds", &rounds.to_string()]);
        }
        bench.arg("--work").arg(&self.work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(cases: &[&str]) -> Vs {
        Vs {
            json: Some(PathBuf::from("out.json")),
            cases: cases.iter().map(|&case| case.to_owned()).collect(),
            quick: true,
            rounds: Some(4),
            work: PathBuf::from("/dev/shm"),
        }
    }

    #[test]
    fn servers_are_needed_by_their_own_cases_only() {
        assert!(options(&[]).needs("postgres"));
        assert!(options(&["small-first", "postgres-later"]).needs("postgres"));
        assert!(!options(&["small-first"]).needs("minio"));
    }

    #[test]
    fn every_option_of_memory_reaches_the_measurement() {
        let mut command = Command::new("ark-bench");
        let options = Memory {
            blobs: Some(5),
            json: Some(PathBuf::from("out.json")),
            cases: vec!["find".to_owned()],
            work: PathBuf::from("/dev/shm"),
        };
        options.pass_on(&mut command);
        assert_eq!(
            print::render(&command),
            "ark-bench --blobs 5 --json out.json --case find --work /dev/shm"
        );
    }

    #[test]
    fn every_option_reaches_the_measurement() {
        let mut command = Command::new("ark-bench");
        options(&["minio"]).pass_on(&mut command);
        assert_eq!(
            print::render(&command),
            "ark-bench --json out.json --case minio --quick --rounds 4 --work /dev/shm"
        );
    }
}
