//! The gate of a restored pod, and how its controller is held back.

use ark_api::{annotation, naming};
use serde_json::{Value, json};

use crate::apply::transform::map_at;

/// User the gate runs as: nobody in particular, so that every pod security standard admits it.
const GATE_USER: i64 = 65532;

/// Puts the gate into `pod`: it waits for `volumes`, at most `deadline_seconds`.
pub(crate) fn insert(pod: &mut Value, volumes: &[String], image: &str, deadline_seconds: u64) {
    let container = json!({
        "name": naming::GATE_CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "/ark-restore-wait",
            "--volumes", volumes.join(","),
            "--deadline-seconds", deadline_seconds.to_string(),
            "--dir", naming::GATE_MOUNT,
        ],
        "resources": {
            "requests": { "cpu": "10m", "memory": "16Mi" },
            "limits": { "cpu": "100m", "memory": "32Mi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": GATE_USER,
            "runAsNonRoot": true,
            "runAsUser": GATE_USER,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            { "name": naming::GATE_VOLUME, "mountPath": naming::GATE_MOUNT, "readOnly": true }
        ],
    });
    let volume = json!({ "name": naming::GATE_VOLUME, "emptyDir": { "sizeLimit": "1Mi" } });
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for (key, at_front, item) in [
        ("initContainers", true, container),
        ("volumes", false, volume),
    ] {
        let list = spec.entry(key).or_insert_with(|| json!([]));
        if !list.is_array() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut() {
            let at = if at_front { 0 } else { list.len() };
            list.insert(at, item);
        }
    }
}

/// How a controller was held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It runs nothing until somebody gives it this number of replicas again.
    NoReplicas(i64),
    /// It is suspended.
    Suspended,
    /// It ran nothing anyway.
    Idle,
    /// There is no way to apply it without pods being made.
    Impossible,
}

/// Changes a controller so that it makes no pods.
pub(crate) fn hold(resource: &str, object: &mut Value) -> Hold {
    if matches!(resource, "jobs.batch" | "cronjobs.batch") {
        if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
            return Hold::Idle;
        }
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
            return Hold::Impossible;
        };
        spec.insert("suspend".into(), json!(true));
        return Hold::Suspended;
    }
    match object.pointer("/spec/replicas").and_then(Value::as_i64) {
        Some(0) => Hold::Idle,
        Some(replicas) => {
            if let Some(slot) = object.pointer_mut("/spec/replicas") {
                *slot = json!(0);
            }
            map_at(object, "annotations").insert(
                annotation::WANTED_REPLICAS.into(),
                json!(replicas.to_string()),
            );
            Hold::NoReplicas(replicas)
        }
        None => Hold::Impossible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_first_and_admitted_everywhere() {
        let mut pod = json!({"spec": {"initContainers": [{"name": "first"}], "containers": [{}],
            "volumes": [{"name": "data"}]}});
        insert(&mut pod, &["data".into(), "logs".into()], "ark-agent:1", 60);
        let gate = &pod["spec"]["initContainers"][0];
        assert_eq!(gate["name"], "ark-restore-wait");
        assert_eq!(
            gate["command"],
            json!([
                "/ark-restore-wait",
                "--volumes",
                "data,logs",
                "--deadline-seconds",
                "60",
                "--dir",
                "/ark-restore-gate"
            ])
        );
        assert_eq!(gate["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            gate["securityContext"]["capabilities"],
            json!({"drop": ["ALL"]})
        );
        assert_eq!(pod["spec"]["initContainers"][1]["name"], "first");
        assert_eq!(pod["spec"]["volumes"][1]["name"], "ark-restore-gate");
        // It mounts nothing of the application.
        assert_eq!(gate["volumeMounts"].as_array().unwrap().len(), 1);

        let mut bare = json!({"spec": {"containers": [{}]}});
        insert(&mut bare, &["v".into()], "i", 1);
        assert_eq!(bare["spec"]["initContainers"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn controllers_are_held_without_pods() {
        for (resource, spec, wanted, after) in [
            (
                "deployments.apps",
                json!({"replicas": 3}),
                Hold::NoReplicas(3),
                json!({"replicas": 0}),
            ),
            (
                "statefulsets.apps",
                json!({"replicas": 0}),
                Hold::Idle,
                json!({"replicas": 0}),
            ),
            (
                "databases.example.org",
                json!({"replicas": 2}),
                Hold::NoReplicas(2),
                json!({"replicas": 0}),
            ),
            (
                "jobs.batch",
                json!({}),
                Hold::Suspended,
                json!({"suspend": true}),
            ),
            (
                "cronjobs.batch",
                json!({"suspend": true}),
                Hold::Idle,
                json!({"suspend": true}),
            ),
            ("daemonsets.apps", json!({}), Hold::Impossible, json!({})),
            (
                "databases.example.org",
                json!({"size": 2}),
                Hold::Impossible,
                json!({"size": 2}),
            ),
        ] {
            let mut object = json!({"metadata": {"name": "x"}, "spec": spec});
            assert_eq!(hold(resource, &mut object), wanted, "{resource}");
            assert_eq!(object["spec"], after);
            if let Hold::NoReplicas(n) = wanted {
                assert_eq!(
                    object["metadata"]["annotations"][annotation::WANTED_REPLICAS],
                    n.to_string()
                );
            }
        }
    }
}
