//! Backups expire, with care: on a real API server, with a clock that the tests set.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use ark_api::backup::BackupPhase;
use ark_api::condition::{self, kind};
use ark_api::{Backup, BackupStorageLocation, Schedule, layout};
use ark_tests::ark::{Ark, PLANE};
use ark_tests::node::until;
use jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

async fn with_clock() -> Ark {
    let mut ark = Ark::idle(&PLANE).await;
    ark.own_clock();
    ark.set_clock(Timestamp::now());
    ark.start_operator();
    ark.make_location().await;
    ark
}

/// Sets the clock and has a new operator look at it.
fn wake(ark: &mut Ark, hours: i64) -> Timestamp {
    let time = Timestamp::now()
        .checked_add(SignedDuration::from_hours(hours))
        .unwrap();
    ark.kill_operator();
    ark.set_clock(time);
    ark.start_operator();
    time
}

/// A backup that is kept for an hour and carries the label of a schedule, if one is named.
async fn backup(ark: &Ark, name: &str, schedule: Option<&str>) {
    let labels = schedule.map(|schedule| json!({"ark.heptio.com/schedule-name": schedule}));
    let backup: Backup = serde_json::from_value(json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "Backup",
        "metadata": {"name": name, "labels": labels},
        "spec": {"includedNamespaces": [ark.shop], "ttl": "1h"},
    }))
    .unwrap();
    ark.api::<Backup>()
        .create(&PostParams::default(), &backup)
        .await
        .unwrap();
    ark.ended(name, BackupPhase::Completed).await;
}

async fn names(ark: &Ark) -> Vec<String> {
    let list = ark
        .api::<Backup>()
        .list(&ListParams::default())
        .await
        .unwrap();
    let mut names: Vec<String> = list.iter().map(kube::ResourceExt::name_any).collect();
    names.sort();
    names
}

async fn left(ark: &Ark, expected: &[&str]) {
    until(
        &format!("only {expected:?} left; {}", ark.tail()),
        async || (names(ark).await == expected).then_some(()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_backups_go_and_the_last_good_one_of_a_schedule_stays() {
    let mut ark = with_clock().await;
    backup(&ark, "alone", None).await;
    backup(&ark, "daily-1", Some("daily")).await;
    backup(&ark, "daily-2", Some("daily")).await;
    wake(&mut ark, 2);
    left(&ark, &["daily-2"]).await;
    assert!(!ark.bucket().join(layout::marker("alone")).exists());
    // Its user says that it may go.
    let patch = Patch::Merge(
        json!({"metadata": {"annotations": {"backup.ark.heptio.com/expire-last-good": "true"}}}),
    );
    ark.api::<Backup>()
        .patch("daily-2", &PatchParams::default(), &patch)
        .await
        .unwrap();
    wake(&mut ark, 3);
    left(&ark, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_when_its_time_is_over_and_not_minutes_later() {
    let ark = with_clock().await;
    // The location has been looked at by then, and the next look without a reason is minutes away.
    backup(&ark, "long", None).await;
    let short: Backup = serde_json::from_value(json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "Backup", "metadata": {"name": "short"},
        "spec": {"includedNamespaces": [ark.shop], "ttl": "2s"},
    }))
    .unwrap();
    ark.api::<Backup>()
        .create(&PostParams::default(), &short)
        .await
        .unwrap();
    left(&ark, &["long"]).await;
    assert!(!ark.bucket().join(layout::marker("short")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_expired_backups_than_the_limit_wait_for_an_acknowledgement() {
    let mut ark = with_clock().await;
    ark.env
        .push(("ARK_EXPIRY_LIMIT".to_owned(), "1".to_owned()));
    for name in ["a", "b"] {
        backup(&ark, name, None).await;
    }
    let now = wake(&mut ark, 2);
    let locations = ark.api::<BackupStorageLocation>();
    let said = until(&format!("condition Expiry; {}", ark.tail()), async || {
        let status = locations.get("default").await.unwrap().status?;
        let condition = condition::get(&status.conditions, kind::EXPIRY)?;
        (condition.status == "False").then(|| condition.message.clone())
    })
    .await;
    assert!(
        said.contains("2 at once are more than 1") && said.contains("annotate"),
        "{said}"
    );
    assert_eq!(names(&ark).await, ["a", "b"]);
    let acknowledged = json!({"ark.heptio.com/expiry-acknowledged": now.to_string()});
    let patch = Patch::Merge(json!({"metadata": {"annotations": acknowledged}}));
    locations
        .patch("default", &PatchParams::default(), &patch)
        .await
        .unwrap();
    left(&ark, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_a_schedule_keep_backups_beyond_their_time_and_say_why() {
    let mut ark = with_clock().await;
    for name in ["s-1", "s-2", "s-3"] {
        backup(&ark, name, Some("s")).await;
    }
    let spec = json!({"schedule": "@yearly", "retention": {"keepLast": 2}, "template": {"includedNamespaces": [ark.shop]}});
    ark.create(Schedule::new("s", serde_json::from_value(spec).unwrap()))
        .await;
    let schedules = ark.api::<Schedule>();
    let retained = until(&format!("what is retained; {}", ark.tail()), async || {
        let status = schedules.get("s").await.unwrap().status?;
        (status.retained.len() == 3).then_some(status.retained)
    })
    .await;
    let kept: Vec<&str> = retained
        .iter()
        .filter(|one| !one.reasons.is_empty())
        .map(|one| one.backup.as_str())
        .collect();
    assert_eq!(kept.len(), 2, "{retained:?}");
    assert!(
        retained[0].reasons.contains(&"last backup".to_owned()),
        "{retained:?}"
    );
    wake(&mut ark, 2);
    let mut expected = kept.clone();
    expected.sort_unstable();
    left(&ark, &expected).await;
}
