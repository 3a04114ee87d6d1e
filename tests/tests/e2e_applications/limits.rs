//! The gate in pods that quotas, limits and security levels hold tight.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::trial::{Trial, container, deployment, start, start_with};

/// Writes one line into each directory once, and waits.
const WRITE: &str = "for d in /s /e; do test -f $d/f || echo first > $d/f; done; sleep 100000";

fn resources(cpu: (&str, &str), memory: (&str, &str)) -> Value {
    json!({
        "requests": {"cpu": cpu.0, "memory": memory.0, "ephemeral-storage": "10Mi"},
        "limits": {"cpu": cpu.1, "memory": memory.1, "ephemeral-storage": "10Mi"},
    })
}

#[test]
fn the_gate_is_admitted_wherever_its_pod_was() -> Result<()> {
    let trial = start_with(
        "t-limits",
        &json!({"pod-security.kubernetes.io/enforce": "restricted"}),
    )?;
    let namespace = &trial.namespace;
    let mut main = container(WRITE, &[("scratch", "/s"), ("own", "/e")]);
    main["resources"] = resources(("100m", "200m"), ("64Mi", "64Mi"));
    main["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    let template = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}},
    }});
    let pod = json!({
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [main],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": "10Mi"}},
            {"name": "own", "ephemeral": {"volumeClaimTemplate": template}},
        ],
    });
    trial.apply(&[
        json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": namespace},
        "spec": {"hard": {
            "limits.cpu": "1", "limits.memory": "512Mi",
            "requests.cpu": "1", "requests.memory": "512Mi",
            "requests.ephemeral-storage": "1Gi", "limits.ephemeral-storage": "1Gi",
        }}}),
        json!({"apiVersion": "v1", "kind": "LimitRange",
        "metadata": {"name": "lr", "namespace": namespace},
        "spec": {"limits": [{
            "type": "Container", "min": {"cpu": "50m", "memory": "32Mi"},
            "max": {"cpu": "1", "memory": "256Mi"}, "maxLimitRequestRatio": {"cpu": "4"},
        }]}}),
        deployment("d", namespace, "scratch,own", &pod),
    ])?;
    trial.works()?;
    trial.shell("deploy/d", "echo second >> /s/f; echo second >> /e/f")?;
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    trial.restore(&backup, 1, "Completed", &[])?;
    trial.works()?;
    for file in ["/s/f", "/e/f"] {
        let text = trial.shell("deploy/d", &format!("cat {file}"))?;
        ensure!(text == "first\nsecond", "{file}: {text:?}");
    }
    trial.leave()
}

#[test]
fn a_pod_keeps_its_own_limits_and_its_quality_class_with_a_gate() -> Result<()> {
    let trial = start("t-quality")?;
    let namespace = &trial.namespace;
    let pod = |name: &str, mut spec: Value| {
        spec["terminationGracePeriodSeconds"] = json!(0);
        spec["volumes"] = json!([{"name": "e", "emptyDir": {}}]);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace,
                "annotations": {ark_api::annotation::BACKUP_VOLUMES: "e"}},
            "spec": spec,
        })
    };
    let main = container("sleep 100000", &[("e", "/e")]);
    let mut guaranteed = main.clone();
    guaranteed["resources"] = json!({
        "requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"},
    });
    let own = json!({
        "requests": {"cpu": "60m", "memory": "24Mi"}, "limits": {"cpu": "60m", "memory": "24Mi"},
    });
    trial.apply(&[
        pod("best-effort", json!({"containers": [main]})),
        pod("guaranteed", json!({"containers": [guaranteed]})),
        pod(
            "of-the-pod",
            json!({"containers": [main], "resources": own}),
        ),
    ])?;
    trial.works()?;
    let classes = |trial: &Trial| -> Result<Vec<String>> {
        let names = ["best-effort", "guaranteed", "of-the-pod"];
        names
            .iter()
            .map(|name| {
                let pod = trial.get(&["pod", name])?;
                Ok(pod["status"]["qosClass"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned())
            })
            .collect()
    };
    let before = classes(&trial)?;
    for name in ["best-effort", "guaranteed", "of-the-pod"] {
        trial.shell(name, &format!("echo {name} > /e/f"))?;
    }
    let backup = trial.back_up("Completed", &[])?;
    trial.lose()?;
    trial.restore(&backup, 1, "Completed", &[])?;
    trial.works()?;
    let after = classes(&trial)?;
    ensure!(before == after, "{before:?} became {after:?}");
    for name in ["best-effort", "guaranteed", "of-the-pod"] {
        ensure!(trial.shell(name, "cat /e/f")? == name);
    }
    trial.leave()
}
