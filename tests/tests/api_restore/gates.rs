//! Gates: admitted wherever their pod was, and a restore that ends only when they open.

use ark_api::restore::RestorePhase;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::world::{World, pod, taken};

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_passes_limit_ranges_quotas_and_the_restricted_level() {
    let world = World::start().await;
    let app = world.app.clone();
    let level = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    world
        .make("namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app, "labels": level}}))
        .await;
    world
        .make(
            "limitranges",
            json!({"apiVersion": "v1", "kind": "LimitRange",
            "metadata": {"name": "l", "namespace": app}, "spec": {"limits": [{"type": "Container",
            "min": {"cpu": "50m", "memory": "32Mi"}, "max": {"cpu": "1", "memory": "256Mi"},
            "maxLimitRequestRatio": {"cpu": "4"}}]}}),
        )
        .await;
    world
        .make(
            "resourcequotas",
            json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": app}, "spec": {"hard": {"limits.cpu": "1",
            "limits.memory": "512Mi", "requests.cpu": "1", "requests.memory": "512Mi",
            "requests.ephemeral-storage": "1Gi", "limits.ephemeral-storage": "1Gi"}}}),
        )
        .await;
    world
        .until(
            "figures of the quota, without which no pod is admitted",
            async |w| {
                let quota = w.get("resourcequotas", Some(&w.app), "q").await?;
                quota.pointer("/status/hard").map(|_| ())
            },
        )
        .await;
    let mut strict = pod(&app, "web", &[("tmp", "")]);
    strict["spec"]["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"}});
    let amounts = json!({"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "10Mi"});
    strict["spec"]["containers"][0]["resources"] = json!({"requests": amounts, "limits": amounts});
    strict["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    world
        .stored_backup("b", &[strict], json!([taken(&app, "web", "tmp", None)]))
        .await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("web", &world.node).await;
    let fill = world.fills(1).await.remove(0);
    world
        .end(
            &fill,
            ark_api::pod_volume_backup::VolumePhase::Completed,
            "",
        )
        .await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    let made = world.get("pods", Some(&app), "web").await.unwrap();
    assert_eq!(made["status"]["qosClass"], "Guaranteed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_cannot_start_is_no_success() {
    let world = World::start().await;
    let app = world.app.clone();
    world
        .stored_backup(
            "b",
            &[pod(&app, "web", &[("tmp", "")])],
            json!([taken(&app, "web", "tmp", None)]),
        )
        .await;
    world
        .restore(
            "r",
            json!({"backupName": "b", "itemOperationTimeout": "4s", "volumeBindTimeout": "1m",
                "volumeQueueTimeout": "1m"}),
        )
        .await;
    world.schedule("web", &world.node).await;
    let fill = world.fills(1).await.remove(0);
    world
        .gate_status(
            "web",
            json!({"waiting": {"reason": "RunContainerError", "message": "no such cgroup"}}),
        )
        .await;
    let patch = json!({"status": {"phase": "Completed"}});
    world
        .api::<ark_api::PodVolumeRestore>()
        .patch_status(
            fill.metadata.name.as_deref().unwrap(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
        .unwrap();
    let (phase, status) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    let why = status.failure_reason.unwrap();
    assert!(why.contains("no such cgroup"), "{why}");
}
