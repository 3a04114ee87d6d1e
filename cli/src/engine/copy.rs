//! `ark engine copy`.

use std::path::PathBuf;

use ark_engine::{
    Location, Progress, Secret,
    maintain::{self, CopyReport, CopyRequest},
};
use clap::Args;
use serde_json::json;

use super::{EngineExit, Run, open, password::Source, select::FilterArgs, textfile, values};
use crate::{
    error::{Error, Result},
    print::engine::progress::Reporter,
};

/// Copy snapshots from another repository into this one, with what they need that is not there yet.
///
/// Everything is verified and encrypted anew. A snapshot that was copied before is not copied again. Both repositories can be in use
/// meanwhile. Make the destination with the same chunker as the source (restic init --copy-chunker-params) if later backups
/// into it are to share content with what was copied.
#[derive(Clone, Debug, Args)]
pub(super) struct Copy {
    /// Ids or beginnings of ids, or latest; all when left out
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    /// Repository to copy from; RESTIC_FROM_REPOSITORY when left out
    #[arg(long, value_name = "REPOSITORY")]
    from_repo: Option<String>,
    /// File that holds its location; RESTIC_FROM_REPOSITORY_FILE when left out
    #[arg(long, value_name = "FILE", conflicts_with = "from_repo")]
    from_repository_file: Option<PathBuf>,
    /// File that holds its password; RESTIC_FROM_PASSWORD_FILE when left out, or the password itself in
    /// RESTIC_FROM_PASSWORD
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    /// Command that prints its password; RESTIC_FROM_PASSWORD_COMMAND when left out
    #[arg(long, value_name = "COMMAND", conflicts_with = "from_password_file")]
    from_password_command: Option<String>,
    #[command(flatten)]
    memory: values::MemoryArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Copy {
    fn location(&self) -> Result<Location> {
        let file = |path: PathBuf| textfile::text(&path).map(|text| text.trim().to_owned());
        let spelled = if let Some(repo) = &self.from_repo {
            repo.clone()
        } else if let Some(path) = &self.from_repository_file {
            file(path.clone())?
        } else if let Some(repo) = open::variable("RESTIC_FROM_REPOSITORY") {
            repo
        } else if let Some(path) = open::variable("RESTIC_FROM_REPOSITORY_FILE") {
            file(path.into())?
        } else {
            return Err(Error::State {
                message: "no repository to copy from is named".to_owned(),
                hint: "name it with --from-repo or RESTIC_FROM_REPOSITORY".to_owned(),
            });
        };
        Ok(spelled.parse()?)
    }

    fn password(&self) -> Result<Secret> {
        let given = Source::of(
            self.from_password_file.as_deref(),
            self.from_password_command.as_deref(),
        );
        match given {
            Some(source) => source.read(),
            None => Source::of_environment("RESTIC_FROM_", "from-")?.read(),
        }
    }
}

pub(super) fn run(run: &Run, args: &Copy) -> Result<EngineExit> {
    let (location, password) = (args.location()?, args.password()?);
    let destination = run.repo.open(run)?;
    let source = run
        .repo
        .open_at(run, &location, password, run.repo.open_options())?;
    let request = CopyRequest {
        snapshots: args.filter.named(&source, &args.ids)?,
        memory: args.memory.bytes(),
    };
    let progress = Progress::new();
    let reporter = Reporter::written(run.printer, run.repo.quiet || run.repo.json, &progress);
    let done = maintain::copy(&source, &destination, &request, &progress, &run.cancel);
    reporter.stop();
    let report = done?;
    if run.repo.json {
        let snapshots: Vec<_> = report
            .snapshots
            .iter()
            .map(|one| json!({"source": one.source, "id": one.id, "was_there": one.was_there}))
            .collect();
        run.json(&json!({
            "message_type": "summary",
            "snapshots": snapshots,
            "blobs": report.blobs,
            "bytes": report.bytes,
        }))?;
    } else {
        run.say(&text(&report))?;
    }
    Ok(EngineExit::Done)
}

fn text(report: &CopyReport) -> String {
    let short = |id: &str| id.chars().take(8).collect::<String>();
    let lines = report.snapshots.iter().map(|one| {
        let (source, id) = (short(&one.source), short(&one.id));
        if one.was_there {
            format!("snapshot {source} is there as {id}")
        } else {
            format!("snapshot {source} copied as {id}")
        }
    });
    let sum = format!("{} blobs copied, {} bytes", report.blobs, report.bytes);
    lines.chain([sum]).collect::<Vec<_>>().join("\n")
}
