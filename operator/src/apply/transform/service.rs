//! Services and endpoints: addresses and ports the cluster chose are chosen again.

use serde_json::Value;

use super::{list, remove, text};

const LAST_APPLIED: &str =
    "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

pub(super) fn strip(service: &mut Value, preserve_node_ports: bool) {
    if text(service, "/spec/clusterIP") != Some("None") {
        remove(service, "/spec", &["clusterIP", "clusterIPs"]);
    }
    if preserve_node_ports {
        return;
    }
    let wanted = UserPorts::of(service);
    if !wanted.health_check {
        remove(service, "/spec", &["healthCheckNodePort"]);
    }
    if let Some(ports) = service
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut)
    {
        for port in ports {
            if !wanted.names(port)
                && let Some(port) = port.as_object_mut()
            {
                port.shift_remove("nodePort");
            }
        }
    }
}

/// Node ports that the user wrote, not the cluster.
#[derive(Default)]
struct UserPorts {
    /// Port number and protocol of ports with a node port.
    ports: Vec<(u64, String)>,
    health_check: bool,
}

impl UserPorts {
    fn of(service: &Value) -> Self {
        let applied =
            text(service, LAST_APPLIED).and_then(|text| serde_json::from_str::<Value>(text).ok());
        match applied {
            Some(applied) => Self::in_spec(&applied),
            None => Self::in_managed_fields(service),
        }
    }

    fn in_spec(service: &Value) -> Self {
        Self {
            ports: list(service, "/spec/ports")
                .iter()
                .filter(|port| number(port, "nodePort") > 0)
                .map(|port| (number(port, "port"), protocol(port)))
                .collect(),
            health_check: service
                .pointer("/spec/healthCheckNodePort")
                .and_then(Value::as_u64)
                .is_some_and(|port| port > 0),
        }
    }

    fn in_managed_fields(service: &Value) -> Self {
        let mut found = Self::default();
        for entry in list(service, "/metadata/managedFields") {
            found.health_check |= entry
                .pointer("/fieldsV1/f:spec/f:healthCheckNodePort")
                .is_some();
            let Some(ports) = entry
                .pointer("/fieldsV1/f:spec/f:ports")
                .and_then(Value::as_object)
            else {
                continue;
            };
            for (key, fields) in ports {
                if fields.get("f:nodePort").is_none() {
                    continue;
                }
                // `k:{"port":80,"protocol":"TCP"}`
                if let Some(key) = key.strip_prefix("k:")
                    && let Ok(port) = serde_json::from_str::<Value>(key)
                {
                    found.ports.push((number(&port, "port"), protocol(&port)));
                }
            }
        }
        found
    }

    fn names(&self, port: &Value) -> bool {
        let key = (number(port, "port"), protocol(port));
        self.ports.contains(&key)
    }
}

fn number(port: &Value, key: &str) -> u64 {
    port.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn protocol(port: &Value) -> String {
    text(port, "/protocol").unwrap_or("TCP").to_owned()
}

/// The cluster's controllers that make slices; another manager may be the only one who knows its
/// addresses.
const SLICE_CONTROLLERS: &[&str] = &[
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
];

/// Endpoints that a controller derives from a Service and its pods hold addresses of pods that are
/// gone; those that somebody wrote by hand are restored.
pub(super) fn skip_endpoints(object: &Value) -> Option<&'static str> {
    let managed_slice = text(
        object,
        "/metadata/labels/endpointslice.kubernetes.io~1managed-by",
    )
    .is_some_and(|by| SLICE_CONTROLLERS.contains(&by));
    let managed = text(
        object,
        "/metadata/labels/endpoints.kubernetes.io~1managed-by",
    )
    .is_some()
        || text(
            object,
            "/metadata/annotations/endpoints.kubernetes.io~1last-change-trigger-time",
        )
        .is_some();
    (managed_slice || managed).then_some("the cluster makes it from its Service and pods")
}
