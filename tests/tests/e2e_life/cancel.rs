//! A backup and a restore that are cancelled while a large volume is under way and a small one is
//! finished.

use anyhow::{Context, Result, bail, ensure};
use ark_api::label;
use ark_api::naming::GATE_CONTAINER;
use ark_tests::trial::{LIMIT, Trial, items};
use serde_json::Value;
use xtask::wait::{self, Look};

use crate::slow::Slow;
use crate::world::{application, digests, installed, start, world, write};

const LOCATION: &str = "slow-cancel";

/// The volume objects of a backup or a restore, that of the small volume first.
fn volumes(trial: &Trial, kind: &str, selector: &str) -> Result<Vec<Value>> {
    let mut found = trial.owned(kind, selector)?;
    let is_large = |object: &Value| {
        let pod = object["spec"]["pod"]["name"].as_str();
        pod.is_some_and(|name| name.starts_with("large"))
    };
    found.sort_by_key(is_large);
    Ok(found)
}

/// Waits until the small volume is finished and the large one is under way.
fn in_the_middle(trial: &Trial, kind: &str, selector: &str) -> Result<()> {
    wait::until("one volume finished and one under way", LIMIT, || {
        let found = volumes(trial, kind, selector)?;
        let statuses: Vec<Value> = found.iter().map(|one| one["status"].clone()).collect();
        Ok(match &statuses[..] {
            [small, large]
                if small["phase"] == "Completed"
                    && large["phase"] == "InProgress"
                    && large["progress"]["bytesDone"].as_i64().unwrap_or_default() > 0 =>
            {
                Look::Ready(())
            }
            other => Look::NotYet(format!("{other:?}")),
        })
    })
}

/// The one pod of an application.
fn only_pod(trial: &Trial, app: &str) -> Result<String> {
    let pods = trial.get(&["pods", "--selector", &format!("app={app}")])?;
    let names: Vec<&str> = items(&pods)
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    match names[..] {
        [name] => Ok(format!("pod/{name}")),
        _ => bail!("pods of {app}: {names:?}"),
    }
}

/// Cancels it, and waits for its end.
fn cancel(trial: &Trial, noun: &str, name: &str) -> Result<Value> {
    trial.ark_waits(noun, name, &[noun, "cancel", name], "Canceled")
}

/// No gate goes on waiting for data that nobody brings.
fn no_gate_waits(trial: &Trial) -> Result<()> {
    wait::until("all gates to end", LIMIT, || {
        let pods = trial.get(&["pods"])?;
        let waiting: Vec<String> = items(&pods)
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .filter(|pod| {
                let gates = pod["status"]["initContainerStatuses"].as_array();
                gates.into_iter().flatten().any(|gate| {
                    gate["name"] == GATE_CONTAINER && gate["state"]["terminated"].is_null()
                })
            })
            .map(|pod| format!("{} {}", pod["metadata"]["name"], pod["status"]))
            .collect();
        Ok(if waiting.is_empty() {
            Look::Ready(())
        } else {
            Look::NotYet(waiting.join(", "))
        })
    })
}

#[test]
fn what_was_finished_when_a_backup_and_a_restore_were_cancelled_can_be_used() -> Result<()> {
    let _installed = installed();
    let (world, trial) = (world()?, start("t-cancel")?);
    let copy = start("t-cancel-copy")?;
    copy.lose()?;
    let slow = Slow::to(world.server()?)?;
    world.location(LOCATION, &slow.endpoint())?;
    let there = ["--storage-location", LOCATION];
    application(&trial, "small", false)?;
    application(&trial, "large", false)?;
    trial.works()?;
    trial.shell("deploy/small", "echo precious > /data/f")?;
    trial.shell("deploy/large", &write("f", 96))?;
    let wanted = digests(&trial, "large")?;

    slow.limit(6);
    let cancelled = trial.begin_backup(&there)?;
    let selector = format!("{}={cancelled}", label::BACKUP_NAME);
    in_the_middle(&trial, "podvolumebackups", &selector)?;
    cancel(&trial, "backup", &cancelled)?;
    let objects = volumes(&trial, "podvolumebackups", &selector)?;
    let phases: Vec<&Value> = objects.iter().map(|one| &one["status"]["phase"]).collect();
    ensure!(phases == ["Completed", "Canceled"], "{phases:?}");
    slow.unlimited();

    let mapping = format!("{}:{}", trial.namespace, copy.namespace);
    let only = ["--namespace-mappings", &mapping, "--selector", "app=small"];
    trial.restore(&cancelled, 1, "Completed", &only)?;
    copy.works()?;
    ensure!(copy.shell(&only_pod(&copy, "small")?, "cat /data/f")? == "precious");
    copy.leave()?;

    let whole = trial.back_up("Completed", &there)?;
    trial.lose()?;
    slow.limit(6);
    let restore = format!("{whole}-cancelled");
    trial.ark(&["restore", "create", &restore, "--from-backup", &whole])?;
    let selector = format!("{}={restore}", label::RESTORE_NAME);
    in_the_middle(&trial, "podvolumerestores", &selector)?;
    cancel(&trial, "restore", &restore)?;
    slow.unlimited();
    no_gate_waits(&trial)?;
    let described = trial.ark(&["restore", "describe", &restore, "--details"])?;
    let held = trial.get(&["deployment", "large"])?;
    ensure!(held["spec"]["replicas"] == 0, "{}", held["spec"]);
    for controller in ["small", "large"] {
        // Action, resource, namespace, name, message.
        let what = ["deployments.apps", &trial.namespace, controller];
        let is_row = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1..4) == Some(&what[..])
        };
        ensure!(
            described.lines().any(is_row),
            "no row of {controller}:\n{described}"
        );
    }
    ensure!(described.contains("cancelled"), "{described}");
    // Nobody ends the pod that has its data.
    let kept = only_pod(&trial, "small").context(described)?;
    ensure!(trial.shell(&kept, "cat /data/f")? == "precious");

    // The rest is restored by another restore, once what waits for it has gone.
    trial.lose()?;
    trial.restore(&whole, 2, "Completed", &[])?;
    trial.works()?;
    let restored = digests(&trial, "large")?;
    ensure!(restored == wanted, "{restored} instead of {wanted}");
    trial.leave()
}
