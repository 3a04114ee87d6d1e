//! A provisioner that makes a new, empty volume for each claim.
//!
//! The storage class `ark-local` (the default one) makes volumes of type `local`, which the kubelet
//! mounts below its root as it mounts those of most storage systems; `ark-hostpath` makes `hostPath`
//! volumes, which it does not mount at all, as users of k3s and kind have them. The provisioner
//! itself runs beside the cluster; it makes and removes folders with a small pod.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::control_plane::{kubeconfig, kubectl, text};
use super::state::{Component, Spec};
use super::supervisor::Supervisor;
use crate::exec;
use crate::image::BUSYBOX;
use crate::tools::{self, Tool};

/// The default storage class: volumes of type `local`.
pub const STORAGE_CLASS: &str = "ark-local";
/// The storage class of volumes that are plain folders of the node.
pub const HOST_PATH_CLASS: &str = "ark-hostpath";
const PROVISIONER: &str = "rancher.io/local-path";
const NAMESPACE: &str = "ark-storage";
const ACCOUNT: &str = "local-path-provisioner";

/// Sets the storage classes up and starts the provisioner, if that is not so already.
pub(super) fn start(supervisor: &Supervisor) -> Result<()> {
    apply(supervisor)?;
    let dir = supervisor.dir();
    let (config, pod) = write_configuration(supervisor)?;
    let spec = Spec {
        program: tools::path(Tool::LocalPathProvisioner)?,
        args: [
            "start",
            "--kubeconfig",
            &text(&kubeconfig(dir)),
            "--provisioner-name",
            PROVISIONER,
            "--namespace",
            NAMESPACE,
            "--service-account-name",
            ACCOUNT,
            "--helper-image",
            BUSYBOX,
            "--helper-pod-file",
            &text(&pod),
            "--config",
            &text(&config),
        ]
        .map(str::to_owned)
        .to_vec(),
        env: BTreeMap::new(),
        in_node: false,
    };
    supervisor.start(Component::LocalPathProvisioner, spec)
}

fn write_configuration(supervisor: &Supervisor) -> Result<(PathBuf, PathBuf)> {
    let dir = supervisor.dir();
    let config = dir.join("local-path.json");
    let pod = dir.join("local-path-pod.json");
    let write = |path: &PathBuf, body: &Value| {
        std::fs::write(path, format!("{body:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    let body = json!({
        "nodePathMap": [{
            "node": "DEFAULT_PATH_FOR_NON_LISTED_NODES",
            "paths": [dir.join("volumes")],
        }],
    });
    write(&config, &body)?;
    let body = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "helper-pod",
                "image": BUSYBOX,
                "imagePullPolicy": "IfNotPresent",
            }],
        },
    });
    write(&pod, &body)?;
    Ok((config, pod))
}

fn apply(supervisor: &Supervisor) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": NAMESPACE}},
        // The provisioner mounts these scripts into its pod.
        {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "local-path-config", "namespace": NAMESPACE},
            "data": {
                "setup": "#!/bin/sh\nset -eu\nmkdir -m 0777 -p \"$VOL_DIR\"\n",
                "teardown": "#!/bin/sh\nset -eu\nrm -rf \"$VOL_DIR\"\n",
            }},
        storage_class(STORAGE_CLASS, "local", true),
        storage_class(HOST_PATH_CLASS, "hostPath", false),
    ]});
    let mut command = kubectl(supervisor.dir())?;
    command.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
    exec::output_with_input(&mut command, &list.to_string()).map(drop)
}

fn storage_class(name: &str, volume_type: &str, default: bool) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {
            "defaultVolumeType": volume_type,
            "storageclass.kubernetes.io/is-default-class": default.to_string(),
        }},
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    })
}
