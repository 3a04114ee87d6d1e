//! Installing Ark with its Helm chart, as on any cluster.
//!
//! What is special here are a few values: the API server is called at the node's address (there is
//! no cluster network but the bridge), the kubelet's root is not the usual one, and the pods are
//! marked with the images' digests, so that a newly built image replaces a running one.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Component, Minio};
use crate::image::Archive;
use crate::print;
use crate::wait::{self, Look};
use crate::{exec, place};

/// The namespace Ark is installed in.
pub const NAMESPACE: &str = "heptio-ark";
/// The bucket of every location made here.
pub const BUCKET: &str = "ark";
const RELEASE: &str = "ark";
const LIMIT: Duration = Duration::from_mins(1);

/// Where backups go by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// A directory of the node: no object store, no account
    #[default]
    Local,
    /// An S3 bucket, on a MinIO server beside the cluster
    Minio,
}

impl Storage {
    /// The name of its location.
    pub fn location(self) -> &'static str {
        match self {
            Self::Local => "default",
            Self::Minio => "minio",
        }
    }
}

/// Makes the images known to the node, installs Ark, or brings an installed one up to date, and
/// waits until its default location can be used.
pub fn run(cluster: &Cluster, images: &[Archive], storage: Storage) -> Result<()> {
    print::step("installing Ark with its chart");
    if is_of_a_test(cluster)? {
        remove(cluster)?;
    }
    let minio = minio(cluster, storage)?;
    let values = values(cluster, images, storage, minio.as_ref())?;
    with_values(cluster, images, &values, storage.location())
}

/// The same with any values, `location` among them.
pub fn with_values(
    cluster: &Cluster,
    images: &[Archive],
    values: &Value,
    location: &str,
) -> Result<()> {
    cluster.import(images)?;
    let chart = place::workspace().join("charts/ark");
    let file = cluster.dir().join("quickstart-values.json");
    std::fs::write(&file, format!("{values:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))?;

    forget_interrupted(cluster)?;
    if is_installed(cluster)? {
        // Helm installs definitions and never changes them.
        let mut kubectl = cluster.program("kubectl")?;
        kubectl.args(["apply", "--server-side", "--force-conflicts", "--filename"]);
        exec::run(kubectl.arg(chart.join("crds")))?;
    }
    let mut helm = cluster.program("helm")?;
    helm.args(["upgrade", "--install", RELEASE])
        .arg(&chart)
        .args(["--namespace", NAMESPACE, "--create-namespace", "--values"])
        .arg(&file)
        .args(["--wait", "--timeout", "3m"]);
    exec::run(&mut helm).with_context(|| cluster.report(NAMESPACE))?;
    wait_location(cluster, location)
}

/// Removes Ark, all its objects and keys, and what could not be read without these: the stores of [`run`].
pub fn remove(cluster: &Cluster) -> Result<()> {
    print::step("removing Ark and all its objects");
    let mut helm = cluster.program("helm")?;
    helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE]);
    exec::run(helm.args(["--ignore-not-found", "--wait", "--timeout", "2m"]))?;
    let mut kubectl = cluster.program("kubectl")?;
    kubectl.args([
        "delete",
        "--ignore-not-found",
        "--timeout=120s",
        "--filename",
    ]);
    exec::run(kubectl.arg(place::workspace().join("charts/ark/crds")))?;
    let mut kubectl = cluster.program("kubectl")?;
    kubectl.args(["delete", "namespace", NAMESPACE, "--ignore-not-found"]);
    exec::run(kubectl.arg("--timeout=120s"))?;
    for store in ["store", "minio"] {
        let bucket = cluster.dir().join(store).join(BUCKET);
        if bucket.exists() {
            std::fs::remove_dir_all(&bucket)
                .with_context(|| format!("cannot remove {}", bucket.display()))?;
        }
    }
    Ok(())
}

/// Whether a test left an installation whose default location is another kind of store than [`run`]
/// makes: a location does not become another one.
fn is_of_a_test(cluster: &Cluster) -> Result<bool> {
    if !is_installed(cluster)? {
        return Ok(false);
    }
    let mut kubectl = cluster.kubectl()?;
    kubectl.args(["get", "backupstoragelocations.ark.heptio.com"]);
    kubectl.args([Storage::Local.location(), "--ignore-not-found"]);
    kubectl.args([
        "--namespace",
        NAMESPACE,
        "--output",
        "jsonpath={.spec.provider}",
    ]);
    let provider = exec::output(&mut kubectl)?;
    Ok(!matches!(provider.as_str(), "" | "local"))
}

/// MinIO, if it is wanted or if an earlier installation uses it: its location stays then.
fn minio(cluster: &Cluster, storage: Storage) -> Result<Option<Minio>> {
    if storage == Storage::Local && cluster.supervisor().running(Component::Minio)?.is_none() {
        return Ok(None);
    }
    let minio = cluster.minio()?;
    minio.make_bucket(BUCKET)?;
    print::note(&format!("MinIO at {}, bucket {BUCKET}", minio.endpoint));
    Ok(Some(minio))
}

/// The chart's values for this cluster.
pub fn values(
    cluster: &Cluster,
    images: &[Archive],
    storage: Storage,
    minio: Option<&Minio>,
) -> Result<Value> {
    let (host, port) = cluster.api_server()?;
    let store = cluster.dir().join("store");
    std::fs::create_dir_all(&store).with_context(|| format!("cannot make {}", store.display()))?;
    let digest = |name: &str| {
        let found = images.iter().find(|image| image.reference.contains(name));
        found.map(|image| image.digest.clone())
    };
    let marked = |name: &str| json!({"xtask/image": digest(name).unwrap_or_default()});
    let mut locations = vec![json!({
        "name": Storage::Local.location(),
        "provider": "local",
        "bucket": BUCKET,
        "default": storage == Storage::Local,
    })];
    let mut credentials = json!({});
    if let Some(minio) = minio {
        locations.push(json!({
            "name": Storage::Minio.location(),
            "provider": "aws",
            "bucket": BUCKET,
            "default": storage == Storage::Minio,
            "config": {
                "region": "minio",
                "s3Url": minio.endpoint,
                "s3ForcePathStyle": "true",
            },
        }));
        credentials = json!({"secretContents": {"cloud": minio.credentials_file()}});
    }
    Ok(json!({
        "image": {
            "operator": {"tag": place::version()},
            "agent": {"tag": place::version()},
        },
        "extraEnv": [
            {"name": "KUBERNETES_SERVICE_HOST", "value": host.to_string()},
            {"name": "KUBERNETES_SERVICE_PORT", "value": port.to_string()},
        ],
        "operator": {"podAnnotations": marked("/operator:")},
        "agent": {
            "kubeletRoot": cluster.kubelet_root(),
            "podAnnotations": marked("/agent:"),
        },
        "localStore": {"enabled": true, "hostPath": store},
        "configuration": {"backupStorageLocations": locations},
        "credentials": credentials,
    }))
}

/// An interrupted Helm leaves a record that blocks every later one. What it had installed by then
/// is taken over by the next.
fn forget_interrupted(cluster: &Cluster) -> Result<()> {
    let mut kubectl = cluster.kubectl()?;
    let records = "owner=helm,status in (pending-install,pending-upgrade,pending-rollback)";
    kubectl.args([
        "delete",
        "secret",
        "--ignore-not-found",
        "--namespace",
        NAMESPACE,
    ]);
    kubectl.args(["--selector", records, "--output", "name"]);
    let deleted = exec::output(&mut kubectl)?;
    if !deleted.trim().is_empty() {
        print::note("an earlier installation was interrupted: going on from there");
    }
    Ok(())
}

fn is_installed(cluster: &Cluster) -> Result<bool> {
    let mut kubectl = cluster.kubectl()?;
    kubectl.args([
        "get",
        "secret",
        "--namespace",
        NAMESPACE,
        "--output",
        "name",
    ]);
    kubectl.args(["--selector", &format!("owner=helm,name={RELEASE}")]);
    Ok(!exec::output(&mut kubectl)?.trim().is_empty())
}

fn wait_location(cluster: &Cluster, name: &str) -> Result<()> {
    let what = format!("location {name} to be available");
    wait::until(&what, LIMIT, || {
        let location = cluster.get(&[
            "backupstoragelocations.ark.heptio.com",
            name,
            "--namespace",
            NAMESPACE,
        ])?;
        let text = |pointer| location.pointer(pointer).and_then(Value::as_str);
        Ok(match text("/status/phase") {
            Some("Available") => Look::Ready(()),
            phase => Look::NotYet(format!(
                "{} {}",
                phase.unwrap_or("no status"),
                text("/status/message").unwrap_or_default()
            )),
        })
    })
    .with_context(|| cluster.report(NAMESPACE))
}
