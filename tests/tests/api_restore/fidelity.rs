//! What comes back is what there was: bytes, numbers, fields, owners of fields. Backups here are
//! real.

use std::io::Write as _;
use std::process::Stdio;

use ark_api::backup::BackupPhase;
use ark_api::layout;
use ark_api::restore::RestorePhase;
use ark_api::results::ItemAction;
use ark_tests::ark::PLANE;
use serde_json::{Value, json};

use crate::world::{World, kubectl};

/// Runs kubectl with a manifest.
fn kubectl_with(args: &[&str], manifest: &str) -> Result<(), String> {
    let mut child = PLANE
        .kubectl()
        .unwrap()
        .args(args)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(manifest.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn create(manifest: &str) {
    kubectl_with(&["create"], manifest).unwrap();
}

impl World {
    async fn make_app(&self) {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.app}});
        self.make("namespaces", namespace).await;
    }

    /// Takes a backup of the application.
    async fn take(&self, backup: &str) {
        self.backup(backup, json!({"includedNamespaces": [self.app]}))
            .await;
        self.ended(backup, BackupPhase::Completed).await;
    }

    /// Takes a backup of the application and deletes it.
    async fn take_and_lose(&self, backup: &str) {
        self.take(backup).await;
        kubectl(&["delete", "namespace", &self.app, "--timeout=60s"]);
    }

    async fn bring_back(&self, restore: &str, backup: &str) -> RestorePhase {
        self.restore(restore, json!({"backupName": backup})).await;
        self.finished(restore).await.0
    }

    /// Makes a definition of kind Gizmo in a group of this application's; returns the resource.
    async fn define(&self, version: &str, schema: &Value) -> String {
        let group = format!("{}.example.org", self.app);
        let resource = format!("gizmos.{group}");
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": resource},
            "spec": {"group": group, "scope": "Namespaced",
                "names": {"plural": "gizmos", "singular": "gizmo", "kind": "Gizmo", "listKind": "GizmoList"},
                "versions": [{"name": version, "served": true, "storage": true,
                              "schema": {"openAPIV3Schema": schema}}]}});
        create(&definition.to_string());
        kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            &format!("crd/{resource}"),
        ]);
        self.until("the new kind's API", async |_| {
            let answer = PLANE
                .kubectl()
                .unwrap()
                .args(["get", "--raw", &format!("/apis/{group}/{version}/gizmos")])
                .output()
                .unwrap();
            answer.status.success().then_some(())
        })
        .await;
        resource
    }

    fn raw_gizmo(&self, version: &str) -> String {
        let app = &self.app;
        let path = format!("/apis/{app}.example.org/{version}/namespaces/{app}/gizmos/g");
        kubectl(&["get", "--raw", &path])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_know_their_revisions_again() {
    let world = World::start().await;
    world.make_app().await;
    let app = world.app.clone();
    let spec = |label: &str| {
        json!({"selector": {"matchLabels": {"app": label}},
            "template": {"metadata": {"labels": {"app": label}},
                "spec": {"containers": [{"name": "c", "image": "x",
                    "command": ["sh", "-c", "echo '<a>' && sleep 9 > /dev/null # \u{2028}\u{2029}"]}]}}})
    };
    let mut stateful = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "special", "namespace": app}, "spec": spec("stateful")});
    stateful["spec"]["serviceName"] = json!("none");
    let daemons = json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "special", "namespace": app}, "spec": spec("daemon")});
    create(&stateful.to_string());
    create(&daemons.to_string());
    let synced = async |w: &World, resource: &str| {
        let object = w.get(resource, Some(&w.app), "special").await?;
        let seen = object.pointer("/status/observedGeneration")?;
        (*seen == object["metadata"]["generation"]).then_some(object)
    };
    for resource in ["statefulsets.apps", "daemonsets.apps"] {
        world
            .until(resource, async |w| synced(w, resource).await)
            .await;
    }
    let revisions = || kubectl(&["get", "controllerrevisions", "-n", &app, "-o", "name"]);
    let before = revisions();
    assert_eq!(before.lines().count(), 2, "{before}");
    world.take_and_lose("b").await;
    let phase = world.bring_back("r", "b").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    for resource in ["statefulsets.apps", "daemonsets.apps"] {
        world
            .until(&format!("{resource} in sync"), async |w| {
                synced(w, resource).await
            })
            .await;
    }
    // The pod that came back is its controller's, and no other revision was made.
    world
        .until("the pod's adoption", async |w| {
            let pod = w.get("pods", Some(&w.app), "special-0").await?;
            (pod.pointer("/metadata/ownerReferences/0/kind")? == "StatefulSet").then_some(())
        })
        .await;
    assert_eq!(revisions(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_unknown_values_travel_as_they_came() {
    let world = World::start().await;
    world.make_app().await;
    let app = world.app.clone();
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    world.define("v1", &open).await;
    let spec = r#"{"a":9709.299823785817,"b":0.09656667700587851,"c":961.7865333626133,"d":90.62593902113605,"e":9.939669614185187,"f":1e300,"g":-0.5,"h":9223372036854775807,"i":18446744073709551615,"j":"\u003c\u2028"}"#;
    create(&format!(
        r#"{{"apiVersion":"{app}.example.org/v1","kind":"Gizmo","metadata":{{"name":"g","namespace":"{app}"}},"spec":{spec}}}"#
    ));
    let part = |text: &str| {
        let (_, tail) = text.split_once("\"spec\":").unwrap();
        tail.split_once('}').unwrap().0.to_owned()
    };
    let before = part(&world.raw_gizmo("v1"));
    assert!(before.contains("9709.299823785817"), "{before}");
    world.take_and_lose("b").await;
    assert_eq!(world.bring_back("r", "b").await, RestorePhase::Completed);
    assert_eq!(part(&world.raw_gizmo("v1")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_the_cluster_does_not_know_are_an_error_of_their_object() {
    let world = World::start().await;
    world.make_app().await;
    let app = world.app.clone();
    let schema = |more: Value| {
        let mut schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
            // There is no subresource: this is data.
            "status": {"type": "object", "properties": {"token": {"type": "string"}}}}});
        for (key, value) in more.as_object().unwrap() {
            schema["properties"]["spec"]["properties"][key] = value.clone();
        }
        schema
    };
    let resource = world
        .define("v1", &schema(json!({"backupRef": {"type": "string"}})))
        .await;
    let gizmo = json!({"apiVersion": format!("{app}.example.org/v1"), "kind": "Gizmo",
        "metadata": {"name": "g", "namespace": app},
        "spec": {"size": 3, "backupRef": "keep-me"}, "status": {"token": "t"}});
    create(&gizmo.to_string());
    world.take_and_lose("b").await;
    kubectl(&["delete", "crd", &resource, "--timeout=60s"]);
    world.define("v1", &schema(json!({}))).await;

    assert_eq!(
        world.bring_back("r", "b").await,
        RestorePhase::PartiallyFailed
    );
    let errors = world.outcome("r").errors.namespaces.remove(&app).unwrap();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains(&format!("{resource} {app}/g")) && errors[0].contains("spec.backupRef"),
        "{errors:?}"
    );
    assert!(!errors[0].contains("keep-me"));
    assert_eq!(world.action("r", &resource, "g"), ItemAction::Created);
    let restored: Value = serde_json::from_str(&world.raw_gizmo("v1")).unwrap();
    assert_eq!(restored["spec"], json!({"size": 3}));
    assert_eq!(restored["status"], json!({"token": "t"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_applied_an_object_still_owns_its_fields() {
    let world = World::start().await;
    world.make_app().await;
    let app = world.app.clone();
    let map = |data: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "c", "namespace": app}, "data": data})
        .to_string()
    };
    let apply = ["apply", "--server-side", "--field-manager=flux"];
    kubectl_with(&apply, &map(json!({"a": "1", "b": "2"}))).unwrap();
    create(
        &json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "plain", "namespace": app}, "data": {"a": "1"}})
        .to_string(),
    );
    world.take_and_lose("b").await;
    assert_eq!(world.bring_back("r", "b").await, RestorePhase::Completed);
    // No conflict, and what is taken out of the manifest goes.
    kubectl_with(&apply, &map(json!({"a": "9"}))).unwrap();
    let now = world.get("configmaps", Some(&app), "c").await.unwrap();
    assert_eq!(now["data"], json!({"a": "9"}));
    let plain = world.get("configmaps", Some(&app), "plain").await.unwrap();
    let managers = plain["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers[0]["manager"], "kubectl-create", "{managers:?}");
    assert_eq!(managers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_takes_no_rights_from_the_original() {
    let world = World::start().await;
    world.make_app().await;
    let app = world.app.clone();
    let clone = format!("{app}-clone");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "app", "namespace": app}});
    world.make("serviceaccounts", account).await;
    create(
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": app}, "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]})
        .to_string(),
    );
    let subject =
        |namespace: &str| json!({"kind": "ServiceAccount", "name": "app", "namespace": namespace});
    create(
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": app}, "subjects": [subject(&app)],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": app}})
        .to_string(),
    );
    world.take("b").await;
    world
        .restore(
            "r",
            json!({"backupName": "b", "existingResourcePolicy": "update",
            "namespaceMapping": {app.clone(): clone}}),
        )
        .await;
    let (phase, _) = world.finished("r").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    let binding = world
        .get("clusterrolebindings.rbac.authorization.k8s.io", None, &app)
        .await
        .unwrap();
    assert_eq!(binding["subjects"], json!([subject(&app), subject(&clone)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_a_user_made_come_back() {
    let world = World::start().await;
    world.make_app().await;
    let app = world.app.clone();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "app", "namespace": app}, "secrets": [{"name": "app-token-manual"}]});
    create(&account.to_string());
    // Added to the account that every namespace has.
    kubectl(&[
        "patch",
        "serviceaccount",
        "default",
        "-n",
        &app,
        "--type=merge",
        "-p",
        r#"{"automountServiceAccountToken":false,"imagePullSecrets":[{"name":"pull"}],"metadata":{"annotations":{"note":"mine"}}}"#,
    ]);
    for name in ["app-token-manual", "app-token-vwxyz"] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": name, "namespace": app,
                "annotations": {"kubernetes.io/service-account.name": "app"}}});
        create(&secret.to_string());
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": app},
        "spec": {"serviceAccountName": "app", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "x", "volumeMounts": [
                {"name": "tok", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}],
            "volumes": [{"name": "tok", "secret": {"secretName": "app-token-manual"}}]}});
    create(&pod.to_string());
    world.take_and_lose("b").await;
    let phase = world.bring_back("r", "b").await;
    assert_eq!(phase, RestorePhase::Completed, "{:#?}", world.outcome("r"));
    for name in ["app-token-manual", "app-token-vwxyz"] {
        world
            .until("a token of the new account", async |w| {
                let secret = w.get("secrets", Some(&w.app), name).await?;
                secret.pointer("/data/token").map(|_| ())
            })
            .await;
    }
    let account = world
        .get("serviceaccounts", Some(&app), "app")
        .await
        .unwrap();
    assert_eq!(account["secrets"], json!([{"name": "app-token-manual"}]));
    let default = world
        .get("serviceaccounts", Some(&app), "default")
        .await
        .unwrap();
    assert_eq!(default["automountServiceAccountToken"], false);
    assert_eq!(default["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(default["metadata"]["annotations"]["note"], "mine");
    let pod = world.get("pods", Some(&app), "p").await.unwrap();
    let mounts = &pod["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(mounts.as_array().unwrap().len(), 1, "{mounts}");
    assert_eq!(
        pod["spec"]["volumes"][0]["secret"]["secretName"],
        "app-token-manual"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_port_that_is_taken_is_told_and_never_fails_a_service() {
    let world = World::start().await;
    world.make_app().await;
    let app = world.app.clone();
    let clone = format!("{app}-clone");
    create(
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "np", "namespace": app},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30777}]}})
        .to_string(),
    );
    world.take("b").await;
    // Into the namespace as it is: the Service is kept.
    assert_eq!(world.bring_back("same", "b").await, RestorePhase::Completed);
    assert_eq!(world.action("same", "services", "np"), ItemAction::Kept);
    let copy = |keep: bool| json!({"backupName": "b", "preserveNodePorts": keep, "namespaceMapping": {app.clone(): clone}});
    world.restore("keep", copy(true)).await;
    assert_eq!(
        world.finished("keep").await.0,
        RestorePhase::PartiallyFailed
    );
    assert_eq!(world.action("keep", "services", "np"), ItemAction::Failed);
    world.restore("copy", copy(false)).await;
    let (phase, _) = world.finished("copy").await;
    assert_eq!(
        phase,
        RestorePhase::Completed,
        "{:#?}",
        world.outcome("copy")
    );
    let row = world.row("copy", "services", "np");
    assert!(row.message.contains("node port 30777"), "{}", row.message);
    let service = world.get("services", Some(&clone), "np").await.unwrap();
    assert_ne!(service["spec"]["ports"][0]["nodePort"], 30777);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_cluster_has_at_the_location_is_refused() {
    let world = World::start().await;
    world.make_app().await;
    world.take("b").await;
    world.write(
        &layout::restore_claim("r"),
        br#"{"cluster":"another","restoreUid":"u"}"#,
    );
    assert_eq!(
        world.bring_back("r", "b").await,
        RestorePhase::FailedValidation
    );
    let why = world.status("r").await.validation_errors.remove(0);
    assert!(
        why.contains("another cluster") && why.contains("choose another name"),
        "{why}"
    );
    assert!(!world.stored(&layout::restore_results("r")).exists());
}
