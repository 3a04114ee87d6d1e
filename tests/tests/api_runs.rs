//! Runs of backups and restores beside each other: whose turn it is, who waits for whom, what a
//! cancel leaves, and that a process that ends at any write changes nothing about the end.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use ark_api::backup::{BackupPhase, BackupStatus};
use ark_api::condition::{self, kind};
use ark_api::restore::{RestorePhase, RestoreSpec, RestoreStatus};
use ark_api::volume::{VolumeClass, VolumeReason};
use ark_api::{Backup, PodVolumeBackup, ResticRepository, Restore, layout};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

/// A pod with volumes that nobody but the test takes.
async fn pod_with(ark: &Ark, namespace: &str, node: &str, volumes: &[&str]) {
    let named = json!({"backup.ark.heptio.com/backup-volumes": volumes.join(",")});
    let volumes: Vec<Value> = volumes
        .iter()
        .map(|name| json!({"name": name, "emptyDir": {}}))
        .collect();
    ark.pod_in(namespace, "web", node, named, json!(volumes))
        .await;
}

/// Waits for a status that `wanted` takes.
async fn backup_is(ark: &Ark, name: &str, wanted: impl Fn(&BackupStatus) -> bool) -> BackupStatus {
    let api = ark.api::<Backup>();
    until(&format!("a status of {name}; {}", ark.tail()), async || {
        api.get(name).await.unwrap().status.filter(&wanted)
    })
    .await
}

/// Waits for a status that `wanted` takes.
async fn restore_is(
    ark: &Ark,
    name: &str,
    wanted: impl Fn(&RestoreStatus) -> bool,
) -> RestoreStatus {
    let api = ark.api::<Restore>();
    until(&format!("a status of {name}; {}", ark.tail()), async || {
        api.get(name).await.unwrap().status.filter(&wanted)
    })
    .await
}

fn waits_for(status: &BackupStatus) -> String {
    let waits = condition::get(&status.conditions, kind::WAITING).unwrap();
    assert_eq!(
        (waits.status.as_str(), waits.reason.as_str()),
        ("True", "Queued")
    );
    waits.message.clone()
}

async fn queued(ark: &Ark, name: &str, position: i32) -> String {
    let place = Some(position);
    let status = backup_is(ark, name, |status| status.queue_position == place).await;
    assert_eq!(status.phase, Some(BackupPhase::Queued));
    waits_for(&status)
}

async fn cancel_backup(ark: &Ark, name: &str) {
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    let params = PatchParams::default();
    let api = ark.api::<Backup>();
    api.patch(name, &params, &patch).await.unwrap();
}

async fn restore(ark: &Ark, name: &str, backup: &str) -> Restore {
    let spec = RestoreSpec {
        backup_name: Some(backup.to_owned()),
        ..RestoreSpec::default()
    };
    ark.create(Restore::new(name, spec)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ninth_backup_is_judged_while_eight_run() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    let mut first = None;
    for number in 0..9 {
        let namespace = format!("{}-{number}", ark.shop);
        ark.make_namespace(&namespace).await;
        pod_with(&ark, &namespace, &node, &["v"]).await;
        let name = format!("b{number}");
        let spec = json!({"includedNamespaces": [namespace]});
        ark.backup(&name, spec).await;
        if number < 8 {
            let object = ark.volume_objects(&name, 1).await.remove(0);
            first.get_or_insert(object);
        }
    }
    let why = queued(&ark, "b8", 1).await;
    assert!(why.contains("limit"), "{why}");
    ark.backup("senseless", json!({"storageLocation": "nowhere"}))
        .await;
    ark.ended("senseless", BackupPhase::FailedValidation).await;
    ark.complete(&first.unwrap()).await;
    ark.ended("b0", BackupPhase::Completed).await;
    let last = ark.volume_objects("b8", 1).await.remove(0);
    ark.complete(&last).await;
    let done = ark.ended("b8", BackupPhase::Completed).await;
    assert_eq!(done.status.unwrap().queue_position, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_share_a_namespace_run_one_after_the_other_also_after_a_restart() {
    let mut ark = Ark::with_location().await;
    let node = ark.node("n").await;
    pod_with(&ark, &ark.shop, &node, &["v"]).await;
    ark.backup("first", json!({})).await;
    let object = ark.volume_objects("first", 1).await.remove(0);
    ark.backup("second", json!({})).await;
    let why = queued(&ark, "second", 1).await;
    assert!(why.contains("first") && why.contains(&ark.shop), "{why}");
    ark.backup("third", json!({})).await;
    queued(&ark, "third", 2).await;
    // What shares nothing waits for nobody.
    let elsewhere = format!("{}-else", ark.shop);
    ark.make_namespace(&elsewhere).await;
    ark.backup("elsewhere", json!({"includedNamespaces": [elsewhere]}))
        .await;
    ark.ended("elsewhere", BackupPhase::Completed).await;

    ark.kill_operator();
    ark.start_operator();
    backup_is(&ark, "first", |status| status.attempt == Some(2)).await;
    let status = backup_is(&ark, "second", |_| true).await;
    assert_eq!(status.phase, Some(BackupPhase::Queued));

    cancel_backup(&ark, "third").await;
    let cancelled = ark.ended("third", BackupPhase::Canceled).await;
    assert!(Ark::reason(&cancelled).contains("before it began"));
    ark.complete(&object).await;
    ark.ended("first", BackupPhase::Completed).await;
    let object = ark.volume_objects("second", 1).await.remove(0);
    ark.complete(&object).await;
    let done = ark.ended("second", BackupPhase::Completed).await;
    assert_eq!(done.status.unwrap().attempt, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_cancelled_in_the_middle_keeps_what_is_finished() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    pod_with(&ark, &ark.shop, &node, &["done", "open"]).await;
    ark.backup("b", json!({})).await;
    let objects = ark.volume_objects("b", 2).await;
    let of = |volume: &str| objects.iter().find(|o| o.spec.volume == volume).unwrap();
    ark.complete(of("done")).await;
    cancel_backup(&ark, "b").await;
    backup_is(&ark, "b", |status| {
        status.phase == Some(BackupPhase::Canceling)
    })
    .await;
    let (api, open) = (ark.api::<PodVolumeBackup>(), of("open").name_any());
    until("the cancel of the open volume", async || {
        api.get(&open).await.unwrap().spec.cancel.then_some(())
    })
    .await;
    let status = Patch::Merge(json!({"status": {"phase": "Canceled"}}));
    let params = PatchParams::default();
    api.patch_status(&open, &params, &status).await.unwrap();
    let ended = ark.ended("b", BackupPhase::Canceled).await;
    assert!(
        Ark::reason(&ended).contains("1 of 2 volumes"),
        "{}",
        Ark::reason(&ended)
    );
    let rows = ark.rows("b");
    let row = |volume: &str| {
        let found = rows
            .iter()
            .find(|row| row.volume.as_deref() == Some(volume));
        found.map(|row| (row.class, row.reason)).unwrap()
    };
    assert_eq!(row("done"), (VolumeClass::Taken, VolumeReason::Completed));
    assert_eq!(row("open"), (VolumeClass::Failed, VolumeReason::Cancelled));
    assert!(ark.bucket().join(layout::marker("b")).exists());
    // What is stored can be restored, also where nobody has backed up: the repository's object is
    // made again, and only to be read.
    let repository = ark_api::naming::repository(&ark.shop, "default");
    ark.delete::<ResticRepository>(&repository).await;
    restore(&ark, "r", "b").await;
    restore_is(&ark, "r", |status| status.backup_name.is_some()).await;
    let api = ark.api::<ResticRepository>();
    let made = until(&format!("the repository; {}", ark.tail()), async || {
        api.get_opt(&repository).await.unwrap()
    })
    .await;
    assert_eq!(made.spec.open_only, Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_waits_for_its_own_backup_and_can_be_cancelled() {
    let mut ark = Ark::idle(&ark_tests::ark::PLANE).await;
    ark.env
        .push(("ARK_RESTORE_WAIT_IMAGE".to_owned(), "none".to_owned()));
    ark.start_operator();
    ark.make_location().await;
    let node = ark.node("n").await;
    pod_with(&ark, &ark.shop, &node, &["v"]).await;
    ark.backup("b", json!({})).await;
    let object = ark.volume_objects("b", 1).await.remove(0);
    restore(&ark, "r", "b").await;
    let status = restore_is(&ark, "r", |status| {
        condition::is_true(&status.conditions, kind::WAITING)
    })
    .await;
    let waits = condition::get(&status.conditions, kind::WAITING).unwrap();
    assert!(
        waits.message.contains("backup b has not ended"),
        "{waits:?}"
    );
    assert_eq!(status.phase, Some(RestorePhase::New));
    // Otherwise there is nothing to restore.
    ark.shop::<Pod>()
        .delete("web", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    ark.complete(&object).await;
    ark.ended("b", BackupPhase::Completed).await;
    // Nobody schedules its pod, so it would wait for long.
    restore_is(&ark, "r", |status| {
        let waits = condition::get(&status.conditions, kind::WAITING);
        status.phase == Some(RestorePhase::InProgress)
            && waits.is_some_and(|waits| waits.reason == "PodNotScheduled")
    })
    .await;
    // A second restore into the same namespace waits for the first.
    restore(&ark, "r2", "b").await;
    let second = restore_is(&ark, "r2", |status| {
        condition::is_true(&status.conditions, kind::WAITING)
    })
    .await;
    let waits = condition::get(&second.conditions, kind::WAITING).unwrap();
    assert!(waits.message.contains("restore r runs"), "{waits:?}");
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    for name in ["r2", "r"] {
        let api = ark.api::<Restore>();
        let params = PatchParams::default();
        api.patch(name, &params, &patch).await.unwrap();
        let ended = restore_is(&ark, name, |status| {
            status.phase.is_some_and(RestorePhase::is_terminal)
        })
        .await;
        assert_eq!(ended.phase, Some(RestorePhase::Canceled), "{ended:?}");
        assert!(ended.failure_reason.unwrap().starts_with("cancelled"));
    }
    let log = ark.bucket().join(layout::restore_results("r"));
    assert!(log.exists(), "a cancelled restore has no results");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_the_process_again_and_again_is_given_up_and_says_why() {
    let mut ark = Ark::with_location().await;
    ark.kill_operator();
    let status = json!({"status": {"phase": "InProgress", "attempt": 10,
        "failedAttempts": [{"attempt": 9, "message": "the moon"}]}});
    let (patch, params) = (Patch::Merge(&status), PatchParams::default());
    ark.backup("b", json!({"storageLocation": "default"})).await;
    let api = ark.api::<Backup>();
    api.patch_status("b", &params, &patch).await.unwrap();
    restore(&ark, "r", "b").await;
    let api = ark.api::<Restore>();
    api.patch_status("r", &params, &patch).await.unwrap();
    ark.start_operator();
    let failed = ark.ended("b", BackupPhase::Failed).await;
    assert!(
        Ark::reason(&failed).contains("10 attempts"),
        "{}",
        Ark::reason(&failed)
    );
    let failed = restore_is(&ark, "r", |status| {
        status.phase.is_some_and(RestorePhase::is_terminal)
    })
    .await;
    assert_eq!(failed.phase, Some(RestorePhase::Failed), "{failed:?}");
    assert!(failed.failure_reason.unwrap().contains("10 attempts"));
}

/// What can be seen of a backup from outside: each difference is a write.
async fn seen(ark: &Ark, name: &str) -> Vec<String> {
    let backup = ark.api::<Backup>().get(name).await.unwrap();
    let volumes = ark.api::<PodVolumeBackup>();
    let selector = format!("ark.heptio.com/backup-name={name}");
    let params = kube::api::ListParams::default().labels(&selector);
    let mut seen: Vec<String> = volumes
        .list(&params)
        .await
        .unwrap()
        .iter()
        .map(kube::ResourceExt::name_any)
        .collect();
    seen.extend(backup.resource_version());
    if let Ok(entries) = std::fs::read_dir(ark.bucket().join(layout::backup_dir(name))) {
        seen.extend(entries.map(|e| e.unwrap().file_name().into_string().unwrap()));
    }
    seen.sort();
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_after_any_write_of_a_backup_changes_nothing_about_its_end() {
    let mut ark = Ark::with_location().await;
    let node = ark.node("n").await;
    pod_with(&ark, &ark.shop, &node, &["v"]).await;
    for kill_after in 1..=6 {
        let name = format!("b{kill_after}");
        ark.backup(&name, json!({})).await;
        let (mut before, mut writes) = (seen(&ark, &name).await, 0);
        until(&format!("write {kill_after}; {}", ark.tail()), async || {
            let now = seen(&ark, &name).await;
            if now != before {
                (before, writes) = (now, writes + 1);
            }
            complete_all(&ark, &name).await;
            let ended = backup_has_ended(&ark, &name).await;
            (writes >= kill_after || ended).then_some(())
        })
        .await;
        ark.kill_operator();
        ark.start_operator();
        until(&format!("end of {name}; {}", ark.tail()), async || {
            complete_all(&ark, &name).await;
            backup_has_ended(&ark, &name).await.then_some(())
        })
        .await;
        let done = ark.ended(&name, BackupPhase::Completed).await;
        assert_eq!(done.status.unwrap().errors, Some(0), "{name}");
        let rows = ark.rows(&name);
        assert_eq!(
            (rows.len(), rows[0].class),
            (1, VolumeClass::Taken),
            "{name}"
        );
        assert_eq!(ark.volume_objects(&name, 1).await.len(), 1, "{name}");
        assert!(ark.bucket().join(layout::marker(&name)).exists(), "{name}");
    }
}

async fn backup_has_ended(ark: &Ark, name: &str) -> bool {
    let status = ark.api::<Backup>().get(name).await.unwrap().status;
    let phase = status.and_then(|status| status.phase);
    phase.is_some_and(BackupPhase::is_terminal)
}

/// Plays the agent for all volumes of a backup that have not ended.
async fn complete_all(ark: &Ark, name: &str) {
    let selector = format!("ark.heptio.com/backup-name={name}");
    let params = kube::api::ListParams::default().labels(&selector);
    let list = ark.api::<PodVolumeBackup>().list(&params).await.unwrap();
    for object in list.items {
        if object.status.as_ref().is_none_or(|s| s.phase.is_none()) {
            ark.complete(&object).await;
        }
    }
}
