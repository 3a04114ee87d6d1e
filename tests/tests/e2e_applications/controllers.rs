//! Controllers after a restore: synced, owning their pods, able to roll out and back.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask::wait::{self, Look};

use crate::trial::{
    LIMIT, claim, claim_volume, container, deployment, items, start, start_with, template,
};

/// Characters that Go's encoder escapes in JSON, and that a shell script is full of.
const ODD: &str = "echo '<a> & \u{2028}' > /tmp/x && sleep 100000";

fn stateful_set(name: &str, namespace: &str) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceName": "none", "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, "data", &json!({
                "containers": [container(ODD, &[("data", "/data")])],
            })),
            "volumeClaimTemplates": [claim("data", namespace)],
        },
    });
    set["spec"]["volumeClaimTemplates"][0]["metadata"] = json!({"name": "data"});
    set
}

fn daemon_set(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, "", &json!({
                "containers": [container("true && sleep 100000 > /dev/null", &[])],
            })),
        },
    })
}

#[test]
fn controllers_whose_templates_hold_odd_characters_go_on_working() -> Result<()> {
    let trial = start("t-odd-characters")?;
    let namespace = &trial.namespace;
    let pod = json!({
        "containers": [container(ODD, &[("cache", "/cache")])],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    });
    trial.apply(&[
        stateful_set("db", namespace),
        daemon_set("log", namespace),
        deployment("web", namespace, "cache", &pod),
    ])?;
    trial.works()?;
    for pod in ["db-0", "db-1"] {
        trial.shell(
            pod,
            &format!("echo 'data of {pod} <&>' > /data/f; chmod 640 /data/f"),
        )?;
    }
    // A second revision, so that there is something to go back to.
    for controller in ["sts/db", "ds/log", "deploy/web"] {
        trial.here(&["set", "env", controller, "STEP=2"])?;
        trial.rolled_out(controller)?;
    }
    trial.works()?;
    trial.shell("deploy/web", "echo cached > /cache/f")?;

    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    trial.restore(&backup, 1, "Completed", &[])?;

    trial.works()?;
    for pod in ["db-0", "db-1"] {
        let data = trial.shell(pod, "stat -c %a /data/f; cat /data/f")?;
        ensure!(data == format!("640\ndata of {pod} <&>"), "{pod}: {data}");
    }
    ensure!(trial.shell("deploy/web", "cat /cache/f")? == "cached");
    for (app, owner, count) in [("db", "StatefulSet", 2), ("log", "DaemonSet", 1)] {
        let pods = trial.pods_of(app)?;
        ensure!(
            pods.len() == count && pods.iter().all(|(_, kind)| kind == owner),
            "{app}: {pods:?}"
        );
    }
    // It is used: rolled back to the revision before, rolled out anew, and scaled.
    for controller in ["sts/db", "ds/log", "deploy/web"] {
        trial.here(&["rollout", "undo", controller])?;
        trial.rolled_out(controller)?;
        trial.here(&["set", "env", controller, "STEP=3"])?;
        trial.rolled_out(controller)?;
    }
    trial.here(&["scale", "sts/db", "--replicas=3"])?;
    trial.works()?;
    ensure!(trial.shell("db-1", "cat /data/f")? == "data of db-1 <&>");
    trial.leave()
}

#[test]
fn a_running_job_has_one_pod_after_its_restore() -> Result<()> {
    let trial = start("t-job")?;
    let pod = json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "containers": [container("until test -f /tmp/end; do sleep 0.2; done", &[])],
    });
    trial.apply(&[json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "long", "namespace": trial.namespace},
        "spec": {"template": {"metadata": {"labels": {"app": "long"}}, "spec": pod}},
    })])?;
    trial.works()?;
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    trial.restore(&backup, 1, "Completed", &[])?;
    let pods = wait::until("the Job to run", LIMIT, || {
        let pods = trial.pods_of("long")?;
        let running = trial.get(&["job", "long"])?["status"]["ready"] == 1;
        Ok(if running {
            Look::Ready(pods)
        } else {
            Look::NotYet(format!("{pods:?}"))
        })
    })?;
    ensure!(pods.len() == 1, "{pods:?}");
    trial.shell("job/long", "touch /tmp/end")?;
    trial.here(&[
        "wait",
        "--for=condition=Complete",
        "job/long",
        "--timeout=60s",
    ])?;
    trial.leave()
}

#[test]
fn an_update_leaves_a_running_deployment_running() -> Result<()> {
    let trial = start("t-update")?;
    let pod = json!({
        "containers": [container("sleep 100000", &[("cache", "/cache")])],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    });
    let mut web = deployment("web", &trial.namespace, "cache", &pod);
    web["spec"]["replicas"] = json!(2);
    trial.apply(&[web])?;
    trial.works()?;
    let backup = trial.back_up("Completed", &[])?;
    // Any rollout since the backup: the backup's pods belong to an older ReplicaSet.
    trial.here(&["rollout", "restart", "deploy/web"])?;
    trial.rolled_out("deploy/web")?;
    let args = [
        "--existing-resource-policy",
        "update",
        "--item-operation-timeout",
        "30s",
    ];
    let name = format!("{backup}-1");
    let words = ["restore", "create", &name, "--from-backup", &backup];
    let mut ark = trial.cluster().program("ark")?;
    ark.args(words)
        .args(args)
        .args(["--wait", "--timeout", "3m"]);
    // Whatever the verdict on the old pods' volumes: what runs goes on running.
    ark.output().context("cannot start ark")?;
    trial.rolled_out("deploy/web")?;
    let web = trial.get(&["deploy", "web"])?;
    ensure!(web["spec"]["replicas"] == 2, "{}", web["spec"]);
    trial.works()?;
    trial.leave()
}

#[test]
fn a_restore_that_a_webhook_broke_succeeds_when_it_is_tried_again() -> Result<()> {
    let trial = start_with("t-webhook", &json!({"t-webhook": "closed"}))?;
    let hook = "t-webhook";
    let without_hook = || {
        trial.kubectl(&[
            "delete",
            "validatingwebhookconfiguration",
            hook,
            "--ignore-not-found",
        ])
    };
    without_hook()?;
    let pod = json!({
        "containers": [container("sleep 100000", &[("data", "/data")])],
        "volumes": [claim_volume("data")],
    });
    trial.apply(&[
        claim("data", &trial.namespace),
        deployment("web", &trial.namespace, "data", &pod),
    ])?;
    trial.works()?;
    trial.shell("deploy/web", "echo precious > /data/f")?;
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    trial.apply(&[json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": hook},
        "webhooks": [{
            "name": "t-webhook.example.org", "admissionReviewVersions": ["v1"],
            "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 1,
            "namespaceSelector": {"matchLabels": {"t-webhook": "closed"}},
            "clientConfig": {"service": {"name": "nobody", "namespace": trial.namespace, "path": "/"}},
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"], "scope": "Namespaced",
            }],
        }],
    })])?;
    let broken = trial.restore(&backup, 1, "PartiallyFailed", &[]);
    without_hook()?;
    broken?;
    trial.here(&[
        "delete",
        "pvc",
        "data",
        "--ignore-not-found",
        "--timeout=60s",
    ])?;
    trial.restore(&backup, 2, "Completed", &[])?;
    trial.works()?;
    ensure!(trial.shell("deploy/web", "cat /data/f")? == "precious");
    trial.leave()
}

#[test]
fn a_copy_beside_the_original_takes_nothing_from_it() -> Result<()> {
    let trial = start("t-original")?;
    let copy = start("t-copy")?;
    let namespace = &trial.namespace;
    let role = "t-copy-lists-nodes";
    trial.apply(&[
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "app", "namespace": namespace}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "app", "namespace": namespace}]}),
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"type": "NodePort", "selector": {"app": "web"},
                "ports": [{"port": 80, "nodePort": 30778}]}}),
    ])?;
    let backup = trial.back_up("Completed", &[])?;
    let mapping = format!("{namespace}:{}", copy.namespace);
    copy.lose()?;
    trial.restore(
        &backup,
        1,
        "Completed",
        &[
            "--namespace-mappings",
            &mapping,
            "--existing-resource-policy",
            "update",
        ],
    )?;
    let binding = trial.get(&["clusterrolebinding", role])?;
    let subjects: BTreeSet<&str> = binding["subjects"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|subject| subject["namespace"].as_str())
        .collect();
    let both = BTreeSet::from([namespace.as_str(), copy.namespace.as_str()]);
    ensure!(subjects == both, "{subjects:?}");
    let port = |list: &Value| list["spec"]["ports"][0]["nodePort"].as_i64();
    let (ours, theirs) = (
        port(&trial.get(&["service", "web"])?),
        port(&copy.get(&["service", "web"])?),
    );
    ensure!(ours == Some(30778), "{ours:?}");
    ensure!(theirs.is_some() && theirs != ours, "{theirs:?}");
    // Restored over itself, the Service is kept.
    let again = trial.restore(&backup, 2, "Completed", &[])?;
    ensure!(
        again["status"]["errors"].as_i64().unwrap_or(0) == 0,
        "{again}"
    );
    trial.kubectl(&["delete", "clusterrole,clusterrolebinding", role])?;
    copy.leave()?;
    trial.leave()
}

#[test]
fn a_token_that_the_user_made_comes_back_with_its_pod() -> Result<()> {
    let trial = start("t-token")?;
    let namespace = &trial.namespace;
    let secret = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": name, "namespace": namespace,
                "annotations": {"kubernetes.io/service-account.name": "app"}},
        })
    };
    let mounts = [("token", "/var/run/secrets/kubernetes.io/serviceaccount")];
    trial.apply(&[
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "app", "namespace": namespace},
            "secrets": [{"name": "app-token-manual"}]}),
        secret("app-token-manual"),
        secret("app-token-short"),
        json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace},
        "spec": {
            "serviceAccountName": "app", "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [container("sleep 100000", &mounts)],
            "volumes": [{"name": "token", "secret": {"secretName": "app-token-manual"}}],
        }}),
    ])?;
    trial.works()?;
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    trial.restore(&backup, 1, "Completed", &[])?;
    trial.works()?;
    let files = trial.shell("p", "ls /var/run/secrets/kubernetes.io/serviceaccount")?;
    ensure!(files.contains("token"), "{files}");
    let secrets = trial.get(&["secrets"])?;
    let names: BTreeSet<&str> = items(&secrets)
        .filter_map(|secret| secret["metadata"]["name"].as_str())
        .collect();
    ensure!(
        names == BTreeSet::from(["app-token-manual", "app-token-short"]),
        "{names:?}"
    );
    let account = trial.get(&["serviceaccount", "app"])?;
    ensure!(
        account["secrets"][0]["name"] == "app-token-manual",
        "{account}"
    );
    trial.leave()
}
