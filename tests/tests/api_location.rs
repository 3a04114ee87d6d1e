//! Locations and repositories on a real API server, with the operator's own rights.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use ark_api::condition::{self, kind, reason};
use ark_api::location::LocationPhase;
use ark_api::repository::{RepositoryPhase, ResticRepositorySpec};
use ark_api::{BackupStorageLocation, ResticRepository, naming};
use ark_tests::ark::{Ark, PLANE};
use ark_tests::node::until;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

const SECRET_WORDS: [&str; 2] = ["AKIDWRONGWRONG", "s3cr3t-s3cr3t-s3cr3t"];

fn reason_of(location: &BackupStorageLocation, kind: &str) -> String {
    let conditions = &location.status.as_ref().unwrap().conditions;
    condition::get(conditions, kind)
        .map(|c| c.reason.clone())
        .unwrap_or_default()
}

fn message(location: &BackupStorageLocation) -> String {
    location
        .status
        .as_ref()
        .unwrap()
        .message
        .clone()
        .unwrap_or_default()
}

fn s3(endpoint: &str, bucket: &str, secret: &str) -> Value {
    json!({"provider": "aws", "objectStorage": {"bucket": bucket},
        "config": {"s3Url": endpoint, "region": "minio", "s3ForcePathStyle": "true"},
        "credential": {"name": secret, "key": "cloud"}})
}

async fn repository(ark: &Ark, namespace: &str, phase: RepositoryPhase) -> ResticRepository {
    let name = naming::repository(namespace, "default");
    let api = ark.api::<ResticRepository>();
    if api.get_opt(&name).await.unwrap().is_none() {
        let spec = ResticRepositorySpec {
            volume_namespace: namespace.to_owned(),
            backup_storage_location: "default".to_owned(),
            ..ResticRepositorySpec::default()
        };
        ark.create(ResticRepository::new(&name, spec)).await;
    }
    until(
        &format!("repository {name} {phase:?}; {}", ark.tail()),
        async || {
            let found = api.get(&name).await.unwrap();
            (found.status.as_ref().and_then(|s| s.phase) == Some(phase)).then_some(found)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_location_becomes_available_and_marks_its_directory() {
    let ark = Ark::with_location().await;
    let location = ark.judged("default", LocationPhase::Available).await;
    assert_eq!(
        reason_of(&location, kind::KEY_AVAILABLE),
        reason::NO_KEY_YET
    );
    assert_eq!(
        reason_of(&location, kind::SHARED_DIRECTORY),
        reason::AGENTS_PENDING
    );
    let mark = std::fs::read(ark.bucket().join("metadata/ark-location.json")).unwrap();
    let mark: Value = serde_json::from_slice(&mark).unwrap();
    assert_eq!(
        mark["token"].as_str(),
        location.status.as_ref().unwrap().handshake.as_deref()
    );
    assert_eq!(mark["uid"].as_str(), location.metadata.uid.as_deref());
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_answer_the_handshake_and_silent_ones_are_named() {
    let mut ark = Ark::with_location().await;
    let node = ark.node("n").await;
    let api = ark.api::<BackupStorageLocation>();
    let silent = until("a silent agent to be named", async || {
        let found = api.get("default").await.unwrap();
        (reason_of(&found, kind::SHARED_DIRECTORY) == reason::DIRECTORY_NOT_SHARED).then_some(found)
    })
    .await;
    let conditions = &silent.status.as_ref().unwrap().conditions;
    assert!(
        condition::get(conditions, kind::SHARED_DIRECTORY)
            .unwrap()
            .message
            .contains(&node)
    );
    ark.start_agent(&node);
    until(
        &format!("the agent's answer; {}", ark.agent_log()),
        async || {
            let found = api.get("default").await.unwrap();
            (reason_of(&found, kind::SHARED_DIRECTORY) == reason::OK).then_some(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_makes_no_sense_says_everything_that_is_wrong() {
    let ark = Ark::new().await;
    for (name, spec, words) in [
        (
            "azure",
            json!({"provider": "azure", "objectStorage": {"bucket": "b"}}),
            vec!["not supported yet"],
        ),
        (
            "unknown",
            json!({"provider": "ftp", "objectStorage": {"bucket": "b"}}),
            vec!["ftp"],
        ),
        (
            "hostile",
            json!({"provider": "local", "objectStorage": {"bucket": "..", "prefix": "a/../../b"}}),
            vec!["bucket", "prefix"],
        ),
        ("empty", json!({"provider": "local"}), vec!["bucket"]),
    ] {
        ark.location(name, spec).await;
        let judged = ark.judged(name, LocationPhase::Unavailable).await;
        assert_eq!(
            reason_of(&judged, kind::AVAILABLE),
            reason::INVALID_SPEC,
            "{name}"
        );
        for word in words {
            assert!(
                message(&judged).contains(word),
                "{name}: {}",
                message(&judged)
            );
        }
    }
    let outside = ark.store_root().parent().unwrap().join("b");
    assert!(!outside.exists(), "something was made outside of the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_location_tells_wrong_credentials_bucket_and_endpoint_apart() {
    let minio = tokio::task::spawn_blocking(|| PLANE.minio().unwrap())
        .await
        .unwrap();
    minio.make_bucket("good").unwrap();
    let ark = Ark::new().await;
    ark.secret("right", "cloud", &minio.credentials_file())
        .await;
    let [id, key] = SECRET_WORDS;
    let wrong = format!("[default]\naws_access_key_id={id}\naws_secret_access_key={key}\n");
    ark.secret("wrong", "cloud", &wrong).await;
    ark.secret("broken", "cloud", key).await;
    let unreachable = "http://127.0.0.1:9";
    for (name, spec, expected) in [
        (
            "denied",
            s3(&minio.endpoint, "good", "wrong"),
            reason::CREDENTIALS_REFUSED,
        ),
        (
            "missing",
            s3(&minio.endpoint, "good", "absent"),
            reason::CREDENTIALS_MISSING,
        ),
        (
            "garbled",
            s3(&minio.endpoint, "good", "broken"),
            reason::CREDENTIALS_MISSING,
        ),
        (
            "nobucket",
            s3(&minio.endpoint, "no-such-bucket", "right"),
            reason::BUCKET_NOT_FOUND,
        ),
        (
            "away",
            s3(unreachable, "good", "right"),
            reason::UNREACHABLE,
        ),
    ] {
        ark.location(name, spec).await;
        let judged = ark.judged(name, LocationPhase::Unavailable).await;
        assert_eq!(
            reason_of(&judged, kind::AVAILABLE),
            expected,
            "{name}: {}",
            message(&judged)
        );
    }
    ark.location("fine", s3(&minio.endpoint, "good", "right"))
        .await;
    ark.judged("fine", LocationPhase::Available).await;

    // Putting the Secret right is enough; nobody has to touch the location.
    let patch = json!({"stringData": {"cloud": minio.credentials_file()}});
    let api = ark.api::<Secret>();
    api.patch("wrong", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    ark.judged("denied", LocationPhase::Available).await;

    // No secret anywhere: not in statuses, not in the log.
    let all = ark
        .api::<BackupStorageLocation>()
        .list(&kube::api::ListParams::default())
        .await
        .unwrap();
    let everything = format!("{}{}", serde_json::to_string(&all).unwrap(), ark.log());
    for word in SECRET_WORDS
        .iter()
        .copied()
        .chain([minio.secret_key.as_str()])
    {
        assert!(!everything.contains(word), "a secret was shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_directories_and_a_missing_root_make_a_location_unavailable() {
    let ark = Ark::new().await;
    std::fs::create_dir_all(ark.bucket().join("holiday-photos")).unwrap();
    ark.location(
        "default",
        json!({"provider": "local", "objectStorage": {"bucket": "bucket"}}),
    )
    .await;
    let judged = ark.judged("default", LocationPhase::Unavailable).await;
    assert_eq!(
        reason_of(&judged, kind::AVAILABLE),
        reason::FOREIGN_DIRECTORIES
    );
    assert!(message(&judged).contains("holiday-photos"));
    std::fs::remove_dir(ark.bucket().join("holiday-photos")).unwrap();
    ark.judged("default", LocationPhase::Available).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_default_locations_are_reported_on_both() {
    let ark = Ark::new().await;
    for name in ["one", "two"] {
        ark.location(
            name,
            json!({"provider": "local", "default": true, "objectStorage": {"bucket": name}}),
        )
        .await;
    }
    let api = ark.api::<BackupStorageLocation>();
    for name in ["one", "two"] {
        until(&format!("{name} to report; {}", ark.tail()), async || {
            message(&api.get(name).await.ok().filter(|l| l.status.is_some())?)
                .contains("one, two")
                .then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_location_stops_nobody_else() {
    let ark = Ark::new().await;
    // The schema lets any text through where a duration is meant by its pattern only; a number that
    // does not fit makes the object unreadable for the operator.
    let huge = format!("{}h", "9".repeat(40));
    let object: kube::core::DynamicObject = serde_json::from_value(json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "BackupStorageLocation", "metadata": {"name": "odd"},
        "spec": {"provider": "local", "objectStorage": {"bucket": "b"}, "validationFrequency": huge},
    }))
    .unwrap();
    let resource = kube::core::ApiResource::erase::<BackupStorageLocation>(&());
    let api = kube::Api::<kube::core::DynamicObject>::namespaced_with(
        ark.client.clone(),
        &ark.namespace,
        &resource,
    );
    api.create(&kube::api::PostParams::default(), &object)
        .await
        .unwrap();
    until("the log to name it", async || {
        ark.log().contains("cannot be read").then_some(())
    })
    .await;
    ark.make_location().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_made_with_a_new_key_that_is_reported_as_unsaved() {
    let ark = Ark::with_location().await;
    let made = repository(&ark, "shop", RepositoryPhase::Ready).await;
    assert_eq!(
        made.status
            .as_ref()
            .unwrap()
            .repository_id
            .as_ref()
            .unwrap()
            .len(),
        64
    );
    assert!(ark.bucket().join("restic/shop/config").exists());
    let secret = ark
        .api::<Secret>()
        .get(&naming::key_secret("default"))
        .await
        .unwrap();
    assert_eq!(secret.annotations()["ark.heptio.com/key-generated"], "true");
    let key = String::from_utf8(
        secret.data.as_ref().unwrap()["repository-password"]
            .0
            .clone(),
    )
    .unwrap();
    assert_eq!(key.len(), 64);
    let api = ark.api::<BackupStorageLocation>();
    until(&format!("KeyExported=False; {}", ark.tail()), async || {
        let found = api.get("default").await.unwrap();
        (reason_of(&found, kind::KEY_EXPORTED) == reason::KEY_ONLY_IN_CLUSTER).then_some(())
    })
    .await;
    let patch = json!({"metadata": {"annotations": {"ark.heptio.com/key-exported-at": "2026-01-01T00:00:00Z"}}});
    let secrets = ark.api::<Secret>();
    secrets
        .patch(
            &naming::key_secret("default"),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await
        .unwrap();
    until("KeyExported=True", async || {
        let found = api.get("default").await.unwrap();
        (reason_of(&found, kind::KEY_EXPORTED) == reason::KEY_HELD_BY_USER).then_some(())
    })
    .await;
    assert!(!ark.log().contains(&key), "the key was logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_never_replaced_by_a_new_one() {
    let ark = Ark::with_location().await;
    repository(&ark, "shop", RepositoryPhase::Ready).await;
    let name = naming::key_secret("default");
    let secrets = ark.api::<Secret>();
    let kept = secrets.get(&name).await.unwrap();
    ark.delete::<Secret>(&name).await;
    let lost = repository(&ark, "shop", RepositoryPhase::NotReady).await;
    assert_eq!(
        lost.status.as_ref().unwrap().conditions[0].reason,
        reason::KEY_MISSING
    );
    let other = repository(&ark, "other", RepositoryPhase::NotReady).await;
    assert_eq!(
        other.status.as_ref().unwrap().conditions[0].reason,
        reason::KEY_MISSING
    );
    let api = ark.api::<BackupStorageLocation>();
    until("the location to say so", async || {
        let found = api.get("default").await.unwrap();
        (reason_of(&found, kind::KEY_AVAILABLE) == reason::KEY_MISSING).then_some(())
    })
    .await;
    assert!(
        secrets.get_opt(&name).await.unwrap().is_none(),
        "a new key was made up"
    );
    assert!(!ark.bucket().join("restic/other").exists());

    // A wrong key is another fault than a missing one, and the right key ends both.
    ark.secret(&name, "repository-password", "wrong").await;
    until(&format!("WrongPassword; {}", ark.tail()), async || {
        let found = repository(&ark, "shop", RepositoryPhase::NotReady).await;
        (found.status.as_ref().unwrap().conditions[0].reason == reason::WRONG_PASSWORD)
            .then_some(())
    })
    .await;
    ark.delete::<Secret>(&name).await;
    let mut again = Secret {
        data: kept.data,
        ..Secret::default()
    };
    again.metadata.name = Some(name);
    ark.create(again).await;
    repository(&ark, "shop", RepositoryPhase::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_gone_or_replaced_is_not_made_again() {
    let ark = Ark::with_location().await;
    repository(&ark, "shop", RepositoryPhase::Ready).await;
    let dir = ark.bucket().join("restic/shop");
    let aside = ark.bucket().join("plugins");
    std::fs::rename(&dir, &aside).unwrap();
    // Touching the object makes the operator look at once.
    let touch = |text: &str| json!({"spec": {"resticIdentifier": text}});
    let api = ark.api::<ResticRepository>();
    let name = naming::repository("shop", "default");
    api.patch(&name, &PatchParams::default(), &Patch::Merge(touch("x")))
        .await
        .unwrap();
    let gone = repository(&ark, "shop", RepositoryPhase::NotReady).await;
    assert!(gone.status.unwrap().message.unwrap().contains("is gone"));
    assert!(!dir.exists(), "a new repository was made in its place");
    std::fs::rename(&aside, &dir).unwrap();
    api.patch(&name, &PatchParams::default(), &Patch::Merge(touch("y")))
        .await
        .unwrap();
    repository(&ark, "shop", RepositoryPhase::Ready).await;
}
