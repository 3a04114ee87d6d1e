//! A backup that only the bucket knows appears in the cluster.

use ark_api::backup::BackupPhase;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::{Backup, BackupStorageLocation, PodVolumeBackup};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{Scenario, application, installation, play, snapshots};

struct Found {
    before: Option<Backup>,
    made: usize,
}

async fn volumes(ark: &Ark, name: &str) -> Vec<PodVolumeBackup> {
    let selector = format!("ark.heptio.com/backup-name={name}");
    let params = ListParams::default().labels(&selector);
    let list = ark.api::<PodVolumeBackup>().list(&params).await;
    list.unwrap().items
}

impl Scenario for Found {
    const NAME: &'static str = "sync";
    const WRITES: u64 = 7;

    async fn prepare(&mut self, ark: &mut Ark, name: &str) {
        ark.backup(name, json!({})).await;
        self.before = Some(ark.ended(name, BackupPhase::Completed).await);
        self.made += 1;
        ark.kill_operator();
        ark.delete::<Backup>(name).await;
        until("end of the volume object", async || {
            volumes(ark, name).await.is_empty().then_some(())
        })
        .await;
    }

    async fn begin(&mut self, ark: &mut Ark, _name: &str) {
        ark.start_operator();
    }

    async fn ended(&mut self, ark: &Ark, name: &str) -> bool {
        let found = ark.api::<Backup>().get_opt(name).await.unwrap();
        let found = found.is_some_and(|backup| backup.status.is_some());
        let volumes = volumes(ark, name).await;
        found && volumes.iter().any(|volume| volume.status.is_some())
    }

    async fn check(&mut self, ark: &Ark, name: &str) {
        let before = self.before.take().unwrap();
        let found = ark.api::<Backup>().get(name).await.unwrap();
        assert_eq!(Some(found.spec.origin.unwrap().uid), before.metadata.uid);
        assert_eq!(
            found.status.unwrap().phase,
            Some(BackupPhase::Completed),
            "{name}"
        );
        let volumes = volumes(ark, name).await;
        assert_eq!(volumes.len(), 1);
        let phase = volumes[0].status.as_ref().unwrap().phase;
        assert_eq!(phase, Some(VolumePhase::Completed));
        let all = ark.api::<Backup>().list(&ListParams::default()).await;
        assert_eq!(all.unwrap().items.len(), self.made);
        assert_eq!(snapshots(ark).await.len(), self.made);
        ark.repository_is_clean(&ark.shop).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_ends_the_same_wherever_the_operator_is_killed() {
    let mut ark = installation(&[]).await;
    application(&mut ark).await;
    let patch = Patch::Merge(json!({"spec": {"backupSyncPeriod": "1s"}}));
    ark.api::<BackupStorageLocation>()
        .patch("default", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let found = Found {
        before: None,
        made: 0,
    };
    play(&mut ark, found).await;
}
