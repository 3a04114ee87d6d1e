//! `ark engine key`.

use std::path::PathBuf;

use ark_engine::NewKey;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{EngineExit, Run, open::ReadArgs, password::Source};
use crate::error::{Error, Result};
use crate::print::engine;

/// What can be done with passwords.
#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// List the key files
    List(ReadArgs),
    /// Add a password
    Add(NewArgs),
    /// Remove a password that is not the one in use
    Remove(Remove),
    /// Replace the password in use
    Passwd(NewArgs),
}

/// A new password.
#[derive(Clone, Debug, Args)]
pub(super) struct NewArgs {
    /// File that holds the new password
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// Command that prints the new password
    #[arg(long, value_name = "COMMAND", conflicts_with = "new_password_file")]
    new_password_command: Option<String>,
    /// User name to note in the key file
    #[arg(long)]
    user: Option<String>,
    /// Host name to note in the key file
    #[arg(long)]
    host: Option<String>,
    /// The password has 128 random bits or more: its key file gets by with less memory
    #[arg(long)]
    random_password: bool,
}

/// Remove a password.
#[derive(Clone, Debug, Args)]
pub(super) struct Remove {
    /// Id of its key file, or the beginning of it
    id: String,
}

impl NewArgs {
    fn key(&self) -> Result<NewKey> {
        let source = Source::of(
            self.new_password_file.as_deref(),
            self.new_password_command.as_deref(),
        );
        let source = source.ok_or_else(|| Error::State {
            message: "no new password is given".to_owned(),
            hint: "give it with --new-password-file or --new-password-command".to_owned(),
        })?;
        Ok(NewKey {
            password: source.read()?,
            user_name: self.user.clone(),
            host_name: self.host.clone().or_else(ark_engine::host_name),
            random_password: self.random_password,
        })
    }
}

pub(super) fn run(run: &Run, verb: &KeyVerb) -> Result<EngineExit> {
    match verb {
        KeyVerb::List(read) => {
            let repo = run.repo.open_to_read(run, *read)?;
            let keys = repo.keys()?;
            for key in &keys {
                if let Some(damage) = &key.damage {
                    run.printer
                        .warn(&format!("key {} is damaged: {damage}", key.id));
                }
            }
            if run.repo.json {
                run.json(&Value::Array(keys.iter().map(engine::key_json).collect()))?;
            } else {
                run.printer.out(&engine::keys(&keys))?;
            }
        }
        KeyVerb::Add(args) => {
            let new = args.key()?;
            let id = run.repo.open(run)?.add_key(&new, &run.cancel)?;
            done(run, "added", &id, &format!("saved new key with ID {id}"))?;
        }
        KeyVerb::Remove(args) => {
            let id = run.repo.open(run)?.remove_key(&args.id, &run.cancel)?;
            done(run, "removed", &id, &format!("removed key {id}"))?;
        }
        KeyVerb::Passwd(args) => {
            let new = args.key()?;
            let id = run.repo.open(run)?.change_password(&new, &run.cancel)?;
            done(run, "changed", &id, &format!("saved new key as {id}"))?;
        }
    }
    Ok(EngineExit::Done)
}

fn done(run: &Run, what: &str, id: &str, text: &str) -> Result<()> {
    if run.repo.json {
        run.json(&json!({"message_type": "summary", what: id}))?;
    }
    run.say(text)
}
