//! Backups on a real API server: what is in them of objects that are going away, of what the taken
//! objects need, and of objects with odd names; and which Backup objects are executed at all.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::process::Command;

use ark_api::annotation::RUN_UID;
use ark_api::backup::BackupPhase;
use ark_api::condition::{self, kind, reason};
use ark_api::restore::RestorePhase;
use ark_api::volume::{VolumeClass, VolumeReason, VolumeRow};
use ark_api::{Backup, Restore, layout};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

fn row<'a>(rows: &'a [VolumeRow], pod: &str, volume: &str) -> &'a VolumeRow {
    let found = rows
        .iter()
        .find(|row| row.pod.as_deref() == Some(pod) && row.volume.as_deref() == Some(volume));
    assert!(found.is_some(), "no row of {pod}/{volume} in {rows:#?}");
    found.unwrap()
}

/// An object of a bundle by the end of its path.
fn stored(ark: &Ark, backup: &str, end: &str) -> Value {
    let bundle = ark.bundle(backup);
    let paths: Vec<&String> = bundle.iter().map(|(path, _)| path).collect();
    let found = bundle.iter().find(|(path, _)| path.ends_with(end));
    assert!(found.is_some(), "no {end} in {paths:#?}");
    found.unwrap().1.clone()
}

fn says_nothing_of_its_deletion(object: &Value) {
    let metadata = object["metadata"].as_object().unwrap();
    for key in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "finalizers",
    ] {
        assert!(!metadata.contains_key(key), "{key}: {metadata:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_deleted_by_mistake_is_in_the_backup_while_its_pod_runs() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    ark.bound_claim("data").await;
    let volumes = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
    let named = json!({"backup.ark.heptio.com/backup-volumes": "d"});
    ark.pod("web", &node, named, volumes).await;
    let claims = ark.shop::<PersistentVolumeClaim>();
    claims
        .delete("data", &DeleteParams::default())
        .await
        .unwrap();
    let deleted = claims.get("data").await.unwrap();
    assert!(deleted.metadata.deletion_timestamp.is_some());

    ark.backup("b", json!({})).await;
    let objects = ark.volume_objects("b", 1).await;
    ark.complete(&objects[0]).await;
    ark.ended("b", BackupPhase::Completed).await;

    let claim = stored(&ark, "b", &format!("/{}/data.json", ark.shop));
    says_nothing_of_its_deletion(&claim);
    assert_eq!(claim["spec"], serde_json::to_value(deleted.spec).unwrap());
    stored(&ark, "b", &format!("/data-{}.json", ark.namespace));
    assert_eq!(row(&ark.rows("b"), "web", "d").class, VolumeClass::Taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_a_pod_that_is_being_deleted_are_taken_while_it_runs() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    ark.bound_claim("data").await;
    let volumes = json!([
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "e", "emptyDir": {}},
    ]);
    let named = json!({"backup.ark.heptio.com/backup-volumes": "d,e"});
    ark.pod("p", &node, named, volumes.clone()).await;
    let ended = ark.pod("ended", &node, json!({}), volumes).await;
    ark.set_pod_status(&ended, json!({"phase": "Succeeded"}))
        .await;
    let pods = ark.shop::<Pod>();
    let held = Patch::Merge(json!({"metadata": {"finalizers": ["example.org/wait"]}}));
    pods.patch("ended", &PatchParams::default(), &held)
        .await
        .unwrap();
    for name in ["p", "ended"] {
        let slowly = DeleteParams::default().grace_period(600);
        pods.delete(name, &slowly).await.unwrap();
        let left = pods.get(name).await.unwrap();
        assert!(left.metadata.deletion_timestamp.is_some(), "{name}");
    }

    for (name, spec) in [
        ("named", json!({})),
        ("all", json!({"defaultVolumesToFsBackup": true})),
    ] {
        ark.backup(name, spec).await;
        for object in ark.volume_objects(name, 2).await {
            ark.complete(&object).await;
        }
        ark.ended(name, BackupPhase::Completed).await;
        let rows = ark.rows(name);
        for volume in ["d", "e"] {
            assert_eq!(row(&rows, "p", volume).reason, VolumeReason::Completed);
        }
        let pod = stored(&ark, name, &format!("pods/namespaces/{}/p.json", ark.shop));
        says_nothing_of_its_deletion(&pod);
        // A pod that has ended and is on its way out holds nothing.
        assert!(
            !ark.items(name)
                .iter()
                .any(|path| path.ends_with("/ended.json"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_namespace_is_taken_by_name_and_never_called_complete() {
    let ark = Ark::with_location().await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.org/wait"]}});
    ark.put::<ConfigMap>(held).await;
    let namespaces = Api::<Namespace>::all(ark.client.clone());
    namespaces
        .delete(&ark.shop, &DeleteParams::default())
        .await
        .unwrap();
    let maps = ark.shop::<ConfigMap>();
    until("the namespace's content to be deleted", async || {
        let held = maps.get("held").await.unwrap();
        held.metadata.deletion_timestamp
    })
    .await;
    ark.backup("b", json!({})).await;
    ark.ended("b", BackupPhase::PartiallyFailed).await;
    let results = ark.results("b");
    let errors = &results.errors.namespaces[&ark.shop];
    assert!(errors[0].contains("is being deleted"), "{errors:?}");
    let warnings = &results.warnings.namespaces[&ark.shop];
    assert!(
        warnings.iter().any(|text| text.contains("configmaps held")),
        "{warnings:?}"
    );
    let namespace = stored(&ark, "b", &format!("namespaces/cluster/{}.json", ark.shop));
    says_nothing_of_its_deletion(&namespace);
    let free = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(free))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_role_of_a_role_binding_is_in_a_backup_of_the_namespace() {
    let ark = Ark::with_location().await;
    let role = format!("app-{}", ark.namespace);
    let roles = Api::<ClusterRole>::all(ark.client.clone());
    let object = json!({"metadata": {"name": role}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    roles
        .create(
            &PostParams::default(),
            &serde_json::from_value(object).unwrap(),
        )
        .await
        .unwrap();
    ark.put::<RoleBinding>(json!({
        "metadata": {"name": "rb"},
        "subjects": [{"kind": "ServiceAccount", "name": "app", "namespace": ark.shop}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
    }))
    .await;
    ark.backup("b", json!({})).await;
    ark.ended("b", BackupPhase::Completed).await;
    let path = format!("clusterroles.rbac.authorization.k8s.io/cluster/{role}.json");
    stored(&ark, "b", &path);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selected_pod_brings_the_config_it_reads() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    for name in ["mounted", "read", "other"] {
        ark.put::<ConfigMap>(json!({"metadata": {"name": name}}))
            .await;
    }
    ark.put::<Pod>(json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "nodeName": node, "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "none", "envFrom": [{"configMapRef": {"name": "read"}}]}],
            "volumes": [{"name": "v", "configMap": {"name": "mounted"}}],
        },
    }))
    .await;
    let selector = json!({"labelSelector": {"matchLabels": {"app": "web"}}});
    ark.backup("b", selector).await;
    ark.ended("b", BackupPhase::Completed).await;
    let items = ark.items("b");
    let has = |name: &str| {
        items.contains(&format!(
            "resources/configmaps/namespaces/{}/{name}.json",
            ark.shop
        ))
    };
    assert!(has("mounted") && has("read") && !has("other"), "{items:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_with_odd_names_are_stored_unpacked_and_restored() {
    let ark = Ark::with_location().await;
    let event = "e".repeat(260);
    ark.put::<k8s_openapi::api::core::v1::Event>(json!({
        "metadata": {"name": event}, "reason": "x", "message": "y", "type": "Normal",
        "involvedObject": {"kind": "ConfigMap", "namespace": ark.shop, "name": "x"},
    }))
    .await;
    let long = "x".repeat(253);
    ark.put::<ConfigMap>(json!({"metadata": {"name": long}, "data": {"a": "b"}}))
        .await;
    let allowed = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    ark.put::<Role>(json!({"metadata": {"name": "tab\tbed"}, "rules": allowed}))
        .await;
    ark.backup("b", json!({})).await;
    let done = ark.ended("b", BackupPhase::Completed).await;
    assert_eq!(done.status.unwrap().warnings, Some(0));

    let dir = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar")
        .arg("xzf")
        .arg(ark.bucket().join(layout::bundle("b")))
        .arg("-C")
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&unpacked.stderr);
    assert!(unpacked.status.success() && said.is_empty(), "{said}");

    let maps = ark.shop::<ConfigMap>();
    maps.delete(&long, &DeleteParams::default()).await.unwrap();
    let all = DeleteParams::default();
    let roles = ark.shop::<Role>();
    roles
        .delete_collection(&all, &kube::api::ListParams::default())
        .await
        .unwrap();
    let spec = serde_json::from_value(json!({"backupName": "b"})).unwrap();
    ark.create(Restore::new("r", spec)).await;
    let api = ark.api::<Restore>();
    let status = until(&format!("end of the restore; {}", ark.tail()), async || {
        let status = api.get("r").await.unwrap().status?;
        status.phase?.is_terminal().then_some(status)
    })
    .await;
    assert_eq!(
        status.phase,
        Some(RestorePhase::Completed),
        "{}",
        ark.tail()
    );
    assert_eq!(maps.get(&long).await.unwrap().data.unwrap()["a"], "b");
    let names: Vec<String> = roles
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(kube::ResourceExt::name_any)
        .collect();
    assert!(names.contains(&"tab\tbed".to_owned()), "{names:?}");
}

/// What is left of an object that was exported and is created again.
fn exported(backup: &Backup, name: &str) -> Backup {
    let mut copy = backup.clone();
    copy.metadata.name = Some(name.to_owned());
    copy.metadata.resource_version = None;
    copy.metadata.managed_fields = None;
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_backup_that_is_created_again_is_a_copy_and_runs_only_on_purpose() {
    let ark = Ark::with_location().await;
    let api = ark.api::<Backup>();
    ark.backup("b", json!({})).await;
    let done = ark.ended("b", BackupPhase::Completed).await;
    assert_eq!(
        done.annotations().get(RUN_UID),
        done.metadata.uid.as_ref(),
        "the run is stamped"
    );

    ark.create(exported(&done, "copy")).await;
    let copy = ark.ended("copy", BackupPhase::Copy).await;
    let status = copy.status.clone().unwrap();
    let said = condition::get(&status.conditions, kind::COPY).unwrap();
    assert_eq!(
        (said.status.as_str(), said.reason.as_str()),
        ("True", reason::COPY_OF_EXECUTED)
    );
    let uid = copy.uid().unwrap();
    let wish = format!("{RUN_UID}={uid} --overwrite");
    assert!(said.message.ends_with(&wish), "{}", said.message);
    assert!(status.start_timestamp.is_none());
    assert!(!ark.bucket().join(layout::backup_dir("copy")).exists());

    // The name of the stored backup, given to a copy, leaves what is stored alone.
    ark.delete::<Backup>("b").await;
    until("the backup to be gone", async || {
        api.get_opt("b").await.unwrap().is_none().then_some(())
    })
    .await;
    let marker = ark.bucket().join(layout::marker("b"));
    let before = std::fs::read(&marker).unwrap();
    ark.create(exported(&done, "b")).await;
    ark.ended("b", BackupPhase::Copy).await;
    assert_eq!(std::fs::read(&marker).unwrap(), before);

    let wish = json!({"metadata": {"annotations": {RUN_UID: uid}}});
    api.patch("copy", &PatchParams::default(), &Patch::Merge(wish))
        .await
        .unwrap();
    let ran = until("the copy to run on purpose", async || {
        let found = api.get("copy").await.unwrap();
        let phase = found.status.as_ref()?.phase?;
        (phase == BackupPhase::Completed).then_some(found)
    })
    .await;
    let status = ran.status.unwrap();
    assert!(condition::get(&status.conditions, kind::COPY).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_veleros_is_a_copy() {
    let ark = Ark::with_location().await;
    let mut backup = Backup::new("b", ark_api::backup::BackupSpec::default());
    let annotation = "velero.io/source-cluster-k8s-gitversion".to_owned();
    backup.metadata.annotations = Some([(annotation, "v1.32.3".to_owned())].into());
    ark.create(backup).await;
    ark.ended("b", BackupPhase::Copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_ended_before_there_were_stamps_gets_one() {
    let mut ark = Ark::with_location().await;
    ark.backup("b", json!({})).await;
    ark.ended("b", BackupPhase::Completed).await;
    ark.kill_operator();
    let api = ark.api::<Backup>();
    let bare = json!({"metadata": {"annotations": {RUN_UID: null}}});
    api.patch("b", &PatchParams::default(), &Patch::Merge(bare))
        .await
        .unwrap();
    ark.start_operator();
    until("the stamp", async || {
        let backup = api.get("b").await.unwrap();
        let stamp = backup.annotations().get(RUN_UID)?;
        (Some(stamp) == backup.metadata.uid.as_ref()).then_some(())
    })
    .await;
}
