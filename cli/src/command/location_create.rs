//! `ark backup-location create`.

use std::path::{Path, PathBuf};

use ark_api::BackupStorageLocation;
use ark_api::duration::Duration;
use ark_api::location::{AccessMode, BackupStorageLocationSpec, ObjectStorage, SecretKeySelector};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use kube::ResourceExt;

use super::backup_download::file_error;
use super::filters::Pairs;
use super::output::{Output, checked_name};
use super::{Context, key_warning};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::Cluster;
use crate::print::structured;

/// Create a backup storage location.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ark backup-location create archive --provider aws --bucket archive --prefix cluster-a \\
    --config region=eu-central-1 --credential archive-credentials=cloud
  ark backup-location create minio --provider aws --bucket ark \\
    --config s3Url=https://minio.example.com,s3ForcePathStyle=true,region=minio")]
pub(crate) struct LocationCreate {
    /// Name of the location
    name: String,
    /// Kind of store: aws (any S3 service) or local
    #[arg(long)]
    provider: String,
    /// Bucket; provider local: a directory below the local store
    #[arg(long)]
    bucket: String,
    /// Prefix in the bucket
    #[arg(long, default_value = "")]
    prefix: String,
    /// Provider settings, for example region=eu-central-1
    #[arg(long, value_name = "KEY=VALUE,...")]
    config: Option<Pairs>,
    /// Secret in Ark's namespace with the credentials, and its key
    #[arg(long, value_name = "SECRET=KEY")]
    credential: Option<Pairs>,
    /// File with PEM certificates of the store's authority
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Use it for backups that name no location
    #[arg(long)]
    default: bool,
    /// What may be done there
    #[arg(long, value_enum, value_name = "MODE")]
    access_mode: Option<Access>,
    /// How often backups made elsewhere are looked for
    #[arg(long, value_name = "DURATION")]
    backup_sync_period: Option<Duration>,
    /// How often the store is asked whether it still answers; 0 means never
    #[arg(long, value_name = "DURATION")]
    validation_frequency: Option<Duration>,
    /// Labels of the location
    #[arg(long, value_name = "KEY=VALUE,...")]
    labels: Option<Pairs>,
    /// Print the object in this form and create nothing (table: create it)
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What may be done at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Access {
    /// Everything.
    #[value(name = "ReadWrite")]
    ReadWrite,
    /// Only restores.
    #[value(name = "ReadOnly")]
    ReadOnly,
}

impl From<Access> for AccessMode {
    fn from(access: Access) -> Self {
        match access {
            Access::ReadWrite => Self::ReadWrite,
            Access::ReadOnly => Self::ReadOnly,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: LocationCreate) -> Result<Exit> {
    let output = args.output;
    let mut location = object(args)?;
    location.metadata.namespace = Some(context.globals.namespace.clone());
    if let Some(form) = output.form() {
        context.printer.out(&structured::object(&location, form)?)?;
        return Ok(Exit::Done);
    }
    let cluster = context.cluster().await?;
    if location.spec.default == Some(true) {
        let name = location.metadata.name.as_deref().unwrap_or_default();
        refuse_second_default(&cluster, name).await?;
    }
    let location = cluster.create(&location).await?;
    let name = location.metadata.name.clone().unwrap_or_default();
    context.printer.out(&format!(
        "Backup storage location {name:?} configured successfully.\n\
         Run `ark backup-location get {name}` to see whether it can be used.\n"
    ))?;
    key_warning::show(context, std::slice::from_ref(&location));
    Ok(Exit::Done)
}

/// There is one default location at most: a second one would have backups that name none refused.
async fn refuse_second_default(cluster: &Cluster, name: &str) -> Result<()> {
    let locations: Vec<BackupStorageLocation> = cluster.list("").await?;
    let Some(default) = locations
        .iter()
        .find(|location| location.spec.default == Some(true) && location.name_any() != name)
    else {
        return Ok(());
    };
    Err(Error::State {
        message: format!(
            "location {} is the default already, and there is one default at most",
            default.name_any()
        ),
        hint: format!(
            "create it without --default, then `ark backup-location set {name} --default`, which takes the default over"
        ),
    })
}

pub(crate) fn object(args: LocationCreate) -> Result<BackupStorageLocation> {
    let LocationCreate {
        name,
        provider,
        bucket,
        prefix,
        config,
        credential,
        cacert,
        default,
        access_mode,
        backup_sync_period,
        validation_frequency,
        labels,
        output: _,
    } = args;
    checked_name(&name)?;
    let ca_cert = cacert.map(|path| certificates(&path)).transpose()?;
    let spec = BackupStorageLocationSpec {
        provider,
        config: config.map(|c| c.0).unwrap_or_default(),
        credential: credential.map(secret_key).transpose()?,
        object_storage: ObjectStorage {
            bucket,
            prefix: prefix.trim_matches('/').to_owned(),
            ca_cert,
            ca_cert_ref: None,
        },
        default: default.then_some(true),
        access_mode: access_mode.map(AccessMode::from),
        backup_sync_period,
        validation_frequency,
        origin: None,
    };
    let mut location = BackupStorageLocation::new(&name, spec);
    location.metadata.labels = labels.map(|l| l.0);
    Ok(location)
}

/// The certificates in a file, as a location holds them.
pub(super) fn certificates(path: &Path) -> Result<String> {
    let pem = std::fs::read(path).map_err(|e| file_error("read", path, &e))?;
    Ok(STANDARD.encode(pem))
}

/// The Secret and key that `--credential` names.
pub(super) fn secret_key(pairs: Pairs) -> Result<SecretKeySelector> {
    let mut pairs = pairs.0.into_iter();
    match (pairs.next(), pairs.next()) {
        (Some((name, key)), None) if !key.is_empty() => Ok(SecretKeySelector {
            name,
            key,
            optional: None,
        }),
        _ => Err(Error::usage("--credential takes one SECRET=KEY")),
    }
}
