//! The cluster, the bucket and the one installation of Ark that all scenarios share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context as _, Result};
use ark_tests::trial::{LIMIT, Trial, claim, claim_volume, container, deployment};
use serde_json::json;
use xtask::cluster::{Cluster, Minio};
use xtask::exec;
use xtask::image;
use xtask::install::{self, Storage};
use xtask::wait::{self, Look};

/// The bucket of this target.
pub(crate) const BUCKET: &str = "ark-life";
/// The default location.
pub(crate) const LOCATION: &str = "default";

/// What the scenarios share.
pub(crate) struct World {
    /// The cluster.
    pub(crate) cluster: &'static Cluster,
    minio: Minio,
}

static WORLD: Mutex<Option<&'static World>> = Mutex::new(None);
/// Read while a scenario uses the installation, written while one takes it away.
static INSTALLED: RwLock<()> = RwLock::new(());

/// The cluster with Ark installed anew; made by the first scenario that asks, while the others
/// wait.
pub(crate) fn world() -> Result<&'static World> {
    let mut known = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(world) = *known {
        return Ok(world);
    }
    let images = image::ark_images()?;
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::up()?));
    install::remove(cluster)?;
    let minio = cluster.minio()?;
    let world: &'static World = Box::leak(Box::new(World { cluster, minio }));
    let bucket = cluster.dir().join("minio").join(BUCKET);
    if bucket.exists() {
        std::fs::remove_dir_all(&bucket)
            .with_context(|| format!("cannot remove {}", bucket.display()))?;
    }
    world.minio.make_bucket(BUCKET)?;
    let mut values = install::values(cluster, &images, Storage::Minio, Some(&world.minio))?;
    values["configuration"]["backupStorageLocations"] = json!([{
        "name": LOCATION, "provider": "aws", "bucket": BUCKET, "prefix": LOCATION, "default": true,
        "config": {"region": "minio", "s3Url": world.minio.endpoint, "s3ForcePathStyle": "true"},
    }]);
    values["localStore"] = json!({"enabled": false});
    // No scenario waits for the volumes or the repositories of another.
    values["agent"]["concurrency"] = json!(8);
    values["maintenance"] = json!({"jobs": 4, "jobRepositories": 1});
    install::with_values(cluster, &images, &values, LOCATION)?;
    *known = Some(world);
    Ok(world)
}

/// Keeps Ark installed as long as it lives.
pub(crate) fn installed() -> RwLockReadGuard<'static, ()> {
    INSTALLED.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no scenario uses Ark any more, and keeps others from beginning.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    INSTALLED.write().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Where the server has what the default location holds.
    pub(crate) fn bucket(&self) -> PathBuf {
        let bucket = self.cluster.dir().join("minio").join(BUCKET);
        bucket.join(LOCATION)
    }

    /// The bytes of what is stored below a path of the default location.
    pub(crate) fn stored(&self, below: &str) -> Result<u64> {
        let path = self.bucket().join(below);
        let text = exec::output(std::process::Command::new("du").args(["-sb"]).arg(&path))?;
        let number = text.split_whitespace().next().context("du says nothing")?;
        number
            .parse()
            .with_context(|| format!("du said {number:?}"))
    }

    /// Where the server listens.
    pub(crate) fn server(&self) -> Result<SocketAddr> {
        let address = self.minio.endpoint.trim_start_matches("http://");
        address
            .parse()
            .with_context(|| format!("{address:?} is no address"))
    }

    /// Makes a location `name` of the same bucket, reached at `endpoint`, and waits until it can be
    /// used.
    pub(crate) fn location(&self, name: &str, endpoint: &str) -> Result<()> {
        let config = format!("region=minio,s3Url={endpoint},s3ForcePathStyle=true");
        exec::output(self.cluster.program("ark")?.args([
            "backup-location",
            "create",
            name,
            "--provider",
            "aws",
            "--bucket",
            BUCKET,
            "--prefix",
            name,
            "--config",
            &config,
        ]))?;
        wait::until(&format!("location {name} to be available"), LIMIT, || {
            let location = self.cluster.get(&[
                "backupstoragelocations.ark.heptio.com",
                name,
                "--namespace",
                install::NAMESPACE,
            ])?;
            let status = &location["status"];
            Ok(if status["phase"] == "Available" {
                Look::Ready(())
            } else {
                Look::NotYet(status.to_string())
            })
        })
    }
}

/// An empty namespace on the cluster.
pub(crate) fn start(namespace: &str) -> Result<Trial> {
    Trial::start(world()?.cluster, namespace, &json!({}))
}

/// A Deployment of one pod with one volume, `data`, mounted at `/data`: a claim, or an emptyDir.
pub(crate) fn application(trial: &Trial, name: &str, with_claim: bool) -> Result<()> {
    let volume = if with_claim {
        trial.apply(&[claim("data", &trial.namespace)])?;
        claim_volume("data")
    } else {
        json!({"name": "data", "emptyDir": {}})
    };
    let pod = json!({
        "containers": [container("sleep 100000", &[("data", "/data")])],
        "volumes": [volume],
    });
    trial.apply(&[deployment(name, &trial.namespace, "data", &pod)])
}

/// A shell command that writes `mebibytes` that nothing makes smaller into a file of `/data`.
pub(crate) fn write(file: &str, mebibytes: u32) -> String {
    format!("dd if=/dev/urandom of=/data/{file} bs=1M count={mebibytes} 2>/dev/null && sync")
}

/// The digests of the files in `/data` of the application `name`.
pub(crate) fn digests(trial: &Trial, name: &str) -> Result<String> {
    trial.shell(
        &format!("deploy/{name}"),
        "cd /data && find . -type f | sort | xargs sha256sum",
    )
}
