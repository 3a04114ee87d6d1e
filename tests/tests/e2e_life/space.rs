//! Deletion gives the space back, and takes nothing that another backup needs.

use anyhow::{Result, ensure};
use ark_api::{layout, naming};

use crate::world::{LOCATION, application, digests, installed, start, world, write};

const MIB: u64 = 1 << 20;

#[test]
fn a_deleted_backup_gives_its_space_back_and_another_keeps_its_own() -> Result<()> {
    let _installed = installed();
    let (world, trial) = (world()?, start("t-space")?);
    application(&trial, "web", false)?;
    trial.works()?;
    let repository = layout::repository(&trial.namespace);
    trial.shell(
        "deploy/web",
        &[write("kept", 4), write("dropped", 48)].join(" && "),
    )?;
    let first = trial.back_up("Completed", &[])?;
    trial.shell("deploy/web", "rm /data/dropped")?;
    let second = trial.back_up("Completed", &[])?;
    let wanted = digests(&trial, "web")?;
    let before = world.stored(&repository)?;
    ensure!(before > 52 * MIB, "only {before} bytes are stored");

    trial.delete_backup(&first)?;
    ensure!(
        !world.bucket().join(layout::backup_dir(&first)).exists(),
        "{first} is still in the bucket"
    );
    let object = naming::repository(&trial.namespace, LOCATION);
    trial.ark(&[
        "restic",
        "repo",
        "prune",
        &object,
        "--wait",
        "--timeout",
        "3m",
    ])?;
    let after = world.stored(&repository)?;
    ensure!(
        after + 47 * MIB < before && after > 4 * MIB,
        "{before} bytes before, {after} after"
    );
    let status = trial.own("resticrepositories", &object)?["status"].clone();
    let freed = status["recentMaintenance"][0]["freedBytes"]
        .as_u64()
        .unwrap_or_default();
    ensure!(freed > 47 * MIB, "{status}");

    trial.lose()?;
    trial.restore(&second, 1, "Completed", &[])?;
    trial.works()?;
    let restored = digests(&trial, "web")?;
    ensure!(restored == wanted, "{restored} instead of {wanted}");
    trial.leave()
}
