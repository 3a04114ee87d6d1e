//! `ark engine init`.

use ark_engine::{FormatVersion, InitOptions, Location, Repository};
use clap::Args;
use serde_json::json;

use super::{EngineExit, Run, values};
use crate::error::{Error, Result};

/// Make a repository.
#[derive(Clone, Debug, Args)]
pub(super) struct Init {
    /// The password has 128 random bits or more: its key file gets by with less memory
    #[arg(long)]
    random_password: bool,
    /// Version of the repository format: 1, which has no compression, or 2; stable and latest mean 2
    #[arg(long, value_name = "VERSION", default_value = "stable", value_parser = values::format_version)]
    repository_version: FormatVersion,
}

pub(super) fn run(run: &Run, args: &Init) -> Result<EngineExit> {
    let location = run.repo.location()?;
    let password = run.repo.password()?;
    if let Location::Local(path) = &location {
        std::fs::create_dir_all(path).map_err(|error| Error::File {
            verb: "create",
            path: path.clone(),
            message: error.to_string(),
        })?;
    }
    let options = InitOptions {
        version: args.repository_version,
        random_password: args.random_password,
        open: run.repo.open_options(),
    };
    let store = run.repo.store(&location)?;
    let repo = Repository::init(store, &password, options, run.handle.clone())?;
    if run.repo.json {
        run.json(&json!({
            "message_type": "initialized",
            "id": repo.id(),
            "repository": location.to_string(),
        }))?;
    }
    run.say(&format!(
        "created restic repository {} at {location}\n\n\
         Without the password nothing in it can be read, by nobody. Keep a copy of it elsewhere.",
        &repo.id()[..10],
    ))?;
    Ok(EngineExit::Done)
}
