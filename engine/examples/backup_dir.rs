//! Backs a directory up into a repository, makes the repository first if there is none, and
//! restores it.
//!
//! ```text
//! cargo run --release --example backup_dir -- REPOSITORY-DIR PASSWORD SOURCE-DIR [RESTORE-DIR]
//! ```
//!
//! All directories must be there: one that is not may be a disk that is not mounted.
#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::{env, path::PathBuf, process::ExitCode};

use ark_engine::{
    ArchiveRequest, Cancel, Error, InitOptions, OpenOptions, Progress, Repository, RestoreRequest,
    Result, Secret, Source, Store, StoreConfig,
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [repository, password, source, rest @ ..] = &args[..] else {
        println!("usage: backup_dir REPOSITORY-DIR PASSWORD SOURCE-DIR [RESTORE-DIR]");
        return ExitCode::from(2);
    };
    match run(repository, password, source, rest.first()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}\nwhat to do: {}", error.hint());
            ExitCode::FAILURE
        }
    }
}

/// Backs `source` up into the directory `repository`, and restores the snapshot into `target`, if
/// there is one.
pub(crate) fn run(
    repository: &str,
    password: &str,
    source: &str,
    target: Option<&String>,
) -> Result<()> {
    // The engine's calls block and drive their requests on this runtime; this thread is none of its
    // workers.
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Error::Bug(error.to_string()))?;
    let handle = runtime.handle().clone();
    let store = Store::open(&StoreConfig::Local {
        root: PathBuf::from(repository),
    })?;
    let password = Secret::new(password);
    let repo = if runtime.block_on(Repository::exists(&store))? {
        Repository::open(store, &[password], OpenOptions::default(), handle)?
    } else {
        Repository::init(store, &password, InitOptions::default(), handle)?
    };
    let tags = vec![format!("source={source}")];
    let request = ArchiveRequest {
        source: Source::Directory(PathBuf::from(source)),
        snapshot_path: format!("/{}", source.trim_matches('/')),
        host: "example".to_owned(),
        parent_tags: vec![tags.clone()],
        tags,
        ..ArchiveRequest::default()
    };
    let (progress, cancel) = (Progress::new(), Cancel::new());
    let report = ark_engine::archive(&repo, &request, &progress, &cancel)?;
    println!(
        "snapshot {} in {:?}: {:?}",
        report.snapshot_id,
        report.duration,
        report.outcome()
    );
    println!(
        "{} files ({} unchanged), {} bytes, {} new",
        report.files, report.files_unchanged, report.bytes_total, report.bytes_new
    );
    for row in &report.errors {
        println!("  {row}");
    }
    if let Some(target) = target {
        let request = RestoreRequest {
            snapshot: report.snapshot_id,
            target: PathBuf::from(target),
            sparse: true,
            restore_owner: rustix::process::getuid().is_root(),
            ..RestoreRequest::default()
        };
        let report = ark_engine::restore(&repo, &request, &Progress::new(), &cancel)?;
        println!(
            "restored {} files, {} bytes in {:?}: {:?}",
            report.files,
            report.bytes,
            report.duration,
            report.outcome()
        );
        for row in &report.errors {
            println!("  {row}");
        }
    }
    Ok(())
}
