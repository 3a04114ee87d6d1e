//! Schedules, backups and their expiry for a day of the operator's clock: its memory stays flat,
//! everything comes to an end, and every repository is clean.
//!
//! The test sets the clock from one due time to the next, as soon as all backups of the one before
//! have ended, so a day takes as long as its work. `ARK_TEST_SOAK=day` plays 24 hours of 50
//! schedules, 2,000 volume backups; otherwise it is two hours and a half of three.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::io::Write as _;

use ark_api::backup::BackupPhase;
use ark_api::{
    Backup, BackupStorageLocation, DeleteBackupRequest, PodVolumeBackup, Schedule, annotation, env,
};
use ark_tests::ark::{Ark, PLANE};
use ark_tests::node::until;
use jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

/// Time between two runs of a schedule: forty in a day.
const EVERY: i64 = 36 * 60;

/// Longest that the deletion of all backups that expired in a round may take.
const REST: std::time::Duration = std::time::Duration::from_mins(10);

/// How much is played.
struct Size {
    schedules: usize,
    rounds: usize,
    /// Rounds after which a backup expires.
    kept: i64,
    /// Round after which memory is to stay as it is: everything has happened once, and backups
    /// expire as others are made.
    settled: usize,
}

fn size() -> Size {
    if std::env::var("ARK_TEST_SOAK").is_ok_and(|wish| wish == "day") {
        Size {
            schedules: 50,
            rounds: 40,
            kept: 5,
            settled: 12,
        }
    } else {
        Size {
            schedules: 3,
            rounds: 4,
            kept: 1,
            settled: 2,
        }
    }
}

/// Namespaces with a pod with a volume each, a real agent, and a schedule of each namespace.
async fn begin(size: &Size) -> Ark {
    let mut ark = Ark::idle(&PLANE).await;
    ark.own_clock();
    ark.set_clock(Timestamp::now());
    ark.env
        .push((env::EXPIRY_LIMIT.to_owned(), "100000".to_owned()));
    ark.start_operator();
    ark.make_location().await;
    let node = ark.node("n").await;
    ark.start_agent(&node);
    for number in 0..size.schedules {
        let namespace = format!("{}-{number}", ark.shop);
        ark.make_namespace(&namespace).await;
        let annotations = json!({"backup.ark.heptio.com/backup-volumes": "data"});
        let volumes = json!([{"name": "data", "emptyDir": {}}]);
        let pod = ark
            .pod_in(&namespace, "web", &node, annotations, volumes)
            .await;
        std::fs::write(ark.empty_dir(&pod, "data").join("a"), namespace.as_bytes()).unwrap();
        let spec = json!({"schedule": format!("@every {EVERY}s"), "spread": "0", "template": {
            "includedNamespaces": [namespace], "ttl": format!("{}s", EVERY * size.kept + 60),
            // The objects' times are not those of the clock that the test sets.
            "itemOperationTimeout": "96h", "volumeQueueTimeout": "96h"}});
        let spec = serde_json::from_value(spec).unwrap();
        ark.create(Schedule::new(&format!("s{number}"), spec)).await;
    }
    ark
}

/// Sets the clock behind the next run of every schedule and waits for the ends of the backups that
/// are made.
async fn round(ark: &Ark, size: &Size) {
    let api = ark.api::<Schedule>();
    let mut before = Vec::new();
    let mut latest = Timestamp::MIN;
    for number in 0..size.schedules {
        let name = format!("s{number}");
        let (due, last) = until(&format!("next run of {name}; {}", ark.tail()), async || {
            let status = api.get(&name).await.unwrap().status?;
            Some((status.next_run?.0, status.last_backup_name))
        })
        .await;
        latest = latest.max(due);
        before.push(last);
    }
    let time = latest.checked_add(SignedDuration::from_secs(5)).unwrap();
    ark.set_clock(time);
    // A clock that is set wakes nobody.
    let touched = Patch::Merge(json!({"metadata": {"annotations": {"touched": time.to_string()}}}));
    for number in 0..size.schedules {
        let name = format!("s{number}");
        api.patch(&name, &PatchParams::default(), &touched)
            .await
            .unwrap();
    }
    for (number, before) in before.into_iter().enumerate() {
        let name = format!("s{number}");
        let made = until(&format!("run of {name}; {}", ark.tail()), async || {
            let status = api.get(&name).await.unwrap().status?;
            status
                .last_backup_name
                .filter(|made| Some(made) != before.as_ref())
        })
        .await;
        ark.ended(&made, BackupPhase::Completed).await;
    }
    // What has expired goes now, however much it is.
    let acknowledged =
        json!({"metadata": {"annotations": {annotation::EXPIRY_ACKNOWLEDGED: time.to_string()}}});
    ark.api::<BackupStorageLocation>()
        .patch(
            "default",
            &PatchParams::default(),
            &Patch::Merge(acknowledged),
        )
        .await
        .unwrap();
}

/// Backups that are there, all of which have ended, and nothing that is being deleted.
async fn at_rest(ark: &Ark) -> usize {
    let params = ListParams::default();
    let look = async || {
        let requests = ark
            .api::<DeleteBackupRequest>()
            .list(&params)
            .await
            .unwrap();
        let volumes = ark.api::<PodVolumeBackup>().list(&params).await.unwrap();
        let backups = ark.api::<Backup>().list(&params).await.unwrap();
        let volumes_ended = volumes.iter().all(|volume| {
            let phase = volume.status.as_ref().and_then(|status| status.phase);
            phase.unwrap_or_default().is_terminal()
        });
        let backups_ended = backups.iter().all(|backup| {
            let phase = backup.status.as_ref().and_then(|status| status.phase);
            phase == Some(BackupPhase::Completed)
        });
        let all = requests.items.is_empty() && volumes_ended && backups_ended;
        all.then_some(backups.items.len())
    };
    let deadline = tokio::time::Instant::now() + REST;
    loop {
        if let Some(left) = look().await {
            return left;
        }
        let late = tokio::time::Instant::now() > deadline;
        assert!(!late, "no rest; {}", ark.tail());
        // Between two looks at the condition.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_schedules_leaves_nothing_open_and_takes_no_more_memory_at_its_end() {
    let size = size();
    let ark = begin(&size).await;
    let mut err = std::io::stderr();
    let mut settled = 0;
    let begun = std::time::Instant::now();
    for number in 1..=size.rounds {
        round(&ark, &size).await;
        let left = at_rest(&ark).await;
        let memory = ark.operator_memory();
        writeln!(
            err,
            "round {number}: {left} backups left, {} KiB, {} requests, {} s",
            memory >> 10,
            ark.operator_requests().await,
            begun.elapsed().as_secs()
        )
        .unwrap();
        if number == size.settled {
            settled = memory;
        }
    }
    // The last good backup of each schedule and those that are not old enough.
    let kept = usize::try_from(size.kept).unwrap() + 2;
    let left = at_rest(&ark).await;
    assert!(left <= size.schedules * kept, "{left} backups left");
    let (end, room) = (ark.operator_memory(), 16 << 20);
    assert!(
        end < settled + settled / 4 + room,
        "{settled} bytes of memory became {end}"
    );
    for number in 0..size.schedules {
        ark.repository_is_clean(&format!("{}-{number}", ark.shop))
            .await;
    }
}
