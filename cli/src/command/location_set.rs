//! `ark backup-location set`.
//!
//! Changes nothing that says where things lie (provider, bucket, prefix): with another place the
//! backups of the location would not be found any more. The default is handed over: the new one
//! gets it before the old one loses it, so that a command that is interrupted leaves two, which
//! refuses backups that name no location, and never sends one to a place that nobody chose.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ark_api::BackupStorageLocation;
use ark_api::duration::Duration;
use ark_api::location::AccessMode;
use clap::Args;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::filters::Pairs;
use super::location_create::{Access, certificates, secret_key};
use super::output::Output;
use super::{Context, key_warning};
use crate::error::Result;
use crate::exit::Exit;
use crate::kube::Cluster;
use crate::print::structured;

/// Change a backup storage location.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "What is not named stays as it is. Provider, bucket and prefix cannot be changed, because what is stored stays where it is:
create another location for another place.

Examples:
  ark backup-location set archive --default           # backups that name no location go there
  ark backup-location set archive --access-mode ReadOnly
  ark backup-location set archive --credential archive-credentials=cloud
  ark backup-location set archive --config region=eu-west-1,profile=   # sets one setting, removes the other"
)]
pub(crate) struct LocationSet {
    /// Name of the location
    name: String,
    #[command(flatten)]
    changes: Changes,
    /// Print the changed object in this form instead of a sentence
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The settings that the command changes.
#[derive(Clone, Debug, Default, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Use it for backups that name no location; the location that was the default is none any more
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    default: Option<bool>,
    /// What may be done there
    #[arg(long, value_enum, value_name = "MODE")]
    access_mode: Option<Access>,
    /// How often backups made elsewhere are looked for; 0 means never
    #[arg(long, value_name = "DURATION")]
    backup_sync_period: Option<Duration>,
    /// How often the store is asked whether it still answers; 0 means never
    #[arg(long, value_name = "DURATION")]
    validation_frequency: Option<Duration>,
    /// Secret in Ark's namespace with the credentials, and its key
    #[arg(long, value_name = "SECRET=KEY")]
    credential: Option<Pairs>,
    /// File with PEM certificates of the store's authority; takes the place of those there are
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Provider settings to change, for example region=eu-central-1; one without a value is removed
    #[arg(long, value_name = "KEY=VALUE,...")]
    config: Option<Pairs>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: LocationSet) -> Result<Exit> {
    let LocationSet {
        name,
        changes,
        output,
    } = args;
    let default = changes.default;
    let spec = patch(changes)?;
    let cluster = context.cluster().await?;
    let before: BackupStorageLocation = cluster.get(&name).await?;
    let mut location: BackupStorageLocation =
        cluster.patch(&name, &json!({ "spec": spec })).await?;
    if default == Some(true) {
        take_from_others(context, &cluster, &name).await?;
    }
    if before.spec.default == Some(true) && default == Some(false) {
        context.printer.warn(
            "no location is the default any more: backups that name none are refused, unless the operator's setting names one",
        );
    }
    if let Some(form) = output.form() {
        location.metadata.managed_fields = None;
        context.printer.out(&structured::object(&location, form)?)?;
    } else {
        context.printer.out(&format!(
            "Backup storage location {name:?} changed.\n\
             Run `ark backup-location get {name}` to see whether it can be used.\n"
        ))?;
    }
    key_warning::show(context, std::slice::from_ref(&location));
    Ok(Exit::Done)
}

/// The part of a spec that the API server merges into the location.
fn patch(changes: Changes) -> Result<Value> {
    let Changes {
        default,
        access_mode,
        backup_sync_period,
        validation_frequency,
        credential,
        cacert,
        config,
    } = changes;
    let mut spec = BTreeMap::new();
    let mut set = |field: &'static str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(field, value);
        }
    };
    set("default", default.map(|default| json!(default)));
    let mode = access_mode.map(AccessMode::from);
    set("accessMode", mode.map(|mode| json!(mode)));
    set(
        "backupSyncPeriod",
        backup_sync_period.map(|time| json!(time)),
    );
    set(
        "validationFrequency",
        validation_frequency.map(|time| json!(time)),
    );
    let credential = credential.map(secret_key).transpose()?;
    set("credential", credential.map(|selector| json!(selector)));
    let certificates = cacert.map(|path| certificates(&path)).transpose()?;
    // A reference and the certificates themselves exclude each other.
    set(
        "objectStorage",
        certificates.map(|pem| json!({"caCert": pem, "caCertRef": null})),
    );
    let config = config.map(|pairs| {
        let settings = pairs.0.into_iter().map(|(key, value)| {
            let value = (!value.is_empty()).then_some(value);
            (key, json!(value))
        });
        Value::Object(settings.collect())
    });
    set("config", config);
    Ok(json!(spec))
}

/// Takes the default away from every location but `name`.
async fn take_from_others(context: &Context, cluster: &Cluster, name: &str) -> Result<()> {
    let locations: Vec<BackupStorageLocation> = cluster.list("").await?;
    for other in locations
        .iter()
        .filter(|other| other.spec.default == Some(true) && other.name_any() != name)
    {
        let other = other.name_any();
        cluster
            .patch::<BackupStorageLocation>(&other, &json!({"spec": {"default": false}}))
            .await?;
        context
            .printer
            .note(&format!("Location {other} is not the default any more."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_changed() {
        assert_eq!(patch(Changes::default()).unwrap(), json!({}));
        let changes = Changes {
            access_mode: Some(Access::ReadOnly),
            backup_sync_period: Some("0".parse().unwrap()),
            config: Some("region=r,profile=".parse().unwrap()),
            credential: Some("s=k".parse().unwrap()),
            ..Changes::default()
        };
        let spec = patch(changes).unwrap();
        assert_eq!(spec["accessMode"], "ReadOnly");
        assert_eq!(spec["config"], json!({"region": "r", "profile": null}));
        assert_eq!(spec["credential"], json!({"name": "s", "key": "k"}));
        assert!(spec["backupSyncPeriod"].is_string(), "{spec}");
        assert_eq!(spec.get("default"), None);
        let two = Changes {
            credential: Some("a=b,c=d".parse().unwrap()),
            ..Changes::default()
        };
        assert!(patch(two).is_err());
    }
}
