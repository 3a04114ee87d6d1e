//! `ark restic repo key export`: the repository password of a location, for safe keeping outside
//! the cluster.
//!
//! Order: the Secret is read, the file is written and synced, and only then the Secret is marked
//! as exported. The password goes to the file or to standard output and nowhere else. The file
//! works as restic's `--password-file`.

use std::io::Write;
use std::path::{Path, PathBuf};

use ark_api::{BackupStorageLocation, annotation, naming};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};

use super::Context;
use super::backup_download::{file_error, new_file};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::Cluster;

/// Write a location's repository password to a file or to standard output.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyExport {
    /// Location; the default location, or the only one, when left out
    #[arg(long, value_name = "LOCATION")]
    location: Option<String>,
    /// File to write, readable by its owner only; standard output when left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long, requires = "output")]
    force: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: KeyExport) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let locations: Vec<BackupStorageLocation> = cluster.list("").await?;
    let location = choose(&locations, args.location)?;
    let secret_name = naming::key_secret(&location);
    let secret: Option<Secret> = cluster.find(&secret_name).await?;
    let password = secret
        .and_then(|s| s.data?.remove(naming::REPOSITORY_PASSWORD_KEY))
        .filter(|password| !password.0.is_empty())
        .ok_or_else(|| Error::State {
            message: format!(
                "location {location} has no repository key: Secret {secret_name:?} in namespace {} \
                 does not exist or lacks the key {:?}",
                cluster.namespace(),
                naming::REPOSITORY_PASSWORD_KEY
            ),
            hint: format!(
                "a key is made at the first backup of a volume; `ark backup-location get {location}` \
                 says whether one is missing"
            ),
        })?;
    let mut line = password.0;
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    match &args.output {
        Some(path) => write(path, &line, args.force)?,
        None => context.printer.raw(&line)?,
    }
    mark(&cluster, &secret_name).await?;
    let place = args
        .output
        .map_or_else(|| "standard output".to_owned(), |p| p.display().to_string());
    context.printer.note(&format!(
        "Wrote the repository key of location {location} to {place}. Keep it where the loss of \
         this cluster does not reach it."
    ));
    Ok(Exit::Done)
}

/// The location that is meant.
fn choose(locations: &[BackupStorageLocation], wanted: Option<String>) -> Result<String> {
    let names: Vec<String> = locations.iter().map(ResourceExt::name_any).collect();
    if let Some(wanted) = wanted {
        if names.contains(&wanted) {
            return Ok(wanted);
        }
        return Err(Error::State {
            message: format!("there is no location {wanted:?}"),
            hint: "`ark backup-location get` shows those that exist".to_owned(),
        });
    }
    let default = locations.iter().find(|l| l.spec.default == Some(true));
    match (default, names.as_slice()) {
        (Some(default), _) => Ok(default.name_any()),
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(Error::State {
            message: "there is no location".to_owned(),
            hint: "create one with `ark backup-location create`".to_owned(),
        }),
        (None, several) => Err(Error::usage(format!(
            "no location is the default; say which with --location: {}",
            several.join(", ")
        ))),
    }
}

fn write(path: &Path, line: &[u8], force: bool) -> Result<()> {
    if !force && path.exists() {
        return Err(Error::State {
            message: format!("{} exists", path.display()),
            hint: "add --force to overwrite it, or choose another file with --output".to_owned(),
        });
    }
    let failed = |e: std::io::Error| file_error("write", path, &e);
    let mut file = new_file(path)?;
    file.write_all(line).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    if force {
        file.persist(path).map_err(|e| failed(e.error))?;
    } else {
        file.persist_noclobber(path).map_err(|e| failed(e.error))?;
    }
    Ok(())
}

async fn mark(cluster: &Cluster, name: &str) -> Result<()> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = serde_json::json!({
        "metadata": { "annotations": { annotation::KEY_EXPORTED_AT: now } }
    });
    cluster
        .api::<Secret>()
        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(|_| ())
        .map_err(|e| cluster.failed::<Secret>("mark as exported", name, &e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn location(name: &str, default: bool) -> BackupStorageLocation {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "BackupStorageLocation",
            "metadata": {"name": name}, "spec": {"provider": "local", "default": default},
        }))
        .unwrap()
    }

    #[test]
    fn the_location_is_never_guessed() {
        let (a, b, c) = (
            location("a", false),
            location("b", true),
            location("c", false),
        );
        assert_eq!(choose(&[a.clone(), b], None).unwrap(), "b");
        assert_eq!(choose(std::slice::from_ref(&a), None).unwrap(), "a");
        assert!(choose(&[a.clone(), c], None).is_err());
        assert!(choose(&[], None).is_err());
        assert_eq!(
            choose(std::slice::from_ref(&a), Some("a".into())).unwrap(),
            "a"
        );
        assert!(choose(&[a], Some("x".into())).is_err());
    }

    #[test]
    fn the_file_is_private_and_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, b"one\n", false).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(write(&path, b"two\n", false).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        write(&path, b"two\n", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
    }
}
