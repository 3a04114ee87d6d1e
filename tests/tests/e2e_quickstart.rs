//! What the README promises, on a real node with real pods: an application is lost and comes back,
//! with a directory and with MinIO; stock restic reads what Ark stored; and Ark's agent restores
//! what stock restic stored.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ark_tests::restic::Restic;
use serde_json::{Value, json};
use xtask::cluster::{Cluster, NODE_NAME};
use xtask::exec;
use xtask::install::{NAMESPACE, Storage};
use xtask::quickstart::{self, Outcome, files};
use xtask::wait::{self, Look};

const LIMIT: Duration = Duration::from_mins(2);

#[test]
fn an_application_comes_back_from_a_directory_and_restic_agrees() -> Result<()> {
    let outcome = quickstart::run(Storage::Local)?;
    restic_agrees(&outcome, Storage::Local)?;
    agent_restores_restics_snapshot(&outcome, Storage::Local)
}

#[test]
fn an_application_comes_back_from_minio_and_restic_agrees() -> Result<()> {
    let outcome = quickstart::run(Storage::Minio)?;
    restic_agrees(&outcome, Storage::Minio)
}

/// Stock restic lists a snapshot for each volume, finds nothing wrong in anything stored, and
/// restores files that equal the restored application's.
fn restic_agrees(outcome: &Outcome, storage: Storage) -> Result<()> {
    let restic = Restic::of(&outcome.cluster, storage, outcome.namespace)?;
    restic.check()?;
    let backup_tag = Value::from(format!("backup={}", outcome.backup));
    let snapshots = restic.snapshots()?;
    for (volume, path) in &outcome.volumes {
        let volume_tag = Value::from(format!("volume={volume}"));
        let has = |snapshot: &&Value, tag: &Value| {
            snapshot["tags"]
                .as_array()
                .is_some_and(|tags| tags.contains(tag))
        };
        let mut found = snapshots
            .iter()
            .filter(|one| has(one, &backup_tag) && has(one, &volume_tag));
        let snapshot = found
            .next()
            .with_context(|| format!("restic lists no snapshot of {volume}"))?;
        ensure!(
            found.next().is_none(),
            "restic lists two snapshots of {volume}"
        );
        let id = snapshot["id"]
            .as_str()
            .context("a snapshot without an id")?;

        let target = tempfile::tempdir()?;
        restic.restore(id, target.path())?;
        let restored = files::read(&outcome.cluster, target.path())?.without_root();
        let running = files::read(&outcome.cluster, path)?.without_root();
        ensure!(!restored.is_empty(), "restic restored nothing of {volume}");
        let differences = unchanged_since(&running.differences(&restored));
        ensure!(
            differences.is_empty(),
            "{volume}: restic restored something else: {differences:#?}"
        );
    }
    Ok(())
}

/// The running application goes on writing its own log.
fn unchanged_since(differences: &[String]) -> Vec<String> {
    differences
        .iter()
        .filter(|one| !one.starts_with("\"access.log\""))
        .cloned()
        .collect()
}

/// A tree stored by stock restic in Ark's repository is restored into a gated pod.
fn agent_restores_restics_snapshot(outcome: &Outcome, storage: Storage) -> Result<()> {
    let cluster = &outcome.cluster;
    let restic = Restic::of(cluster, storage, outcome.namespace)?;
    let source = tempfile::tempdir()?;
    std::fs::create_dir(source.path().join("data"))?;
    std::fs::write(source.path().join("data/page"), "stored by restic")?;
    std::fs::write(source.path().join("large"), vec![7_u8; 3 << 20])?;
    std::os::unix::fs::symlink("data/page", source.path().join("link"))?;
    // Velero runs restic in the volume's directory, so that files lie at the snapshot's root.
    let mut backup = restic.command(&["backup", ".", "--host", "velero", "--json"]);
    let output = exec::output(backup.current_dir(source.path()))?;
    let summary: Value =
        serde_json::from_str(output.lines().last().context("restic said nothing")?)?;
    let snapshot = summary["snapshot_id"]
        .as_str()
        .context("restic names no snapshot")?;

    let pod = Gated::start(cluster)?;
    let restore = pod.restore(outcome.namespace, storage, snapshot)?;
    let what = "the volume restored from restic's snapshot";
    wait::until(what, LIMIT, || {
        let restore = cluster.get(&[
            "podvolumerestores.ark.heptio.com",
            &restore,
            "--namespace",
            NAMESPACE,
        ])?;
        Ok(match restore["status"]["phase"].as_str() {
            Some("Completed") => Look::Ready(()),
            Some(ended @ ("Failed" | "PartiallyFailed" | "Canceled")) => {
                anyhow::bail!("{ended}: {}", restore["status"])
            }
            other => Look::NotYet(format!("{other:?} {}", restore["status"])),
        })
    })
    .with_context(|| cluster.report(NAMESPACE))?;
    wait::until("the gate to open", LIMIT, || {
        let pod = cluster.get(&["pod", Gated::NAME, "--namespace", Gated::NAMESPACE])?;
        Ok(match pod["status"]["phase"].as_str() {
            Some("Running") => Look::Ready(()),
            other => Look::NotYet(format!("{other:?}")),
        })
    })
    .with_context(|| cluster.report(Gated::NAMESPACE))?;
    let wanted = files::read(cluster, source.path())?.without_root();
    let is = files::read(cluster, &pod.volume())?.without_root();
    let differences = wanted.differences(&is);
    ensure!(
        differences.is_empty(),
        "the agent restored something else: {differences:#?}"
    );
    pod.delete()
}

/// A pod held by its gate, with one empty volume.
struct Gated<'a> {
    cluster: &'a Cluster,
    uid: String,
    directory: tempfile::TempDir,
}

impl<'a> Gated<'a> {
    const NAMESPACE: &'static str = "restic-example";
    const NAME: &'static str = "gated";

    fn start(cluster: &'a Cluster) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut gated = Self {
            cluster,
            uid: String::new(),
            directory,
        };
        gated.apply(
            "namespace",
            &json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": Self::NAMESPACE}
            }),
        )?;
        let gate = ark_api::naming::GATE_VOLUME;
        let mount = ark_api::naming::GATE_MOUNT;
        gated.apply("pod", &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": Self::NAME, "namespace": Self::NAMESPACE},
            "spec": {
                "nodeName": NODE_NAME,
                "terminationGracePeriodSeconds": 0,
                "initContainers": [{
                    "name": ark_api::naming::GATE_CONTAINER,
                    "image": format!("docker.io/ark/agent:{}", xtask::place::version()),
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/ark-restore-wait", "--volumes", "data", "--deadline-seconds", "120", "--dir", mount],
                    "volumeMounts": [{"name": gate, "mountPath": mount}]
                }],
                "containers": [{
                    "name": "main", "image": xtask::image::BUSYBOX, "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "3600"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]
                }],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": gate, "emptyDir": {}}]
            }
        }))?;
        let pod = cluster.get(&["pod", Self::NAME, "--namespace", Self::NAMESPACE])?;
        pod["metadata"]["uid"]
            .as_str()
            .context("a pod without uid")?
            .clone_into(&mut gated.uid);
        Ok(gated)
    }

    fn apply(&self, name: &str, object: &Value) -> Result<()> {
        let path = self.directory.path().join(format!("{name}.json"));
        std::fs::write(&path, object.to_string())?;
        exec::output(
            self.cluster
                .kubectl()?
                .args(["apply", "--filename"])
                .arg(&path),
        )
        .map(drop)
    }

    /// Asks for the volume to be restored; returns the object's name.
    fn restore(&self, source: &str, storage: Storage, snapshot: &str) -> Result<String> {
        let name = format!("restic-example-{}", &self.uid[..8]);
        self.apply(
            "restore",
            &json!({
                "apiVersion": "ark.heptio.com/v1", "kind": "PodVolumeRestore",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "node": NODE_NAME,
                    "pod": {"namespace": Self::NAMESPACE, "name": Self::NAME, "uid": self.uid},
                    "volume": "data",
                    "backupStorageLocation": storage.location(),
                    "repository": ark_api::naming::repository(source, storage.location()),
                    "snapshotID": snapshot,
                    "sourceNamespace": source,
                }
            }),
        )?;
        Ok(name)
    }

    fn volume(&self) -> std::path::PathBuf {
        let pods = self.cluster.kubelet_root().join("pods").join(&self.uid);
        pods.join(Path::new("volumes/kubernetes.io~empty-dir/data"))
    }

    fn delete(&self) -> Result<()> {
        let mut kubectl = self.cluster.kubectl()?;
        kubectl.args(["delete", "namespace", Self::NAMESPACE, "--timeout=60s"]);
        exec::output(&mut kubectl).map(drop)
    }
}
