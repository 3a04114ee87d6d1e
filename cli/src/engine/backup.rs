//! `ark engine backup`.

mod stdin;

use std::path::PathBuf;

use ark_engine::archive::{Chunking, MEMORY, STATE_BYTES, StateRequest};
use ark_engine::{
    ArchiveReport, ArchiveRequest, Outcome, Progress, Repository, Source, StreamRequest,
};
use clap::{Args, ValueEnum};

use super::{EngineExit, Run, textfile, values};
use crate::error::{Error, Result};
use crate::print::engine::{self, progress::Reporter};

/// Least memory an archive is given.
const LEAST_MEMORY: u64 = 64 << 20;

/// Back up files and directories, or what a program writes.
///
/// A file that cannot be read does not stop it: the snapshot is kept without that file, and the exit code is 3.
#[derive(Clone, Debug, Args)]
pub(super) struct Backup {
    /// Files and directories; they get their full paths in the snapshot
    #[arg(value_name = "PATH", required_unless_present = "stdin")]
    paths: Vec<PathBuf>,
    /// Back up what comes from standard input, as one file
    #[arg(long, conflicts_with = "paths")]
    stdin: bool,
    /// Path of that file in the snapshot
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    stdin_filename: String,
    /// Make a snapshot of standard input even if not a single byte comes
    #[arg(long, requires = "stdin")]
    stdin_allow_empty: bool,
    /// Tags of the snapshot; may be given several times
    #[arg(long, value_name = "TAG,...", value_delimiter = ',', value_parser = values::word)]
    tag: Vec<String>,
    /// Host name of the snapshot; this machine's when left out
    #[arg(short = 'H', long, value_name = "HOST", value_parser = values::word)]
    host: Option<String>,
    /// Leave out what fits this pattern, in the syntax of .gitignore; may be given several times
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// File of patterns, one on each line; may be given several times
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out the content of directories marked by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out files larger than this: bytes with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    exclude_larger_than: Option<u64>,
    /// Stay on the file systems of the paths
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Compare with this snapshot, to read only what changed; the newest of the same host and paths when left out
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "force", value_parser = values::word)]
    parent: Option<String>,
    /// Read all files, whether they seem to have changed or not
    #[arg(short, long)]
    force: bool,
    /// How files are cut into pieces
    #[arg(long, value_enum, default_value_t)]
    chunking: ChunkingArg,
    /// The most memory to take: bytes with K, M or G
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    memory: Option<u64>,
    /// Keep fingerprints of what was read in this directory, so that the next backup hashes it faster; it may be
    /// removed at any time
    #[arg(long, value_name = "DIR", env = ark_api::env::STATE_DIR, hide_env_values = true)]
    state_dir: Option<PathBuf>,
    /// The most that directory may take on disk: bytes with K, M or G; the fingerprints used longest ago go first
    /// [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = values::size, env = ark_api::env::STATE_SIZE, hide_env_values = true)]
    state_size: Option<u64>,
}

/// How files are cut into pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ChunkingArg {
    /// Files of databases at fixed places, all others by their content
    #[default]
    Auto,
    /// By content, as restic does
    Rabin,
    /// At fixed places
    Fixed,
}

impl From<ChunkingArg> for Chunking {
    fn from(arg: ChunkingArg) -> Self {
        match arg {
            ChunkingArg::Auto => Self::Auto,
            ChunkingArg::Rabin => Self::Rabin,
            ChunkingArg::Fixed => Self::Fixed,
        }
    }
}

/// A pattern of an option: `#` begins no comment there, as it does in a file.
fn pattern(text: &str) -> String {
    if text.starts_with('#') {
        format!("\\{text}")
    } else {
        text.to_owned()
    }
}

impl Backup {
    fn host(&self) -> Result<String> {
        let host = self.host.clone().or_else(ark_engine::host_name);
        host.ok_or_else(|| Error::usage("this machine's name cannot be found out; give --host"))
    }

    fn memory(&self) -> Result<u64> {
        match self.memory {
            Some(bytes) if bytes < LEAST_MEMORY => Err(Error::usage(format!(
                "--memory must be at least {}",
                engine::bytes(LEAST_MEMORY)
            ))),
            Some(bytes) => Ok(bytes),
            None => Ok(MEMORY),
        }
    }

    fn request(&self) -> Result<ArchiveRequest> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|error| Error::File {
                verb: "find",
                path: path.clone(),
                message: error.to_string(),
            })
        };
        let paths = self.paths.iter().map(absolute).collect::<Result<_>>()?;
        let mut excludes: Vec<String> = self.exclude.iter().map(|text| pattern(text)).collect();
        for file in &self.exclude_file {
            excludes.extend(textfile::text(file)?.lines().map(str::to_owned));
        }
        Ok(ArchiveRequest {
            source: Source::Paths(paths),
            host: self.host()?,
            tags: self.tag.clone(),
            parent: self.parent.clone(),
            excludes,
            exclude_caches: self.exclude_caches,
            exclude_larger_than: self.exclude_larger_than,
            reread_all: self.force,
            one_file_system: self.one_file_system,
            chunking: self.chunking.into(),
            memory: self.memory()?,
            state: self.state_dir.clone().map(|dir| StateRequest {
                dir,
                bytes: self.state_size.unwrap_or(STATE_BYTES),
            }),
            ..ArchiveRequest::default()
        })
    }

    fn stream(&self) -> Result<StreamRequest> {
        Ok(StreamRequest {
            file_name: self.stdin_filename.clone(),
            host: self.host()?,
            tags: self.tag.clone(),
            memory: self.memory()?,
            allow_empty: self.stdin_allow_empty,
        })
    }

    fn archive(&self, run: &Run, repo: &Repository, progress: &Progress) -> Result<ArchiveReport> {
        if self.stdin {
            let input = stdin::Input::start(run.cancel.clone())?;
            let request = self.stream()?;
            let done = ark_engine::archive_stream(repo, &request, input, progress, &run.cancel);
            return Ok(done?);
        }
        let request = self.request()?;
        Ok(ark_engine::archive(repo, &request, progress, &run.cancel)?)
    }
}

pub(super) fn run(run: &Run, args: &Backup) -> Result<EngineExit> {
    let repo = run.repo.open(run)?;
    let progress = Progress::new();
    let reporter = Reporter::moving(run.printer, run.repo.quiet, run.repo.json, &progress);
    let done = args.archive(run, &repo, &progress);
    reporter.stop();
    let report = done?;
    for row in &report.errors {
        engine::row(run.printer, run.repo.json, "archival", row);
    }
    engine::rows_dropped(run.printer, report.errors_dropped);
    if let Some(problem) = report
        .state
        .as_ref()
        .and_then(|state| state.problem.as_ref())
    {
        run.printer.warn(&format!("fingerprints: {problem}"));
    }
    let snapshot = repo.find_snapshot(&report.snapshot_id)?;
    if run.repo.json {
        run.json(&engine::backup_json(&report, &snapshot))?;
    } else {
        for note in &report.notes {
            run.say(&format!("note: {note}"))?;
        }
    }
    run.say(&engine::backup(&report, &snapshot))?;
    Ok(match report.outcome() {
        Outcome::Complete => EngineExit::Done,
        Outcome::Partial => EngineExit::Incomplete,
    })
}
