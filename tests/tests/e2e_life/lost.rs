//! The guide "a cluster was lost", word for word: the test takes the commands out of the document
//! and runs them.
//!
//! What is proven: an Ark that has nothing but the chart with its values, the bucket and the exported key shows the
//! backups of an earlier one within two minutes and restores objects and volumes. What is not: the new control plane is
//! the old one without Ark and the application. Ark is uninstalled, its definitions with all objects, its namespace with all keys and the
//! application's namespace are deleted first, and no object of the first Ark is left; but the cluster's own identity
//! (the uid of `kube-system`) stays, so the new Ark takes the backups for its own. That backups of another cluster
//! are shown as such, and are not expired, is tested in `api_sync` and `api_expiry`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ark_tests::trial::{Trial, items};
use serde_json::json;
use xtask::cluster::Cluster;
use xtask::install;
use xtask::{exec, place};

use crate::world::{alone, application, digests, installed, start, world, write};

const GUIDE: &str = "docs/operations/cluster-lost.md";
const BEFORE: &str = "## Before it happens";
const AFTER: &str = "## In the new cluster";

/// The commands in the code blocks of one section of the guide.
fn commands(section: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(place::workspace().join(GUIDE))
        .with_context(|| format!("cannot read {GUIDE}"))?;
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    let mut inside = false;
    for line in text.lines() {
        match (line, &mut block) {
            ("```", Some(_)) => blocks.extend(block.take().filter(|_| inside)),
            (_, Some(block)) => {
                block.push_str(line);
                block.push('\n');
            }
            ("```sh", None) => block = Some(String::new()),
            _ if line.starts_with("## ") => inside = line == section,
            _ => {}
        }
    }
    if blocks.is_empty() {
        bail!("{GUIDE} has no commands in {section:?}");
    }
    Ok(blocks)
}

/// Runs the commands of a section, in a folder with the chart as a checkout has it. Returns what
/// they print.
fn run(cluster: &Cluster, section: &str, folder: &Path) -> Result<String> {
    let mut said = String::new();
    for block in commands(section)? {
        let mut shell = cluster.program("sh")?;
        shell.args(["-euc", &block]).current_dir(folder);
        said.push_str(
            &exec::output(&mut shell).with_context(|| cluster.report(install::NAMESPACE))?,
        );
    }
    Ok(said)
}

/// Nothing of Ark is left in the cluster.
fn no_trace(trial: &Trial) -> Result<()> {
    let definitions = trial.cluster().get(&["customresourcedefinitions"])?;
    let ours: Vec<&str> = items(&definitions)
        .filter(|one| one["spec"]["group"] == ark_api::GROUP)
        .filter_map(|one| one["metadata"]["name"].as_str())
        .collect();
    ensure!(ours.is_empty(), "{ours:?}");
    let namespaces = trial.kubectl(&["get", "namespaces", "--output", "name"])?;
    for gone in [install::NAMESPACE, &trial.namespace] {
        let name = format!("namespace/{gone}");
        ensure!(
            !namespaces.lines().any(|line| line == name),
            "{gone} is still there"
        );
    }
    Ok(())
}

#[test]
fn a_lost_cluster_comes_back_by_the_guide_word_for_word() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::symlink(
        place::workspace().join("charts"),
        folder.path().join("charts"),
    )?;
    let (trial, wanted) = {
        let _installed = installed();
        let trial = start("shop")?;
        application(&trial, "web", true)?;
        trial.apply(&[json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": trial.namespace}, "data": {"colour": "green"},
        })])?;
        trial.works()?;
        trial.shell("deploy/web", &write("ledger", 8))?;
        let wanted = digests(&trial, "web")?;
        run(trial.cluster(), BEFORE, folder.path())?;
        trial.lose()?;
        (trial, wanted)
    };

    let _alone = alone();
    install::remove(trial.cluster())?;
    no_trace(&trial)?;
    ensure!(
        world()?.bucket().join("backups/shop-1").exists(),
        "the bucket is gone, too"
    );

    let said = run(trial.cluster(), AFTER, folder.path())?;
    ensure!(said.contains("shop-1"), "{said}");
    trial.works()?;
    let restored = digests(&trial, "web")?;
    ensure!(restored == wanted, "{restored} instead of {wanted}");
    let settings = trial.get(&["configmap", "settings"])?;
    ensure!(settings["data"]["colour"] == "green", "{settings}");
    // The volume objects of the lost cluster are there, as records of where they came from.
    let selector = format!("{}=shop-1", ark_api::label::BACKUP_NAME);
    let volumes = trial.owned("podvolumebackups", &selector)?;
    ensure!(
        volumes.len() == 1 && !volumes[0]["spec"]["origin"].is_null(),
        "{volumes:?}"
    );
    trial.leave()
}
