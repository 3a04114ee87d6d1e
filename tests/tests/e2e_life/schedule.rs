//! Schedules: one that runs makes backups, one that is paused makes none, and what they made
//! expires.

use anyhow::{Result, ensure};
use ark_api::{annotation, layout};
use ark_tests::trial::{LIMIT, Trial};
use serde_json::Value;
use xtask::wait::{self, Look};

use crate::world::{application, installed, start, world};

fn create(trial: &Trial, name: &str, args: &[&str]) -> Result<()> {
    let last = format!("{}=true", annotation::EXPIRE_LAST_GOOD);
    let words = [
        "schedule",
        "create",
        name,
        "--schedule",
        "* * * * *",
        "--spread",
        "0",
        "--ttl",
        "20s",
        "--annotations",
        &last,
        "--include-namespaces",
        &trial.namespace,
    ];
    trial.ark(&[&words[..], args].concat()).map(drop)
}

/// The name of the last good backup of a schedule, once there is one.
fn last_good(trial: &Trial, schedule: &str) -> Result<String> {
    wait::until(&format!("a good backup of {schedule}"), LIMIT, || {
        let status = trial.own("schedules", schedule)?["status"].clone();
        Ok(match status["lastSuccessfulBackup"].as_str() {
            Some(name) => Look::Ready(name.to_owned()),
            None => Look::NotYet(status.to_string()),
        })
    })
}

fn backups_of(trial: &Trial, schedule: &str) -> Result<Vec<Value>> {
    trial.owned(
        "backups",
        &format!("{}={schedule}", ark_api::label::SCHEDULE_NAME),
    )
}

#[test]
fn a_schedule_makes_backups_that_expire_and_makes_none_while_it_is_paused() -> Result<()> {
    let _installed = installed();
    let (world, trial) = (world()?, start("t-schedule")?);
    let (runs, paused) = ("t-runs", "t-paused");
    application(&trial, "web", false)?;
    trial.works()?;
    trial.shell("deploy/web", "echo precious > /data/f")?;
    create(&trial, paused, &["--paused"])?;
    create(&trial, runs, &[])?;

    let first = last_good(&trial, runs)?;
    trial.ark(&["schedule", "pause", runs])?;
    // The other one was due at the same minute.
    let none = backups_of(&trial, paused)?;
    ensure!(none.is_empty(), "a paused schedule made {none:?}");
    let status = trial.own("schedules", paused)?["status"].clone();
    ensure!(status["lastBackupName"].is_null(), "{status}");
    let snapshots = format!("{}/snapshots", layout::repository(&trial.namespace));
    ensure!(
        world.bucket().join(&snapshots).exists(),
        "no snapshot was stored"
    );

    // What became due meanwhile is made at once.
    trial.ark(&["schedule", "unpause", paused])?;
    let second = last_good(&trial, paused)?;
    trial.ark(&["schedule", "pause", paused])?;

    // Their time is over: objects, directories and snapshots go.
    wait::until("the end of all expired backups", LIMIT, || {
        let mut left: Vec<String> = Vec::new();
        for schedule in [runs, paused] {
            for backup in backups_of(&trial, schedule)? {
                left.push(format!(
                    "{} {}",
                    backup["metadata"]["name"], backup["status"]["phase"]
                ));
            }
        }
        for name in [&first, &second] {
            let directory = layout::backup_dir(name);
            if world.bucket().join(&directory).exists() {
                left.push(directory);
            }
        }
        let snapshots = world.bucket().join(&snapshots);
        if snapshots.exists() && std::fs::read_dir(&snapshots)?.next().is_some() {
            left.push(snapshots.display().to_string());
        }
        Ok(if left.is_empty() {
            Look::Ready(())
        } else {
            Look::NotYet(left.join(", "))
        })
    })?;
    trial.ark(&["schedule", "delete", runs, paused, "--confirm"])?;
    trial.leave()
}
