//! Restores the newest snapshot of a repository into a directory, and says what it took.
//!
//! ```text
//! cargo run --release --example restore_dir -- REPOSITORY-DIR PASSWORD TARGET-DIR [dry-run]
//! ```
#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::{env, path::PathBuf, process::ExitCode};

use ark_engine::{
    Cancel, Error, OpenOptions, Progress, Repository, RestoreRequest, Result, Secret, Store,
    StoreConfig,
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [repository, password, target, rest @ ..] = &args[..] else {
        println!("usage: restore_dir REPOSITORY-DIR PASSWORD TARGET-DIR [dry-run]");
        return ExitCode::from(2);
    };
    match run(repository, password, target, !rest.is_empty()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}\nwhat to do: {}", error.hint());
            ExitCode::FAILURE
        }
    }
}

fn run(repository: &str, password: &str, target: &str, dry_run: bool) -> Result<()> {
    // The engine's calls block and drive their requests on this runtime; this thread is none of its
    // workers.
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Error::Bug(error.to_string()))?;
    let store = Store::open(&StoreConfig::Local {
        root: PathBuf::from(repository),
    })?;
    let repo = Repository::open(
        store,
        &[Secret::new(password)],
        OpenOptions::default(),
        runtime.handle().clone(),
    )?;
    let newest = repo.snapshots()?.pop();
    let newest = newest.ok_or_else(|| Error::SnapshotNotFound {
        location: repo.location(),
        id: "latest".to_owned(),
    })?;
    let request = RestoreRequest {
        snapshot: newest.id,
        target: PathBuf::from(target),
        restore_owner: rustix::process::getuid().is_root(),
        dry_run,
        ..RestoreRequest::default()
    };
    let report = ark_engine::restore(&repo, &request, &Progress::new(), &Cancel::new())?;
    println!(
        "{} files ({} unchanged, {} written), {} bytes ({} written, {} fetched) in {:?}: {:?}",
        report.files,
        report.files_unchanged,
        report.files_written,
        report.bytes,
        report.bytes_written,
        report.bytes_fetched,
        report.duration,
        report.outcome()
    );
    for change in &report.plan {
        println!("  {} {}", change.action.as_str(), change.path);
    }
    for row in &report.errors {
        println!("  {row}");
    }
    Ok(())
}
