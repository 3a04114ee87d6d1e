//! Ark's engine beside restic and rustic: same data, same run, alternating, each in repositories it
//! made itself. `cargo xtask bench vs` builds the programs and calls this one; docs/performance.md
//! says how it measures. `cargo xtask bench memory` does the same for the memory of each on a
//! repository of many blobs.
//!
//! Nothing here asserts a time. A case that cannot be measured, because a program fails, what was
//! restored is not the source or there is no room, is an error.

mod bound;
mod case;
#[path = "../../engine/src/crypto.rs"]
#[allow(dead_code, reason = "a part of it is needed here")]
mod crypto;
mod data;
mod machine;
mod measure;
mod memory;
mod print;
mod program;
mod proxy;
mod report;
mod room;
mod rounds;
mod run;
mod scenario;
mod statistics;
mod synthetic;
mod work;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Args, Parser};

use crate::{
    program::{Ark, Restic, Rustic, Who},
    room::Sizes,
    rounds::Rounds,
    run::Run,
    scenario::{Kind, Servers},
    work::Work,
};

/// Measurements of Ark
#[derive(Debug, Parser)]
enum Arguments {
    /// Ark's engine beside restic and rustic
    Vs(Vs),
    /// The memory that each takes on a repository with many blobs
    Memory(memory::Options),
    /// Make the data of a case, to profile with
    Make {
        /// Which
        kind: Kind,
        /// Folder to make
        folder: PathBuf,
        /// An eighth of it
        #[arg(long)]
        quick: bool,
    },
    /// Run a program and write down what it took
    #[command(hide = true)]
    Measure {
        /// Where to write it
        answer: PathBuf,
        /// The program with its arguments
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Vs {
    /// Ark's command
    #[arg(long)]
    ark: PathBuf,
    /// restic
    #[arg(long)]
    restic: PathBuf,
    /// rustic
    #[arg(long)]
    rustic: PathBuf,
    /// MinIO
    #[arg(long)]
    minio: Option<PathBuf>,
    /// Folder of PostgreSQL's programs
    #[arg(long)]
    postgres: Option<PathBuf>,
    /// Where to work: a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    work: PathBuf,
    /// Write the results as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only this case; may be repeated
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// An eighth of the data, and three rounds
    #[arg(long)]
    quick: bool,
    /// How many rounds
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments::Vs(options) => vs(options),
        Arguments::Memory(options) => memory::run(&options),
        Arguments::Make {
            kind,
            folder,
            quick,
        } => scenario::make(kind, &folder, &Sizes::of(quick)),
        Arguments::Measure { answer, program } => measure::wrapper(&answer, &program),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn vs(options: Vs) -> Result<()> {
    let sizes = Sizes::of(options.quick);
    let cases = selected(&options.cases)?;
    room::check(&options.work, &sizes, &cases)?;
    let mut run = Run {
        work: Work::new(&options.work)?,
        ark: Ark(options.ark),
        restic: Restic(options.restic),
        rustic: Rustic(options.rustic),
        sizes,
        rounds: Rounds {
            asked: options.rounds,
            quick: options.quick,
        },
        wanted: options.cases,
        outcomes: Vec::new(),
    };
    let servers = Servers {
        minio: options.minio,
        postgres: options.postgres,
    };
    let programs = Who::ALL.map(|who| (who.name(), run.program(who)));
    let about = machine::about(&programs, options.quick)?;
    for line in about.lines() {
        print::note(&line);
    }
    let ended = scenario::all(&mut run, &servers);
    // What was measured before something went wrong is worth having.
    for line in about.lines() {
        print::data(&line);
    }
    for outcome in &run.outcomes {
        print::data("");
        for line in outcome.lines() {
            print::data(&line);
        }
    }
    print::data("");
    for line in report::summary(&run.outcomes) {
        print::data(&line);
    }
    if let Some(path) = &options.json {
        report::write(path, &about, &run.outcomes)?;
    }
    ended
}

/// The cases asked for, or all.
fn selected(asked: &[String]) -> Result<Vec<&'static str>> {
    let names: Vec<&'static str> = case::ALL.iter().map(|case| case.name).collect();
    if let Some(unknown) = asked.iter().find(|one| !names.contains(&one.as_str())) {
        bail!(
            "there is no case {unknown:?}: choose from {}",
            names.join(", ")
        );
    }
    let wanted = |name: &&str| asked.is_empty() || asked.iter().any(|one| one == name);
    Ok(names.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_case_is_refused_with_the_known_ones() {
        let error = selected(&["nothing".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("initial-dense"), "{error}");
        assert_eq!(selected(&["minio".to_owned()]).unwrap(), ["minio"]);
        assert_eq!(selected(&[]).unwrap().len(), case::ALL.len());
    }
}
