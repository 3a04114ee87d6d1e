//! Maintenance beside a running backup. The backup refers to data that nothing else needs when the
//! prune begins: what a prune that did not look again at its end would remove.

use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use ark_api::annotation::MAINTENANCE_REPOSITORIES;
use ark_api::{label, naming};
use ark_tests::trial::{LIMIT, Trial, items};
use xtask::install::NAMESPACE;
use xtask::wait::{self, Look};

use crate::slow::Slow;
use crate::world::{application, digests, installed, start, world, write};

const LOCATION: &str = "slow-beside";

/// Waits until the volume backup of `backup` has stored some of its data and not all.
fn in_the_middle(trial: &Trial, backup: &str) -> Result<()> {
    wait::until("the backup to be in the middle", LIMIT, || {
        let volumes = trial.owned(
            "podvolumebackups",
            &format!("{}={backup}", label::BACKUP_NAME),
        )?;
        let status = volumes
            .first()
            .map(|volume| volume["status"].clone())
            .unwrap_or_default();
        let running = status["phase"] == "InProgress"
            && status["progress"]["bytesDone"].as_i64().unwrap_or_default() > 0;
        Ok(if running {
            Look::Ready(())
        } else {
            Look::NotYet(status.to_string())
        })
    })
}

/// Waits until the Job that maintains `repository` runs.
fn job_runs(trial: &Trial, repository: &str) -> Result<()> {
    let selector = format!("{}={}", label::COMPONENT, label::COMPONENT_MAINTENANCE);
    wait::until("the maintenance Job to run", LIMIT, || {
        let jobs =
            trial
                .cluster()
                .get(&["jobs", "--namespace", NAMESPACE, "--selector", &selector])?;
        let runs = items(&jobs).any(|job| {
            job["metadata"]["annotations"][MAINTENANCE_REPOSITORIES] == repository
                && job["status"]["ready"] == 1
        });
        Ok(if runs {
            Look::Ready(())
        } else {
            Look::NotYet(items(&jobs).map(|job| job["status"].to_string()).collect())
        })
    })
}

fn begin_prune(trial: &Trial, repository: &str) -> Result<Child> {
    let mut ark = trial.cluster().program("ark")?;
    ark.args([
        "restic",
        "repo",
        "prune",
        repository,
        "--wait",
        "--timeout",
        "4m",
    ]);
    ark.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    ark.spawn().context("cannot start ark")
}

#[test]
fn a_prune_beside_a_backup_takes_nothing_that_the_backup_refers_to() -> Result<()> {
    let _installed = installed();
    let (world, trial) = (world()?, start("t-beside")?);
    let slow = Slow::to(world.server()?)?;
    world.location(LOCATION, &slow.endpoint())?;
    let there = ["--storage-location", LOCATION];
    application(&trial, "web", false)?;
    trial.works()?;
    trial.shell(
        "deploy/web",
        &[write("again", 24), write("dropped", 24)].join(" && "),
    )?;
    let first = trial.back_up("Completed", &there)?;
    trial.delete_backup(&first)?;
    // No snapshot needs anything now. The next backup does: it finds half of it stored.
    trial.shell(
        "deploy/web",
        &format!("rm /data/dropped && {}", write("more", 48)),
    )?;
    let wanted = digests(&trial, "web")?;
    slow.limit(4);
    let second = trial.begin_backup(&there)?;
    in_the_middle(&trial, &second)?;

    let repository = naming::repository(&trial.namespace, LOCATION);
    let prune = begin_prune(&trial, &repository)?;
    job_runs(&trial, &repository)?;
    let phase = trial.own("backups", &second)?["status"]["phase"].clone();
    ensure!(
        phase == "InProgress",
        "the backup is {phase} before the maintenance runs"
    );
    slow.unlimited();

    let output = prune.wait_with_output().context("ark")?;
    ensure!(
        output.status.success(),
        "the prune: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    wait::until("the backup's end", LIMIT, || {
        let status = trial.own("backups", &second)?["status"].clone();
        Ok(if status["phase"] == "Completed" {
            Look::Ready(())
        } else {
            Look::NotYet(status.to_string())
        })
    })?;
    let status = trial.own("resticrepositories", &repository)?["status"].clone();
    ensure!(
        status["recentMaintenance"][0]["result"] == "Succeeded",
        "{status}"
    );
    ensure!(status["verification"]["defects"] == 0, "{status}");

    trial.lose()?;
    trial.restore(&second, 1, "Completed", &[])?;
    trial.works()?;
    let restored = digests(&trial, "web")?;
    ensure!(restored == wanted, "{restored} instead of {wanted}");
    trial.leave()
}
