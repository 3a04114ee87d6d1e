//! A backup with a volume that a real agent takes.

use ark_api::backup::BackupPhase;
use ark_api::volume::VolumeClass;
use ark_api::{Backup, layout};
use ark_tests::ark::Ark;
use serde_json::json;

use crate::{Scenario, application, installation, play, snapshots};

struct Taken(Vec<String>);

impl Scenario for Taken {
    const NAME: &'static str = "backup";
    const WRITES: u64 = 15;

    async fn prepare(&mut self, _ark: &mut Ark, _name: &str) {}

    async fn begin(&mut self, ark: &mut Ark, name: &str) {
        ark.backup(name, json!({})).await;
    }

    async fn ended(&mut self, ark: &Ark, name: &str) -> bool {
        has_ended(ark, name).await
    }

    async fn check(&mut self, ark: &Ark, name: &str) {
        let done = ark.ended(name, BackupPhase::Completed).await;
        let status = done.status.unwrap();
        assert_eq!((status.errors, status.warnings), (Some(0), Some(0)));
        let rows = ark.rows(name);
        assert_eq!((rows.len(), rows[0].class), (1, VolumeClass::Taken));
        assert_eq!(ark.volume_objects(name, 1).await.len(), 1);
        for path in [
            layout::marker(name),
            layout::bundle(name),
            layout::backup_results(name),
        ] {
            assert!(ark.bucket().join(&path).exists(), "{path}");
        }
        // Each volume was stored once.
        self.0.push(name.to_owned());
        self.0.sort();
        assert_eq!(snapshots(ark).await, self.0);
        ark.repository_is_clean(&ark.shop).await;
    }
}

/// Whether a backup has come to an end.
pub(crate) async fn has_ended(ark: &Ark, name: &str) -> bool {
    let status = ark.api::<Backup>().get(name).await.unwrap().status;
    let phase = status.and_then(|status| status.phase);
    phase.is_some_and(BackupPhase::is_terminal)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_ends_the_same_wherever_the_operator_is_killed() {
    let mut ark = installation(&[]).await;
    application(&mut ark).await;
    play(&mut ark, Taken(Vec::new())).await;
}
