//! Where the repository is and how it is opened: options, restic's environment variables, credentials.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use ark_engine::{
    HolderLiveness, Location, OpenOptions, Repository, S3Access, Secret, Store,
    parse_aws_credentials,
};
use clap::Args;

use super::{
    Run,
    holders::Holders,
    password,
    textfile::text,
    values::{self, MemoryArgs},
};
use crate::error::{Error, Result};

/// Options of every command on a repository.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Repository options")]
pub(crate) struct RepoArgs {
    /// Repository, as restic spells it: /path, local:path, s3:http://host:port/bucket/prefix,
    /// s3:host/bucket/prefix; RESTIC_REPOSITORY when left out
    #[arg(short, long, global = true, value_name = "REPOSITORY")]
    repo: Option<String>,
    /// File that holds the repository's location; RESTIC_REPOSITORY_FILE when left out
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "repo")]
    repository_file: Option<PathBuf>,
    /// File that holds the password; RESTIC_PASSWORD_FILE when left out, or the password itself in
    /// RESTIC_PASSWORD
    #[arg(short, long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Command that prints the password; RESTIC_PASSWORD_COMMAND when left out
    #[arg(
        long,
        global = true,
        value_name = "COMMAND",
        conflicts_with = "password_file"
    )]
    password_command: Option<String>,
    /// File of PEM certificates to trust beside the system's; RESTIC_CACERT when left out
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Accept any TLS certificate
    #[arg(long, global = true)]
    insecure_tls: bool,
    /// Try again for so long when somebody's lock is in the way, as in 30s, 5m or 1h30m
    #[arg(long, global = true, value_name = "DURATION", default_value = "0", hide_default_value = true, value_parser = values::duration)]
    retry_lock: Duration,
    /// Print JSON, with the names restic uses
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// For commands that only read.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ReadArgs {
    /// Take no lock, for credentials that may only read; what somebody removes meanwhile may be missed
    #[arg(long)]
    no_lock: bool,
}

/// A variable of the environment that is set and not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl RepoArgs {
    /// Where the repository is.
    pub(crate) fn location(&self) -> Result<Location> {
        let file = |path: &Path| text(path).map(|text| text.trim().to_owned());
        let spelled = if let Some(repo) = &self.repo {
            repo.clone()
        } else if let Some(path) = &self.repository_file {
            file(path)?
        } else if let Some(repo) = variable("RESTIC_REPOSITORY") {
            repo
        } else if let Some(path) = variable("RESTIC_REPOSITORY_FILE") {
            file(Path::new(&path))?
        } else {
            return Err(Error::State {
                message: "no repository is named".to_owned(),
                hint: "name it with --repo or RESTIC_REPOSITORY".to_owned(),
            });
        };
        Ok(spelled.parse()?)
    }

    /// The repository's password.
    pub(crate) fn password(&self) -> Result<Secret> {
        let given = password::Source::of(
            self.password_file.as_deref(),
            self.password_command.as_deref(),
        );
        let source = match given {
            Some(source) => source,
            None => password::Source::of_environment("RESTIC_", "")?,
        };
        source.read()
    }

    /// The store at a location.
    pub(crate) fn store(&self, location: &Location) -> Result<Store> {
        let access = match location {
            Location::Local(_) => None,
            Location::S3 { .. } => Some(self.access()?),
        };
        Ok(Store::open(&location.store_config(access)?)?)
    }

    fn access(&self) -> Result<S3Access> {
        let ca_cert = match self
            .cacert
            .clone()
            .or_else(|| variable("RESTIC_CACERT").map(Into::into))
        {
            Some(path) => Some(text(&path)?.into_bytes()),
            None => None,
        };
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let (id, key) = (
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY"),
        );
        let (access_key_id, secret_access_key, session_token) = match (id, key) {
            (Some(id), Some(key)) => {
                let token = variable("AWS_SESSION_TOKEN").map(Secret::new);
                (Secret::new(id), Secret::new(key), token)
            }
            (None, None) => {
                let found = shared_credentials()?;
                (
                    found.access_key_id,
                    found.secret_access_key,
                    found.session_token,
                )
            }
            _ => {
                return Err(Error::usage(
                    "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set",
                ));
            }
        };
        Ok(S3Access {
            access_key_id,
            secret_access_key,
            session_token,
            region,
            ca_cert,
            insecure_skip_tls_verify: self.insecure_tls,
        })
    }

    /// Opens the repository.
    pub(crate) fn open(&self, run: &Run) -> Result<Repository> {
        self.open_with(run, self.open_options())
    }

    /// Opens it, and gives operations so much memory.
    pub(crate) fn open_within(&self, run: &Run, memory: MemoryArgs) -> Result<Repository> {
        let options = OpenOptions {
            memory: Some(memory.bytes()),
            ..self.open_options()
        };
        self.open_with(run, options)
    }

    /// The same, for reading.
    pub(crate) fn open_to_read_within(
        &self,
        run: &Run,
        read: ReadArgs,
        memory: MemoryArgs,
    ) -> Result<Repository> {
        let options = OpenOptions {
            no_lock: read.no_lock,
            memory: Some(memory.bytes()),
            ..self.open_options()
        };
        self.open_with(run, options)
    }

    /// Opens it for reading.
    pub(crate) fn open_to_read(&self, run: &Run, read: ReadArgs) -> Result<Repository> {
        let options = OpenOptions {
            no_lock: read.no_lock,
            ..self.open_options()
        };
        self.open_with(run, options)
    }

    fn open_with(&self, run: &Run, options: OpenOptions) -> Result<Repository> {
        let (location, password) = (self.location()?, self.password()?);
        self.open_at(run, &location, password, options)
    }

    /// Opens another one, with the same credentials and the like.
    pub(super) fn open_at(
        &self,
        run: &Run,
        location: &Location,
        password: Secret,
        options: OpenOptions,
    ) -> Result<Repository> {
        let passwords = [password];
        let store = self.store(location)?;
        let repo = Repository::open(store, &passwords, options, run.handle.clone())?;
        let mut opened = run.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.push(repo.clone());
        Ok(repo)
    }

    /// How this process presents itself in locks: under a host name that is nobody's, because restic would judge a
    /// lock of a real one by a process id. By that name other runs on this machine know whether it lives. And how long it
    /// waits for locks of others.
    pub(super) fn open_options(&self) -> OpenOptions {
        let mut options = OpenOptions {
            retry_lock: self.retry_lock,
            ..OpenOptions::default()
        };
        if let Some(user) = variable("USER").or_else(|| variable("LOGNAME")) {
            options.holder.user_name = user;
        }
        let holders = Holders::of(&options.holder.host_name);
        options.liveness = holders.map(|holders| Arc::new(holders) as Arc<dyn HolderLiveness>);
        options
    }
}

fn shared_credentials() -> Result<ark_engine::AwsCredentials> {
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let named = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let usual = || Some(PathBuf::from(variable("HOME")?).join(".aws/credentials"));
    let path = named
        .clone()
        .or_else(usual)
        .filter(|path| named.is_some() || path.exists());
    let Some(path) = path else {
        return Err(Error::State {
            message: "there are no credentials for the bucket".to_owned(),
            hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and \
                   AWS_SHARED_CREDENTIALS_FILE"
                .to_owned(),
        });
    };
    Ok(parse_aws_credentials(&text(&path)?, &profile)?)
}
