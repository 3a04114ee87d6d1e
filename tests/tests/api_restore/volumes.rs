//! Volumes that are shared, that fail, and that were filled before.

use ark_api::annotation;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::restore::RestorePhase;
use ark_api::results::ItemAction;
use serde_json::{Value, json};

use crate::world::{World, claim, gate, kubectl, pod, taken};

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_agents_and_nodes_without_agent_are_rows() {
    let world = World::start().await;
    let app = world.app.clone();
    let pods = ["good", "failed", "lonely"].map(|name| pod(&app, name, &[("v", "")]));
    let rows: Vec<Value> = ["good", "failed", "lonely"]
        .map(|name| taken(&app, name, "v", None))
        .to_vec();
    world.stored_backup("b", &pods, json!(rows)).await;
    world
        .make(
            "nodes",
            json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("no-agent-{app}")}}),
        )
        .await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("good", &world.node).await;
    world.schedule("failed", &world.node).await;
    world.schedule("lonely", &format!("no-agent-{app}")).await;
    for fill in world.fills(2).await {
        let good = fill.spec.pod.name == "good";
        let phase = if good {
            VolumePhase::Completed
        } else {
            VolumePhase::Failed
        };
        world.end(&fill, phase, "the snapshot is gone").await;
    }
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::PartiallyFailed);
    let fill = |name: &str| {
        world.row(
            "r",
            "podvolumerestores.ark.heptio.com",
            &format!("{name}/v"),
        )
    };
    assert_eq!(fill("good").action, ItemAction::Created);
    assert!(fill("failed").message.contains("the snapshot is gone"));
    assert!(fill("lonely").message.contains("NoAgentOnNode"));
    let lonely = world.get("pods", Some(&app), "lonely").await.unwrap();
    let told = lonely["metadata"]["annotations"][annotation::GAVE_UP].as_str();
    assert!(told.unwrap().contains("has no agent"), "{told:?}");
    assert_eq!(world.fills(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_on_one_claim_share_one_restore() {
    let world = World::start().await;
    let app = world.app.clone();
    let objects = [
        claim(&app, "data", "ReadWriteOnce"),
        pod(&app, "a", &[("data", "data")]),
        pod(&app, "b", &[("files", "data"), ("own", "")]),
    ];
    let rows = json!([
        taken(&app, "a", "data", Some("data")),
        {"namespace": app, "pod": "b", "volume": "files", "claim": "data", "class": "taken",
         "method": "files", "reason": "TakenThroughOtherPod"},
    ]);
    world.stored_backup("b", &objects, rows).await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("a", &world.node).await;
    world.schedule("b", &world.node).await;
    let second = world.get("pods", Some(&app), "b").await.unwrap();
    assert_eq!(
        gate(&second).as_deref(),
        Some("data"),
        "the name at the first pod"
    );
    world.provision("data").await;
    let fill = world.fills(1).await.remove(0);
    assert_eq!(fill.spec.pod.name, "a");
    let gates: Vec<_> = fill.spec.gates.iter().map(|pod| pod.uid.as_str()).collect();
    assert_eq!(gates, [second["metadata"]["uid"].as_str().unwrap()]);
    world.end(&fill, VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    assert_eq!(world.fills(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_on_several_nodes_follow_the_first() {
    let world = World::start().await;
    let app = world.app.clone();
    let objects = [
        claim(&app, "data", "ReadWriteMany"),
        pod(&app, "a", &[("data", "data")]),
        pod(&app, "b", &[("data", "data")]),
    ];
    world
        .stored_backup(
            "b",
            &objects,
            json!([taken(&app, "b", "data", Some("data"))]),
        )
        .await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.provision("data").await;
    world.schedule("a", &world.node).await;
    let fill = world.fills(1).await.remove(0);
    assert!(fill.spec.gates.is_empty());
    assert!(
        world.get("pods", Some(&app), "b").await.is_none(),
        "not before the volume is full"
    );
    world.end(&fill, VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    let second = world.get("pods", Some(&app), "b").await.unwrap();
    assert!(gate(&second).is_none(), "the volume is full already");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_back_is_not_put_back_over_newer_data() {
    let mut world = World::start().await;
    let app = world.app.clone();
    let objects = [
        claim(&app, "data", "ReadWriteOnce"),
        pod(&app, "first", &[("data", "data")]),
        pod(&app, "second", &[("tmp", "")]),
    ];
    let rows = json!([
        taken(&app, "first", "data", Some("data")),
        taken(&app, "second", "tmp", None)
    ]);
    world.stored_backup("b", &objects, rows).await;
    world.restore("r", json!({"backupName": "b"})).await;
    world.schedule("first", &world.node).await;
    world.schedule("second", &world.node).await;
    world.provision("data").await;
    let fills = world.fills(2).await;
    let (data, tmp): (Vec<_>, Vec<_>) = fills.into_iter().partition(|f| f.spec.volume == "data");
    world.end(&data[0], VolumePhase::Completed, "").await;
    world
        .until("the row of the volume", async |w| {
            let done = w.status("r").await.volumes?.completed;
            (done == 1).then_some(())
        })
        .await;
    // The operator dies, and the first pod, long at work, is replaced by nobody.
    world.kill_operator();
    kubectl(&[
        "delete",
        "pod",
        "-n",
        &app,
        "first",
        "--grace-period=0",
        "--force",
    ]);
    world.start_operator();
    world.schedule("first", &world.node).await;
    world.end(&tmp[0], VolumePhase::Completed, "").await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    assert!(gate(&world.get("pods", Some(&app), "first").await.unwrap()).is_none());
    assert_eq!(world.fills(2).await.len(), 2, "no third one");
}
