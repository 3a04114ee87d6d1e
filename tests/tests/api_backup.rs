//! Backups on a real API server: what is taken, what is refused, and what each volume's row says.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use ark_api::backup::BackupPhase;
use ark_api::condition::{self, kind};
use ark_api::location::LocationPhase;
use ark_api::origin::Origin;
use ark_api::volume::{VolumeClass, VolumeReason, VolumeRow};
use ark_api::{Backup, PodVolumeBackup, layout};
use ark_tests::ark::{Ark, plane};
use ark_tests::node::until;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

fn row<'a>(rows: &'a [VolumeRow], pod: &str, volume: &str) -> &'a VolumeRow {
    let found = rows
        .iter()
        .find(|row| row.pod.as_deref() == Some(pod) && row.volume.as_deref() == Some(volume));
    assert!(found.is_some(), "no row of {pod}/{volume} in {rows:#?}");
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_stored_with_its_files() {
    let mut ark = Ark::with_location().await;
    let node = ark.node("n").await;
    ark.start_agent(&node);
    let annotations = json!({"backup.ark.heptio.com/backup-volumes": "content"});
    let volumes = json!([{"name": "content", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]);
    let pod = ark.pod("nginx", &node, annotations, volumes).await;
    std::fs::write(ark.empty_dir(&pod, "content").join("index.html"), "hello").unwrap();
    ark.put::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"a": "b"}}))
        .await;
    let hidden = json!({"metadata": {"name": "hidden", "labels": {"velero.io/exclude-from-backup": "true"}}});
    ark.put::<ConfigMap>(hidden).await;

    ark.backup("b", json!({})).await;
    let done = ark.ended("b", BackupPhase::Completed).await;

    let status = done.status.as_ref().unwrap();
    assert_eq!((status.errors, status.attempt), (Some(0), Some(1)));
    assert_eq!(status.bytes, Some(5));
    let progress = status.progress.as_ref().unwrap();
    assert!(progress.total_items > 3 && progress.total_items == progress.items_backed_up);
    let (end, expiration) = (
        status.completion_timestamp.clone().unwrap(),
        status.expiration.clone().unwrap(),
    );
    assert_eq!(expiration.0.duration_since(end.0).as_hours(), 720);
    assert_eq!(done.spec.storage_location.as_deref(), Some("default"));
    assert!(condition::is_true(
        &status.conditions,
        kind::ALL_VOLUMES_PROTECTED
    ));

    let rows = ark.rows("b");
    let taken = row(&rows, "nginx", "content");
    assert_eq!((taken.class, taken.bytes), (VolumeClass::Taken, Some(5)));
    assert_eq!(taken.snapshot_id.as_ref().unwrap().len(), 64);
    assert_eq!(row(&rows, "nginx", "tmp").class, VolumeClass::Chosen);

    let items = ark.items("b");
    let shop = &ark.shop;
    for path in [
        "metadata/version".to_owned(),
        format!("resources/namespaces/cluster/{shop}.json"),
        format!("resources/pods/namespaces/{shop}/nginx.json"),
        format!("resources/configmaps/namespaces/{shop}/settings.json"),
    ] {
        assert!(items.contains(&path), "{path} is not in {items:#?}");
    }
    assert!(!items.iter().any(|path| path.contains("hidden")));
    let bundle = ark.bundle("b");
    let (_, config) = bundle
        .iter()
        .find(|(path, _)| {
            path.ends_with(
                "/v1-preferredversion/namespaces/{shop}/settings.json"
                    .replace("{shop}", shop)
                    .as_str(),
            )
        })
        .unwrap();
    assert_eq!(
        (config["apiVersion"].as_str(), config["kind"].as_str()),
        (Some("v1"), Some("ConfigMap"))
    );

    let marker = std::fs::read(ark.bucket().join(layout::marker("b"))).unwrap();
    let marker: Backup = serde_json::from_slice(&marker).unwrap();
    assert_eq!(marker.status, done.status);
    let stored: Vec<PodVolumeBackup> = ark.artefact(&layout::pod_volume_backups("b"));
    assert_eq!(stored.len(), 1);
    assert!(ark.bucket().join(layout::backup_logs("b")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_brings_what_the_selected_objects_need() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    ark.bound_claim("data").await;
    ark.put::<ServiceAccount>(json!({"metadata": {"name": "runner"}}))
        .await;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": format!("runner-{}", ark.namespace)},
        "subjects": [{"kind": "ServiceAccount", "name": "runner", "namespace": ark.shop}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }))
    .unwrap();
    let api = Api::<ClusterRoleBinding>::all(ark.client.clone());
    api.create(&PostParams::default(), &binding).await.unwrap();
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    ark.pod("web", &node, json!({}), volumes).await;
    ark.pod("other", &node, json!({}), json!([])).await;
    // A pod cannot change its account, so one more that has it.
    ark.put::<k8s_openapi::api::core::v1::Pod>(json!({
        "metadata": {"name": "run", "labels": {"app": "web"}},
        "spec": {"serviceAccountName": "runner", "containers": [{"name": "c", "image": "none"}]},
    }))
    .await;
    ark.backup(
        "b",
        json!({"labelSelector": {"matchLabels": {"app": "web"}}}),
    )
    .await;
    let done = ark.ended("b", BackupPhase::Completed).await;
    let items = ark.items("b");
    let shop = &ark.shop;
    let ns = &ark.namespace;
    for path in [
        format!("resources/pods/namespaces/{shop}/web.json"),
        format!("resources/persistentvolumeclaims/namespaces/{shop}/data.json"),
        format!("resources/persistentvolumes/cluster/data-{ns}.json"),
        format!("resources/serviceaccounts/namespaces/{shop}/runner.json"),
        format!("resources/clusterrolebindings.rbac.authorization.k8s.io/cluster/runner-{ns}.json"),
        "resources/clusterroles.rbac.authorization.k8s.io/cluster/view.json".to_owned(),
        format!("resources/namespaces/cluster/{shop}.json"),
    ] {
        assert!(items.contains(&path), "{path} is not in {items:#?}");
    }
    assert!(!items.iter().any(|path| path.ends_with("/other.json")));
    // Opt-in mode, and nobody named the claim: Completed, but nobody can overlook it.
    assert_eq!(done.status.as_ref().unwrap().unprotected_volumes, Some(1));
    assert_eq!(
        row(&ark.rows("b"), "web", "data").reason,
        VolumeReason::NotAnnotated
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_says_every_reason_and_does_nothing() {
    let ark = Ark::with_location().await;
    ark.location("away", json!({"provider": "aws", "objectStorage": {"bucket": "b"}, "credential": {"name": "x", "key": "y"}})).await;
    ark.location("frozen", json!({"provider": "local", "objectStorage": {"bucket": "frozen"}, "accessMode": "ReadOnly"})).await;
    ark.judged("away", LocationPhase::Unavailable).await;
    for (name, spec, words) in [
        (
            "b1",
            json!({"storageLocation": "nowhere"}),
            vec!["nowhere does not exist"],
        ),
        (
            "b2",
            json!({"storageLocation": "away"}),
            vec!["away is not available", "Secret x"],
        ),
        (
            "b3",
            json!({"storageLocation": "frozen"}),
            vec!["read-only"],
        ),
        (
            "b4",
            json!({"includedNamespaces": ["no-such-namespace"]}),
            vec!["namespace no-such-namespace does not exist"],
        ),
        (
            "b5",
            json!({"snapshotVolumes": true, "includedNamespaces": ["a**"], "includedResources": ["pods"],
                "includedClusterScopedResources": ["nodes"]}),
            vec!["snapshotVolumes", "a**", "mixed"],
        ),
    ] {
        ark.backup(name, spec).await;
        let refused = ark.ended(name, BackupPhase::FailedValidation).await;
        for word in words {
            assert!(
                Ark::reason(&refused).contains(word),
                "{name}: {}",
                Ark::reason(&refused)
            );
        }
        assert!(
            !ark.bucket().join(layout::backup_dir(name)).exists(),
            "{name} wrote something"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_waits_for_a_location_that_is_as_new_as_itself() {
    let mut ark = Ark::new().await;
    ark.kill_operator();
    let spec = json!({"provider": "local", "default": true, "objectStorage": {"bucket": "bucket"}});
    ark.location("default", spec).await;
    ark.backup("b", json!({})).await;
    ark.start_operator();
    ark.ended("b", BackupPhase::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_missing_namespace_of_several_is_an_error_and_the_rest_is_taken() {
    let ark = Ark::with_location().await;
    ark.backup(
        "b",
        json!({"includedNamespaces": [ark.shop, "no-such-namespace"]}),
    )
    .await;
    ark.ended("b", BackupPhase::PartiallyFailed).await;
    let results = ark.results("b");
    assert!(results.errors.namespaces["no-such-namespace"][0].contains("does not exist"));
    assert!(ark.items("b").iter().any(|path| path.contains(&ark.shop)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_volume_that_cannot_be_taken_has_a_reason() {
    let ark = Ark::with_location().await;
    let (node, bare) = (ark.node("n").await, "node-without-agent");
    let named = |volumes: &str| json!({"backup.ark.heptio.com/backup-volumes": volumes});
    let scratch = json!([{"name": "v", "emptyDir": {}}]);
    ark.pod("typo", &node, named("vv"), scratch.clone()).await;
    ark.pod("bare", bare, named("v"), scratch.clone()).await;
    let pending = ark.pod("pending", &node, named("v"), scratch.clone()).await;
    ark.set_pod_status(&pending, json!({"phase": "Pending"}))
        .await;
    ark.pod(
        "host",
        &node,
        named("v"),
        json!([{"name": "v", "hostPath": {"path": "/x"}}]),
    )
    .await;
    let mut hooked = named("v");
    hooked["pre.hook.backup.velero.io/command"] = "sync".into();
    ark.pod("hooked", &node, hooked, scratch.clone()).await;
    let unbound = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "nothing"}}]);
    ark.pod("unbound", &node, named("v"), unbound).await;

    ark.backup("b", json!({})).await;
    let done = ark.ended("b", BackupPhase::PartiallyFailed).await;
    let rows = ark.rows("b");
    for (pod, volume, reason) in [
        ("typo", "vv", VolumeReason::NoSuchVolume),
        ("bare", "v", VolumeReason::NoAgentOnNode),
        ("pending", "v", VolumeReason::PodNotRunning),
        ("host", "v", VolumeReason::HostPath),
        ("hooked", "v", VolumeReason::HooksUnsupported),
    ] {
        let row = row(&rows, pod, volume);
        assert_eq!(
            (row.class, row.reason),
            (VolumeClass::Failed, reason),
            "{pod}"
        );
    }
    // A claim that does not exist holds nothing that could be lost.
    let unbound = row(&rows, "unbound", "v");
    assert_eq!(
        (unbound.class, unbound.reason),
        (VolumeClass::NotData, VolumeReason::ClaimNotBound)
    );
    assert_eq!(done.status.as_ref().unwrap().volumes.unwrap().failed, 5);
    assert_eq!(ark.results("b").errors.namespaces[&ark.shop].len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_on_one_claim_are_one_transfer_and_two_rows() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    ark.bound_claim("shared").await;
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "shared"}}]);
    let named = json!({"backup.velero.io/backup-volumes": "data"});
    ark.pod("one", &node, named.clone(), volumes.clone()).await;
    ark.pod("two", &node, named, volumes).await;
    ark.backup("b", json!({})).await;
    let objects = ark.volume_objects("b", 1).await;
    ark.complete(&objects[0]).await;
    ark.ended("b", BackupPhase::Completed).await;
    assert_eq!(ark.volume_objects("b", 1).await.len(), 1);
    let rows = ark.rows("b");
    assert_eq!(row(&rows, "one", "data").reason, VolumeReason::Completed);
    let second = row(&rows, "two", "data");
    assert_eq!(
        (second.class, second.reason),
        (VolumeClass::Taken, VolumeReason::TakenThroughOtherPod)
    );
    let spec = &objects[0].spec;
    assert_eq!(spec.snapshot_path, format!("/{}/shared", ark.shop));
    assert_eq!(
        spec.claim.as_ref().unwrap().volume_name,
        Some(format!("shared-{}", ark.namespace))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_takes_too_long_is_cancelled_and_says_so() {
    let ark = Ark::with_location().await;
    let node = ark.node("n").await;
    let named = json!({"backup.ark.heptio.com/backup-volumes": "v"});
    ark.pod("web", &node, named, json!([{"name": "v", "emptyDir": {}}]))
        .await;
    // Work is measured from its start, and waiting by itself.
    for (name, spec, status, word) in [
        (
            "work",
            json!({"itemOperationTimeout": "1s"}),
            json!({"phase": "InProgress", "startTimestamp": "2026-01-01T00:00:00Z"}),
            "did not end it",
        ),
        (
            "queue",
            json!({"itemOperationTimeout": "1ms", "volumeQueueTimeout": "1s"}),
            json!({"phase": "Accepted"}),
            "did not begin with it",
        ),
    ] {
        ark.backup(name, spec).await;
        let object = ark.volume_objects(name, 1).await.remove(0).name_any();
        let api = ark.api::<PodVolumeBackup>();
        let say = async |status: serde_json::Value| {
            let patch = Patch::Merge(json!({"status": status}));
            let params = PatchParams::default();
            api.patch_status(&object, &params, &patch).await.unwrap();
        };
        say(status).await;
        until(&format!("the cancel; {}", ark.tail()), async || {
            api.get(&object).await.unwrap().spec.cancel.then_some(())
        })
        .await;
        say(json!({"phase": "Canceled"})).await;
        ark.ended(name, BackupPhase::PartiallyFailed).await;
        let rows = ark.rows(name);
        let row = row(&rows, "web", "v");
        assert_eq!(row.reason, VolumeReason::Timeout, "{name}");
        assert!(row.message.as_ref().unwrap().contains(word), "{row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_backup_is_never_executed() {
    let ark = Ark::with_location().await;
    let spec = serde_json::from_value(json!({"includedNamespaces": [ark.shop]})).unwrap();
    let mut imported = Backup::new("imported", spec);
    imported.spec.origin = Some(Origin::default());
    ark.create(imported).await;
    // A later backup is done while the imported one is left alone.
    ark.backup("own", json!({})).await;
    ark.ended("own", BackupPhase::Completed).await;
    let left = ark.api::<Backup>().get("imported").await.unwrap();
    assert_eq!(left.status, None);
    assert!(!ark.bucket().join(layout::backup_dir("imported")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_without_arks_own_namespace_and_with_a_broken_api() {
    let plane = tokio::task::spawn_blocking(plane).await.unwrap();
    let mut ark = Ark::idle(&plane).await;
    ark.start_operator();
    ark.make_location().await;
    ark.secret("precious", "key", "value").await;
    ark.backup("whole", json!({"includedNamespaces": ["*"]}))
        .await;
    ark.ended("whole", BackupPhase::Completed).await;
    let items = ark.items("whole");
    assert!(items.iter().any(|path| path.contains("/kube-system/")));
    assert!(
        items
            .iter()
            .any(|path| path.starts_with("resources/customresourcedefinitions."))
    );
    assert!(
        !items.iter().any(|path| path.contains("precious")),
        "Ark's own Secrets were taken"
    );
    let own = &ark.results("whole").warnings.namespaces[&ark.namespace];
    assert!(own[0].contains("Ark's own namespace"));
    ark.backup("own", json!({"includedNamespaces": [ark.namespace]}))
        .await;
    ark.ended("own", BackupPhase::Completed).await;
    assert!(
        ark.items("own")
            .iter()
            .any(|path| path.contains("precious"))
    );

    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.broken.example.org"},
        "spec": {"group": "broken.example.org", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"name": "nobody", "namespace": "default"}},
    });
    let mut apply = plane.kubectl().unwrap();
    xtask::exec::output_with_input(apply.args(["apply", "-f", "-"]), &service.to_string()).unwrap();
    let broken = until("a backup that notices the broken API", async || {
        let name = format!("b-{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_millis());
        ark.backup(&name, json!({})).await;
        let api = ark.api::<Backup>();
        let done = until("its end", async || {
            let found = api.get(&name).await.unwrap();
            found
                .status
                .as_ref()
                .and_then(|s| s.phase)
                .filter(|p| p.is_terminal())
                .map(|_| found)
        })
        .await;
        (done.status.as_ref().unwrap().phase == Some(BackupPhase::PartiallyFailed)).then_some(name)
    })
    .await;
    let errors = ark.results(&broken).errors;
    assert!(
        errors.cluster[0].contains("broken.example.org"),
        "{errors:?}"
    );
    assert!(
        ark.items(&broken)
            .iter()
            .any(|path| path.contains(&ark.shop))
    );

    // Whoever asks for other things only is not bothered.
    ark.backup(
        "some",
        json!({"includedResources": ["configmaps", "secrets"]}),
    )
    .await;
    ark.ended("some", BackupPhase::Completed).await;
    let kept: Secret = ark.api::<Secret>().get("precious").await.unwrap();
    assert!(kept.data.is_some());
}
