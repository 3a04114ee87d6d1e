//! The deletion of a backup with its snapshots and all it stored.

use ark_api::backup::BackupPhase;
use ark_api::{Backup, DeleteBackupRequest, PodVolumeBackup, layout};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use kube::api::ListParams;
use serde_json::json;

use crate::{Scenario, application, installation, play, snapshots};

struct Deleted;

impl Scenario for Deleted {
    const NAME: &'static str = "deletion";
    const WRITES: u64 = 19;

    async fn prepare(&mut self, ark: &mut Ark, name: &str) {
        ark.backup(name, json!({})).await;
        ark.ended(name, BackupPhase::Completed).await;
    }

    async fn begin(&mut self, ark: &mut Ark, name: &str) {
        let spec = serde_json::from_value(json!({"backupName": name})).unwrap();
        ark.create(DeleteBackupRequest::new(name, spec)).await;
    }

    async fn ended(&mut self, ark: &Ark, name: &str) -> bool {
        let backup = ark.api::<Backup>().get_opt(name).await.unwrap();
        let request = ark.api::<DeleteBackupRequest>().get_opt(name).await;
        backup.is_none() && request.unwrap().is_none()
    }

    async fn check(&mut self, ark: &Ark, name: &str) {
        assert_eq!(snapshots(ark).await, ["kept"]);
        let dir = ark.bucket().join(layout::backup_dir(name));
        let left: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        let selector = format!("ark.heptio.com/backup-name={name}");
        let params = ListParams::default().labels(&selector);
        until("end of its volume objects", async || {
            let list = ark.api::<PodVolumeBackup>().list(&params).await.unwrap();
            list.items.is_empty().then_some(())
        })
        .await;
        assert!(ark.bucket().join(layout::marker("kept")).exists());
        ark.repository_is_clean(&ark.shop).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_the_same_wherever_the_operator_is_killed() {
    let mut ark = installation(&[]).await;
    application(&mut ark).await;
    ark.backup("kept", json!({})).await;
    ark.ended("kept", BackupPhase::Completed).await;
    play(&mut ark, Deleted).await;
}
