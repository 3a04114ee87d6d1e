//! Who owns a pod's volumes: a name that stays the same when the pod is replaced, so that the next
//! backup of the same volume finds its parent.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// Shortest run of digits a CronJob puts behind the names of its Jobs (minutes since 1970).
const CRON_DIGITS: usize = 8;

/// `deployment/nginx`, `statefulset/db-0` (every replica has data of its own), `daemonset/log@node`,
/// `job/x`, `cronjob/nightly`, else `<kind>/<name>` of the controller, else `pod/<name>`.
pub(crate) fn of(pod: &Pod) -> String {
    let name = pod.name_any();
    let controller = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    let Some(controller) = controller else {
        return format!("pod/{name}");
    };
    match controller.kind.as_str() {
        "ReplicaSet" => {
            let stem = pod
                .labels()
                .get("pod-template-hash")
                .and_then(|hash| controller.name.strip_suffix(hash.as_str()))
                .and_then(|stem| stem.strip_suffix('-'));
            match stem {
                Some(stem) => format!("deployment/{stem}"),
                None => format!("replicaset/{}", controller.name),
            }
        }
        "StatefulSet" => format!("statefulset/{name}"),
        "DaemonSet" => {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            format!("daemonset/{}@{}", controller.name, node.unwrap_or_default())
        }
        "Job" => match controller.name.rsplit_once('-') {
            Some((stem, digits))
                if digits.len() >= CRON_DIGITS && digits.bytes().all(|b| b.is_ascii_digit()) =>
            {
                format!("cronjob/{stem}")
            }
            _ => format!("job/{}", controller.name),
        },
        other => format!("{}/{}", other.to_ascii_lowercase(), controller.name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned_by(kind: &str, name: &str) -> String {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "pod-1",
                "labels": {"pod-template-hash": "5d4f"},
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": true,
                }],
            },
            "spec": {"nodeName": "n1", "containers": []},
        }))
        .unwrap();
        of(&pod)
    }

    #[test]
    fn names_outlive_the_pod() {
        assert_eq!(owned_by("ReplicaSet", "web-app-5d4f"), "deployment/web-app");
        assert_eq!(owned_by("ReplicaSet", "lonely"), "replicaset/lonely");
        assert_eq!(owned_by("StatefulSet", "db"), "statefulset/pod-1");
        assert_eq!(owned_by("DaemonSet", "log"), "daemonset/log@n1");
        assert_eq!(owned_by("Job", "nightly-29012345"), "cronjob/nightly");
        assert_eq!(owned_by("Job", "import-2"), "job/import-2");
        assert_eq!(owned_by("CloneSet", "x"), "cloneset/x");
        assert_eq!(of(&Pod::default()), "pod/");
    }
}
