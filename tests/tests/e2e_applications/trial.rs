//! The cluster that all scenarios of this target share.

use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Result;
use serde_json::{Value, json};
use xtask::cluster::Cluster;
use xtask::image;
use xtask::install::{self, Storage};

pub(crate) use ark_tests::trial::{
    LIMIT, Trial, claim, claim_volume, container, deployment, items, template,
};

static CLUSTER: Mutex<Option<&'static Cluster>> = Mutex::new(None);

/// An empty namespace on the cluster, with Ark installed.
pub(crate) fn start(namespace: &str) -> Result<Trial> {
    start_with(namespace, &json!({}))
}

/// An empty namespace with `labels`.
pub(crate) fn start_with(namespace: &str, labels: &Value) -> Result<Trial> {
    Trial::start(cluster()?, namespace, labels)
}

/// The cluster with Ark installed; made by the first scenario that asks, while the others wait.
fn cluster() -> Result<&'static Cluster> {
    let mut known = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = *known {
        return Ok(cluster);
    }
    let images = image::ark_images()?;
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::up()?));
    install::run(cluster, &images, Storage::Local)?;
    *known = Some(cluster);
    Ok(cluster)
}
