//! Many namespaces with a repository each: what the operator asks of the API server while nothing
//! happens does not grow with their number.
//!
//! `ARK_TEST_NAMESPACES=1000` makes as many and prints memory and requests, idle and busy, for
//! docs/measurements; each has a pod with two volumes, which one backup takes through a real agent.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::io::Write as _;
use std::time::{Duration, Instant};

use ark_api::backup::BackupPhase;
use ark_api::repository::RepositoryPhase;
use ark_api::{Backup, BackupStorageLocation, PodVolumeBackup, ResticRepository};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use futures::{StreamExt as _, stream};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

/// Namespaces of the short form.
const FEW: usize = 12;
/// Longest the backup of the long form may take.
const LONG: Duration = Duration::from_hours(2);

/// Makes the namespaces, each with a pod with two volumes.
async fn applications(ark: &Ark, node: &str, count: usize) {
    let make = |number: usize| async move {
        let namespace = format!("{}-{number}", ark.shop);
        ark.make_namespace(&namespace).await;
        let annotations = json!({"backup.ark.heptio.com/backup-volumes": "a,b"});
        let volumes = json!([{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}]);
        let pod = ark
            .pod_in(&namespace, "web", node, annotations, volumes)
            .await;
        for volume in ["a", "b"] {
            let dir = ark.empty_dir(&pod, volume);
            std::fs::write(dir.join("file"), format!("{number} {volume}")).unwrap();
        }
    };
    stream::iter((0..count).map(make))
        .buffer_unordered(8)
        .for_each(|()| std::future::ready(()))
        .await;
}

/// Waits for this many further looks at the location, each of which writes its status.
async fn looks(ark: &Ark, count: usize) {
    let api = ark.api::<BackupStorageLocation>();
    let mut last = None;
    let mut seen = 0;
    until(&format!("{count} looks; {}", ark.tail()), async || {
        let status = api.get("default").await.unwrap().status?;
        if status.last_validation_time != last {
            last = status.last_validation_time;
            seen += 1;
        }
        (seen > count).then_some(())
    })
    .await;
}

/// Says what the operator takes and asks since `begun`, when it had made `before` requests.
async fn tell(ark: &Ark, what: &str, begun: Instant, before: u64) {
    let requests = ark.operator_requests().await - before;
    let seconds = begun.elapsed().as_secs().max(1);
    let mut err = std::io::stderr();
    writeln!(
        err,
        "{what}: {} KiB, {requests} requests in {seconds} s, {} a minute",
        ark.operator_memory() >> 10,
        requests * 60 / seconds
    )
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_operator_asks_no_more_for_a_thousand_repositories_than_for_one() {
    let wished = std::env::var("ARK_TEST_NAMESPACES");
    let count = wished.as_ref().map_or(FEW, |text| text.parse().unwrap());
    let mut ark = Ark::with_location().await;
    let node = ark.node("n").await;
    ark.start_agent(&node);
    applications(&ark, &node, count).await;

    let (begun, before) = (Instant::now(), ark.operator_requests().await);
    let wanted = format!("{}-*", ark.shop);
    ark.backup("b", json!({"includedNamespaces": [wanted]}))
        .await;
    let api = ark.api::<Backup>();
    while begun.elapsed() < LONG {
        let status = api.get("b").await.unwrap().status.unwrap_or_default();
        if status.phase.is_some_and(BackupPhase::is_terminal) {
            assert_eq!(status.errors, Some(0), "{status:#?}");
            break;
        }
        // Between two looks at the condition.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tell(&ark, "busy", begun, before).await;
    let params = ListParams::default();
    let volumes = ark.api::<PodVolumeBackup>().list(&params).await.unwrap();
    assert_eq!(volumes.items.len(), 2 * count);
    until("all repositories ready", async || {
        let list = ark.api::<ResticRepository>().list(&params).await.unwrap();
        let ready = |one: &ResticRepository| {
            let phase = one.status.as_ref().and_then(|status| status.phase);
            phase == Some(RepositoryPhase::Ready)
        };
        (list.items.len() == count && list.iter().all(ready)).then_some(())
    })
    .await;

    // Each look at the location writes its status, which means nothing to the repositories.
    let (begun, before) = (Instant::now(), ark.operator_requests().await);
    if wished.is_ok() {
        // Two looks, at the pace of every installation.
        let api = ark.api::<BackupStorageLocation>();
        let first = api.get("default").await.unwrap().status.unwrap();
        while begun.elapsed() < Duration::from_mins(3) {
            let status = api.get("default").await.unwrap().status.unwrap();
            if begun.elapsed() > Duration::from_mins(2)
                && status.last_validation_time != first.last_validation_time
            {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tell(&ark, "idle", begun, before).await;
        return;
    }
    let often = Patch::Merge(json!({"spec": {"validationFrequency": "1s"}}));
    ark.api::<BackupStorageLocation>()
        .patch("default", &PatchParams::default(), &often)
        .await
        .unwrap();
    // The change itself means something, and takes its time on a busy machine. After that a look costs
    // fewer than two requests for each repository; three for each is what it was.
    until("two looks that ask for no repository", async || {
        let before = ark.operator_requests().await;
        looks(&ark, 2).await;
        let asked = ark.operator_requests().await - before;
        (asked < 2 * 2 * u64::try_from(FEW).unwrap()).then_some(())
    })
    .await;
}
