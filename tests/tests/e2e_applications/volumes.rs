//! Claims and their volumes after a loss: each claim gets its own data, and no other's.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xtask::cluster::NODE_NAME;
use xtask::exec;

use crate::trial::{Trial, claim, claim_volume, container, deployment, start};

/// A PersistentVolume that is a directory of the node, and that nobody provisions.
fn static_volume(name: &str, class: &str, path: &Path) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {"volume": name}},
        "spec": {
            "capacity": {"storage": "10Mi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": class,
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]},
            ]}]}},
        },
    })
}

/// An empty directory of the node.
fn directory(trial: &Trial, name: &str) -> Result<PathBuf> {
    let path = trial.cluster().dir().join("static").join(name);
    let mut shell = trial.cluster().node_command("sh")?;
    shell
        .args(["-euc", r#"rm -rf "$0"; mkdir -p "$0""#])
        .arg(&path);
    exec::output(&mut shell)?;
    Ok(path)
}

fn delete_volumes(trial: &Trial, names: &[&str]) -> Result<()> {
    let words = [
        "delete",
        "persistentvolume",
        "--ignore-not-found",
        "--timeout=60s",
    ];
    trial.kubectl(&[&words[..], names].concat()).map(drop)
}

#[test]
fn a_retained_volume_is_bound_again_with_its_data() -> Result<()> {
    let trial = start("t-retained")?;
    let pod = json!({
        "containers": [container("sleep 100000", &[("data", "/data")])],
        "volumes": [claim_volume("data")],
    });
    // Nothing of it is annotated: the data stays where it is.
    trial.apply(&[
        claim("data", &trial.namespace),
        deployment("web", &trial.namespace, "", &pod),
    ])?;
    trial.works()?;
    trial.shell("deploy/web", "echo precious > /data/f")?;
    let claim = trial.get(&["pvc", "data"])?;
    let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default();
    let policy = |policy: &str| {
        let patch = json!({"spec": {"persistentVolumeReclaimPolicy": policy}}).to_string();
        trial.kubectl(&["patch", "persistentvolume", volume, "--patch", &patch])
    };
    policy("Retain")?;
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    let restored = trial.restore(&backup, 1, "Completed", &[]);
    let worked = restored.and_then(|_| {
        trial.works()?;
        let data = trial.shell("deploy/web", "cat /data/f")?;
        ensure!(data == "precious", "{data}");
        Ok(())
    });
    policy("Delete")?;
    worked?;
    trial.leave()
}

#[test]
fn claims_that_name_their_volumes_get_them_again() -> Result<()> {
    let trial = start("t-crosswise")?;
    let namespace = &trial.namespace;
    let names = ["t-crosswise-a", "t-crosswise-b"];
    delete_volumes(&trial, &names)?;
    let bound_to = |name: &str, volume: &str| {
        let mut claim = claim(name, namespace);
        claim["spec"]["storageClassName"] = json!("t-crosswise");
        claim["spec"]["volumeName"] = json!(volume);
        claim
    };
    for name in names {
        trial.apply(&[static_volume(
            name,
            "t-crosswise",
            &directory(&trial, name)?,
        )])?;
    }
    trial.apply(&[
        bound_to("d1", names[1]),
        bound_to("d2", names[0]),
        json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace,
            "annotations": {ark_api::annotation::BACKUP_VOLUMES: "d1,d2"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container("sleep 100000", &[("d1", "/d1"), ("d2", "/d2")])],
            "volumes": [claim_volume("d1"), claim_volume("d2")],
        }}),
    ])?;
    trial.works()?;
    trial.shell("p", "echo 1 > /d1/one; echo 2 > /d2/two")?;
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    // As an administrator frees retained volumes.
    for name in names {
        let patch = json!({"spec": {"claimRef": null}}).to_string();
        trial.kubectl(&[
            "patch",
            "persistentvolume",
            name,
            "--type=merge",
            "--patch",
            &patch,
        ])?;
    }
    trial.restore(&backup, 1, "Completed", &[])?;
    trial.works()?;
    for (claim, volume, file) in [("d1", names[1], "one"), ("d2", names[0], "two")] {
        let bound = trial.get(&["pvc", claim])?["spec"]["volumeName"].clone();
        ensure!(bound == volume, "{claim} is bound to {bound}");
        let files = trial.shell("p", &format!("ls /{claim}"))?;
        ensure!(files == file, "{claim}: {files}");
    }
    trial.lose()?;
    delete_volumes(&trial, &names)
}

#[test]
fn a_static_volume_that_is_gone_comes_back_and_is_filled() -> Result<()> {
    let trial = start("t-static")?;
    let namespace = &trial.namespace;
    let name = "t-static";
    delete_volumes(&trial, &[name])?;
    let mut chosen = claim("data", namespace);
    chosen["spec"]["storageClassName"] = json!("");
    chosen["spec"]["selector"] = json!({"matchLabels": {"volume": name}});
    let path = directory(&trial, name)?;
    trial.apply(&[
        static_volume(name, "", &path),
        chosen,
        json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace,
            "annotations": {ark_api::annotation::BACKUP_VOLUMES: "data"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container("sleep 100000", &[("data", "/data")])],
            "volumes": [claim_volume("data")],
        }}),
    ])?;
    trial.works()?;
    trial.shell("p", "echo precious > /data/f")?;
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    delete_volumes(&trial, &[name])?;
    directory(&trial, name)?;
    trial.restore(&backup, 1, "Completed", &[])?;
    trial.works()?;
    ensure!(trial.shell("p", "cat /data/f")? == "precious");
    trial.lose()?;
    delete_volumes(&trial, &[name])
}

#[test]
fn a_claim_deleted_by_mistake_while_its_pod_runs_is_in_the_backup() -> Result<()> {
    let trial = start("t-terminating")?;
    let pod = json!({
        "containers": [container("sleep 100000", &[("data", "/data")])],
        "volumes": [claim_volume("data")],
    });
    trial.apply(&[
        claim("data", &trial.namespace),
        deployment("web", &trial.namespace, "data", &pod),
    ])?;
    trial.works()?;
    trial.shell("deploy/web", "echo precious > /data/f")?;
    trial.here(&["delete", "pvc", "data", "--wait=false"])?;
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    trial.restore(&backup, 1, "Completed", &[])?;
    trial.works()?;
    ensure!(trial.shell("deploy/web", "cat /data/f")? == "precious");
    trial.leave()
}
