//! The engine as a program, for measurements until the `ark` command has one: `init`, `backup`, `restore`,
//! with the flags `ark engine` takes.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of one file"
)]

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use ark_engine::{
    ArchiveRequest, Cancel, InitOptions, OpenOptions, Outcome, Progress, Repository,
    RestoreRequest, Secret, Store, StoreConfig, archive::Chunking,
};
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[arg(long, global = true, default_value = "")]
    repo: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init,
    Backup {
        path: PathBuf,
        #[arg(long, value_enum, default_value_t = Cuts::Auto)]
        chunking: Cuts,
        #[arg(long)]
        force: bool,
    },
    Restore {
        snapshot: String,
        #[arg(long)]
        target: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Cuts {
    Auto,
    Fixed,
    Rabin,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(Outcome::Complete) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(3),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let store = Store::open(&config(&arguments.repo)?)?;
    let password = Secret::new(env::var("RESTIC_PASSWORD").context("no RESTIC_PASSWORD")?);
    let (progress, cancel) = (Progress::new(), Cancel::new());
    if matches!(arguments.command, Command::Init) {
        Repository::init(store, &password, InitOptions::default(), handle)?;
        return Ok(Outcome::Complete);
    }
    let repo = Repository::open(store, &[password], OpenOptions::default(), handle)?;
    match arguments.command {
        Command::Init => bail!("done above"),
        Command::Backup {
            path,
            chunking,
            force,
        } => {
            let shown = path.to_string_lossy().into_owned();
            let tags = vec![format!("path={shown}")];
            let request = ArchiveRequest {
                source: path,
                snapshot_path: shown,
                host: "bench".to_owned(),
                parent_tags: vec![tags.clone()],
                tags,
                reread_all: force,
                chunking: match chunking {
                    Cuts::Auto => Chunking::Auto,
                    Cuts::Fixed => Chunking::Fixed,
                    Cuts::Rabin => Chunking::Rabin,
                },
                ..ArchiveRequest::default()
            };
            let report = ark_engine::archive(&repo, &request, &progress, &cancel)?;
            println!("{report:?}");
            Ok(report.outcome())
        }
        Command::Restore { snapshot, target } => {
            let id = if snapshot == "latest" {
                let all = repo.snapshots()?;
                let newest = all.into_iter().max_by_key(|snapshot| snapshot.time);
                newest.context("no snapshot")?.id
            } else {
                snapshot
            };
            std::fs::create_dir_all(&target)?;
            let request = RestoreRequest {
                snapshot: id,
                target,
                sparse: false,
                restore_owner: true,
            };
            let report = ark_engine::restore(&repo, &request, &progress, &cancel)?;
            println!("{report:?}");
            Ok(report.outcome())
        }
    }
}

/// A repository in restic's spelling: a directory, or `s3:http://host:port/bucket/prefix`.
fn config(repo: &str) -> Result<StoreConfig> {
    let Some(url) = repo.strip_prefix("s3:http://") else {
        let root = PathBuf::from(repo);
        std::fs::create_dir_all(&root)?;
        return Ok(StoreConfig::Local { root });
    };
    let [host, bucket, prefix] = url.splitn(3, '/').collect::<Vec<_>>()[..] else {
        bail!("{repo}: not s3:http://host/bucket/prefix");
    };
    let secret = |name| {
        env::var(name)
            .map(Secret::new)
            .with_context(|| format!("no {name}"))
    };
    Ok(StoreConfig::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(format!("http://{host}")),
        region: None,
        access_key_id: secret("AWS_ACCESS_KEY_ID")?,
        secret_access_key: secret("AWS_SECRET_ACCESS_KEY")?,
        session_token: None,
        ca_cert: None,
        path_style: true,
        insecure_skip_tls_verify: false,
    })
}
