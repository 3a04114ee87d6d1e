//! Schedules on a real API server, with a clock that the tests set.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use ark_api::backup::BackupPhase;
use ark_api::schedule::{SchedulePhase, ScheduleStatus};
use ark_api::{Backup, Schedule, condition};
use ark_tests::ark::{Ark, PLANE};
use ark_tests::node::until;
use jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

/// An installation with a location, whose operator's clock the test sets.
async fn with_clock() -> Ark {
    let mut ark = Ark::idle(&PLANE).await;
    ark.own_clock();
    ark.set_clock(Timestamp::now());
    ark.start_operator();
    ark.make_location().await;
    ark
}

async fn schedule(ark: &Ark, name: &str, spec: Value) -> Schedule {
    let spec = serde_json::from_value(spec).unwrap();
    ark.create(Schedule::new(name, spec)).await
}

/// A schedule of the application's namespace that is due at one o'clock.
async fn daily(ark: &Ark, name: &str) {
    let spec = json!({
        "schedule": "0 1 * * *", "spread": "0", "template": {"includedNamespaces": [ark.shop]},
    });
    schedule(ark, name, spec).await;
}

/// Waits until the status of a schedule says something.
async fn says<T>(ark: &Ark, name: &str, what: impl Fn(ScheduleStatus) -> Option<T>) -> T {
    let api = ark.api::<Schedule>();
    until(
        &format!("status of schedule {name}; {}", ark.tail()),
        async || what(api.get(name).await.unwrap().status.unwrap_or_default()),
    )
    .await
}

/// Changes a schedule's spec, so that it is looked at, and waits until it has been.
async fn change(ark: &Ark, name: &str, spec: Value) -> ScheduleStatus {
    let patch = Patch::Merge(json!({"spec": spec}));
    let changed = ark
        .api::<Schedule>()
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
    says(ark, name, |status| {
        (status.observed_generation == changed.metadata.generation).then_some(status)
    })
    .await
}

/// Sets the clock and has the schedule look at it.
async fn look_at(ark: &Ark, name: &str, time: Timestamp) {
    ark.set_clock(time);
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"touched": time.to_string()}}}));
    ark.api::<Schedule>()
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// The names of the Backups of a schedule, by its label.
async fn backups(ark: &Ark, schedule: &str) -> Vec<String> {
    let selector = format!("ark.heptio.com/schedule-name={schedule}");
    let params = ListParams::default().labels(&selector);
    let mut names: Vec<String> = ark
        .api::<Backup>()
        .list(&params)
        .await
        .unwrap()
        .iter()
        .map(kube::ResourceExt::name_any)
        .collect();
    names.sort();
    names
}

fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds))
        .unwrap()
}

const DAY: i64 = 24 * 3600;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_due_makes_one_backup_and_missed_runs_are_said_and_not_made_up_for() {
    let mut ark = with_clock().await;
    daily(&ark, "daily").await;
    // Another schedule whose name begins with the first one's.
    daily(&ark, "daily-shop").await;
    let first = says(&ark, "daily", |status| status.next_run).await.0;
    look_at(&ark, "daily", after(first, 5)).await;

    let name = format!("daily-{}", first.strftime("%Y%m%d%H%M%S"));
    let made = says(&ark, "daily", |status| status.last_backup_name).await;
    assert_eq!(made, name);
    ark.ended(&name, BackupPhase::Completed).await;
    let good = says(&ark, "daily", |status| status.last_successful_backup).await;
    assert_eq!(good, name);

    // Three days of which nobody knew: one run is made, two are missed.
    let later = after(first, 3 * DAY);
    look_at(&ark, "daily", after(later, 5)).await;
    let status = says(&ark, "daily", |status| {
        status.missed_runs.map(|_| status.clone())
    })
    .await;
    assert_eq!(status.missed_runs, Some(2));
    let newest = format!("daily-{}", later.strftime("%Y%m%d%H%M%S"));
    assert_eq!(backups(&ark, "daily").await, [name.clone(), newest.clone()]);
    ark.ended(&newest, BackupPhase::Completed).await;

    // The clock is set back by an hour and comes by the due time again.
    ark.set_clock(after(later, -3600));
    change(&ark, "daily", json!({"spread": "0s"})).await;
    ark.set_clock(after(later, 10));
    let status = change(&ark, "daily", json!({"spread": "0"})).await;
    assert_eq!(status.next_run.unwrap().0, after(later, DAY));
    assert_eq!(backups(&ark, "daily").await.len(), 2);

    // A crash between the Backup and the status: the Backup tells that the run was made.
    ark.kill_operator();
    let patch = Patch::Merge(
        json!({"status": {"lastBackup": null, "lastBackupName": null, "nextRun": null}}),
    );
    let api = ark.api::<Schedule>();
    api.patch_status("daily", &PatchParams::default(), &patch)
        .await
        .unwrap();
    ark.start_operator();
    let status = says(&ark, "daily", |status| {
        status.next_run.is_some().then_some(status)
    })
    .await;
    assert_eq!(status.last_backup_name, Some(newest));
    assert_eq!(backups(&ark, "daily").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_schedule_makes_nothing_and_may_skip_what_became_due_meanwhile() {
    let ark = with_clock().await;
    daily(&ark, "s").await;
    let first = says(&ark, "s", |status| status.next_run).await.0;
    let status = change(&ark, "s", json!({"paused": true})).await;
    assert!(status.next_run.is_none() && status.paused_since.is_some());
    ark.set_clock(after(first, 5));
    let status = change(&ark, "s", json!({"paused": false, "skipImmediately": true})).await;
    assert!(status.last_skipped.is_some());
    assert_eq!(status.next_run.unwrap().0, after(first, DAY));
    assert!(backups(&ark, "s").await.is_empty());
    // Without that wish, what became due meanwhile is made.
    change(&ark, "s", json!({"paused": true, "skipImmediately": null})).await;
    ark.set_clock(after(first, DAY + 5));
    change(&ark, "s", json!({"paused": false})).await;
    says(&ark, "s", |status| status.last_backup_name).await;
    assert_eq!(backups(&ark, "s").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_the_backup_before_it() {
    let ark = with_clock().await;
    let node = ark.node("n").await;
    let annotations = json!({"backup.ark.heptio.com/backup-volumes": "data"});
    ark.pod(
        "web",
        &node,
        annotations,
        json!([{"name": "data", "emptyDir": {}}]),
    )
    .await;
    daily(&ark, "s").await;
    let first = says(&ark, "s", |status| status.next_run).await.0;
    look_at(&ark, "s", after(first, 5)).await;
    let running = says(&ark, "s", |status| status.last_backup_name).await;
    // Its volume is nobody's work yet.
    let volume = ark.volume_objects(&running, 1).await.remove(0);
    look_at(&ark, "s", after(first, DAY + 5)).await;
    let said = says(&ark, "s", |status| {
        condition::get(&status.conditions, condition::kind::WAITING)
            .filter(|c| c.status == "True")
            .map(|c| c.message.clone())
    })
    .await;
    assert!(said.contains(&running), "{said}");
    assert_eq!(backups(&ark, "s").await.len(), 1);
    ark.complete(&volume).await;
    ark.ended(&running, BackupPhase::Completed).await;
    says(&ark, "s", |status| {
        (status.last_backup_name.as_deref() != Some(&running)).then_some(())
    })
    .await;
    assert_eq!(backups(&ark, "s").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_makes_no_sense_says_every_reason_until_it_does() {
    let ark = with_clock().await;
    let spec = json!({
        "schedule": "0 1 31 2 *", "timezone": "Europe/Berln", "template": {"storageLocation": "nowhere"},
    });
    schedule(&ark, "s", spec).await;
    let status = says(&ark, "s", |status| {
        (status.phase == Some(SchedulePhase::FailedValidation)).then_some(status)
    })
    .await;
    let text = status.validation_errors.join("\n");
    assert!(
        text.contains("not a time zone") && text.contains("nowhere"),
        "{text}"
    );
    let status = change(
        &ark,
        "s",
        json!({"schedule": "0 1 * * *", "timezone": "Europe/Berlin", "template": {"storageLocation": null}}),
    )
    .await;
    assert_eq!(status.phase, Some(SchedulePhase::Enabled));
    assert!(status.validation_errors.is_empty() && status.next_run.is_some());
}
