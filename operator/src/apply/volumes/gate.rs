//! The gate of a restored pod, and how its controller is held back.

use ark_api::{annotation, naming};
use serde_json::{Value, json};

use crate::apply::transform::{list, mark, text};

/// User the gate runs as where the pod names none: nobody in particular.
const GATE_USER: i64 = 65532;

/// What a gate waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait<'a> {
    /// Names of the volumes.
    pub(crate) volumes: &'a [String],
    /// At most this long.
    pub(crate) deadline_seconds: u64,
    /// Why the pod must not start even when they are back.
    pub(crate) refuse: Option<&'a str>,
}

/// Puts the gate into `pod`. Says why that is not possible.
///
/// The gate is judged by everything the pod was admitted by: limit ranges, quotas, security levels.
/// So it asks for what one of the pod's own containers has, no more and no less, which leaves the
/// pod's quality of service and its effective requests as they are.
pub(crate) fn insert(pod: &mut Value, wait: Wait<'_>, image: &str) -> Result<(), &'static str> {
    if text(pod, "/spec/os/name") == Some("windows") {
        return Err(
            "it runs on Windows, where the gate that holds it until its volumes are back cannot run",
        );
    }
    let told = format!("{}/{}", naming::GATE_TOLD_MOUNT, naming::GATE_TOLD_FILE);
    let mut command = vec![
        "/ark-restore-wait".to_owned(),
        "--volumes".to_owned(),
        wait.volumes.join(","),
        "--deadline-seconds".to_owned(),
        wait.deadline_seconds.to_string(),
        "--dir".to_owned(),
        naming::GATE_MOUNT.to_owned(),
        "--told".to_owned(),
        told,
    ];
    if let Some(why) = wait.refuse {
        command.extend(["--refuse".to_owned(), why.to_owned()]);
    }
    let model = model(pod);
    let mut container = json!({
        "name": naming::GATE_CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": security(pod, model),
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            { "name": naming::GATE_VOLUME, "mountPath": naming::GATE_MOUNT, "readOnly": true },
            { "name": naming::GATE_TOLD_VOLUME, "mountPath": naming::GATE_TOLD_MOUNT, "readOnly": true },
        ],
    });
    let resources = resources(model);
    if resources.as_object().is_some_and(|map| !map.is_empty()) {
        container["resources"] = resources;
    }
    let files = json!({ "name": naming::GATE_VOLUME, "emptyDir": { "sizeLimit": "1Mi" } });
    let field = format!("metadata.annotations['{}']", annotation::GAVE_UP);
    let told = json!({ "name": naming::GATE_TOLD_VOLUME, "downwardAPI": { "items": [
        { "path": naming::GATE_TOLD_FILE, "fieldRef": { "fieldPath": field } },
    ]}});
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return Err("it has no spec");
    };
    for (key, at_front, items) in [
        ("initContainers", true, vec![container]),
        ("volumes", false, vec![files, told]),
    ] {
        let list = spec.entry(key).or_insert_with(|| json!([]));
        if !list.is_array() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut() {
            let at = if at_front { 0 } else { list.len() };
            list.splice(at..at, items);
        }
    }
    Ok(())
}

/// The container whose resources the gate asks for: the one with the most memory, so that the gate
/// surely starts. No limit is more than any.
fn model(pod: &Value) -> Option<&Value> {
    let memory = |container: &&Value| {
        text(container, "/resources/limits/memory").map_or(f64::INFINITY, quantity)
    };
    list(pod, "/spec/containers")
        .iter()
        .max_by(|a, b| memory(a).total_cmp(&memory(b)))
}

/// A quantity as Kubernetes writes it (`64Mi`, `1.5G`, `1e9`, `500m`), well enough to compare; what
/// cannot be read is nothing.
fn quantity(text: &str) -> f64 {
    const SUFFIXES: &[(&str, f64)] = &[
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("m", 0.001),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("", 1.0),
    ];
    SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| {
            let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
            Some(number * factor)
        })
        .unwrap_or(0.0)
}

/// Requests and limits of processor, memory and local storage, which limit ranges and quotas judge.
/// Devices and huge pages are nothing a gate could use.
fn resources(model: Option<&Value>) -> Value {
    let mut resources = serde_json::Map::new();
    for key in ["requests", "limits"] {
        let map = model.and_then(|model| model.pointer(&format!("/resources/{key}"))?.as_object());
        let own: serde_json::Map<String, Value> = map
            .into_iter()
            .flatten()
            .filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage"))
            .map(|(name, amount)| (name.clone(), amount.clone()))
            .collect();
        if !own.is_empty() {
            resources.insert(key.to_owned(), Value::Object(own));
        }
    }
    Value::Object(resources)
}

/// What the restricted level demands, and otherwise what the pod's own container or the pod itself
/// runs as.
fn security(pod: &Value, model: Option<&Value>) -> Value {
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
    });
    let own = |key: &str| model.and_then(|model| model.get("securityContext")?.get(key));
    let of_pod = |key: &str| pod.pointer(&format!("/spec/securityContext/{key}"));
    let somebody = |id: &&Value| id.as_i64().is_some_and(|id| id > 0);
    for key in ["runAsUser", "runAsGroup"] {
        let id = own(key).or_else(|| of_pod(key)).filter(somebody);
        security[key] = id.cloned().unwrap_or_else(|| json!(GATE_USER));
    }
    for key in ["seLinuxOptions", "appArmorProfile"] {
        if let Some(value) = own(key) {
            security[key] = value.clone();
        }
    }
    let confined = |profile: &&Value| text(profile, "/type") != Some("Unconfined");
    let profile = own("seccompProfile").or_else(|| of_pod("seccompProfile"));
    security["seccompProfile"] = profile
        .filter(confined)
        .cloned()
        .unwrap_or_else(|| json!({ "type": "RuntimeDefault" }));
    security
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

/// Changes a controller so that it makes no pods, on behalf of the restore with this uid.
pub(crate) fn hold(resource: &str, object: &mut Value, restore_uid: &str) -> Hold {
    let held = stop(resource, object);
    if matches!(held, Hold::NoReplicas(_) | Hold::Suspended) {
        mark(object, annotation::HELD_BY, restore_uid);
    }
    held
}

fn stop(resource: &str, object: &mut Value) -> Hold {
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
            mark(object, annotation::WANTED_REPLICAS, &replicas.to_string());
            Hold::NoReplicas(replicas)
        }
        None => Hold::Impossible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gated(pod: Value, refuse: Option<&str>) -> Value {
        let mut pod = pod;
        let volumes = ["data".to_owned(), "logs".to_owned()];
        let wait = Wait {
            volumes: &volumes,
            deadline_seconds: 60,
            refuse,
        };
        insert(&mut pod, wait, "ark-agent:1").unwrap();
        pod
    }

    #[test]
    fn the_gate_is_first_and_waits_for_files_and_words() {
        let pod = gated(
            json!({"spec": {"initContainers": [{"name": "first"}], "containers": [{}], "volumes": [{"name": "data"}]}}),
            None,
        );
        let gate = &pod["spec"]["initContainers"][0];
        assert_eq!(gate["name"], "ark-restore-wait");
        let command = json!([
            "/ark-restore-wait",
            "--volumes",
            "data,logs",
            "--deadline-seconds",
            "60",
            "--dir",
            "/ark-restore-gate",
            "--told",
            "/ark-restore-told/gave-up"
        ]);
        assert_eq!(gate["command"], command);
        assert_eq!(
            gate["securityContext"]["capabilities"],
            json!({"drop": ["ALL"]})
        );
        assert_eq!(pod["spec"]["initContainers"][1]["name"], "first");
        assert_eq!(pod["spec"]["volumes"][1]["name"], "ark-restore-gate");
        let told = &pod["spec"]["volumes"][2]["downwardAPI"]["items"][0];
        assert_eq!(told["path"], "gave-up");
        assert_eq!(
            told["fieldRef"]["fieldPath"],
            "metadata.annotations['restore.ark.heptio.com/gave-up']"
        );
        // It mounts nothing of the application.
        assert_eq!(gate["volumeMounts"].as_array().unwrap().len(), 2);

        let refusing = gated(json!({"spec": {"containers": [{}]}}), Some("no data of x"));
        let gate = &refusing["spec"]["initContainers"][0];
        assert_eq!(gate["command"][9], "--refuse");
        assert_eq!(gate["command"][10], "no data of x");
        let windows = &mut json!({"spec": {"os": {"name": "windows"}, "containers": [{}]}});
        let wait = Wait {
            volumes: &[],
            deadline_seconds: 1,
            refuse: None,
        };
        assert!(insert(windows, wait, "i").is_err());
    }

    #[test]
    fn the_gate_asks_for_what_a_container_of_the_pod_has() {
        let guaranteed = json!({"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"}});
        let larger = json!({"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi", "ephemeral-storage": "1Gi",
            "nvidia.com/gpu": 1, "hugepages-2Mi": "4Mi"}});
        for (containers, wanted) in [
            (json!([{"resources": guaranteed}]), guaranteed.clone()),
            // As much memory as there is, and nothing a gate cannot use.
            (
                json!([{"resources": guaranteed}, {"resources": larger}]),
                json!({"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi", "ephemeral-storage": "1Gi"}}),
            ),
            // Best effort stays best effort, and a pod's own limits are not exceeded.
            (json!([{}]), json!(null)),
            (
                json!([{"resources": guaranteed}, {"resources": {}}]),
                json!(null),
            ),
        ] {
            let pod = gated(json!({"spec": {"containers": containers}}), None);
            assert_eq!(pod["spec"]["initContainers"][0]["resources"], wanted);
        }
        assert!(quantity("1G") < quantity("1Gi") && quantity("900M") < quantity("1e9"));
        assert!((quantity("500m") - 0.5).abs() < f64::EPSILON && quantity("x") == 0.0);
    }

    #[test]
    fn the_gate_runs_as_the_pod_was_admitted() {
        let security = |of_pod: Value, own: Value| {
            let pod = json!({"spec": {"securityContext": of_pod, "containers": [{"securityContext": own}]}});
            gated(pod, None)["spec"]["initContainers"][0]["securityContext"].clone()
        };
        let plain = security(json!({}), json!({}));
        assert_eq!(
            (&plain["runAsUser"], &plain["runAsNonRoot"]),
            (&json!(65532), &json!(true))
        );
        assert_eq!(plain["seccompProfile"], json!({"type": "RuntimeDefault"}));
        let pods = security(json!({"runAsUser": 1000, "runAsGroup": 0}), json!({}));
        assert_eq!(
            (&pods["runAsUser"], &pods["runAsGroup"]),
            (&json!(1000), &json!(65532))
        );
        let profile = json!({"type": "Localhost", "localhostProfile": "p.json"});
        let own = security(
            json!({"runAsUser": 1000, "seccompProfile": {"type": "Unconfined"}}),
            json!({"runAsUser": 2000, "seccompProfile": profile, "seLinuxOptions": {"level": "s0"},
                "privileged": true, "readOnlyRootFilesystem": false}),
        );
        assert_eq!(own["runAsUser"], 2000);
        assert_eq!(own["seccompProfile"], profile);
        assert_eq!(own["seLinuxOptions"], json!({"level": "s0"}));
        assert_eq!(
            (&own["privileged"], &own["readOnlyRootFilesystem"]),
            (&json!(false), &json!(true))
        );
        // Root is not for a gate.
        assert_eq!(
            security(json!({}), json!({"runAsUser": 0}))["runAsUser"],
            65532
        );
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
            let held = hold(resource, &mut object, "uid-1");
            assert_eq!(held, wanted, "{resource}");
            let marked = object["metadata"]["annotations"][annotation::HELD_BY] == "uid-1";
            assert_eq!(
                marked,
                matches!(held, Hold::NoReplicas(_) | Hold::Suspended)
            );
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
