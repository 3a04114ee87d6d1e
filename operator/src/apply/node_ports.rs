//! Node ports that another Service has. Pure.

use serde_json::{Map, Value};

use super::transform::list;

/// The port for which a Service was refused because another Service has it.
pub(super) fn taken(error: &kube::Error) -> Option<u64> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    // `spec.ports[0].nodePort: Invalid value: 30777: provided port is already allocated`
    let (before, _) = status
        .message
        .split_once(": provided port is already allocated")?;
    let (before, value) = before.rsplit_once("Invalid value: ")?;
    let is_port = ["nodePort: ", "healthCheckNodePort: "]
        .iter()
        .any(|field| before.ends_with(field));
    is_port.then(|| value.parse().ok()).flatten()
}

/// Has the cluster choose another port; false if the Service does not have `port`.
pub(super) fn give_up(service: &mut Value, port: u64) -> bool {
    let mut found = false;
    let mut drop_from = |map: Option<&mut Map<String, Value>>, key: &str| {
        if let Some(map) = map
            && map.get(key).and_then(Value::as_u64) == Some(port)
        {
            map.shift_remove(key);
            found = true;
        }
    };
    let Some(spec) = service.get_mut("spec") else {
        return false;
    };
    drop_from(spec.as_object_mut(), "healthCheckNodePort");
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for entry in ports.into_iter().flatten() {
        drop_from(entry.as_object_mut(), "nodePort");
    }
    found
}

/// What became of ports that were given up.
pub(super) fn tell(given_up: &[u64], service: &Value) -> String {
    let words = |ports: &[u64]| {
        let texts: Vec<String> = ports.iter().map(u64::to_string).collect();
        texts.join(", ")
    };
    let now: Vec<u64> = list(service, "/spec/ports")
        .iter()
        .filter_map(|port| port.get("nodePort")?.as_u64())
        .collect();
    format!(
        "another Service has its node port {}; its node ports are now {}",
        words(given_up),
        words(&now)
    )
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_taken_port_is_given_up() {
        let error = |message: &str| {
            kube::Error::Api(Box::new(Status::failure(message, "Invalid").with_code(422)))
        };
        let refused = error(
            "Service \"np\" is invalid: spec.ports[0].nodePort: Invalid value: 30777: provided port is already allocated",
        );
        assert_eq!(taken(&refused), Some(30777));
        for other in [
            "spec.clusterIPs: Invalid value: []string{\"10.0.0.1\"}: provided IP is already allocated",
            "spec.ports[0].nodePort: Invalid value: 1: provided port is not in the valid range",
        ] {
            assert_eq!(taken(&error(other)), None);
        }
        let mut service = json!({"spec": {"healthCheckNodePort": 30778, "ports": [
            {"port": 80, "nodePort": 30777}, {"port": 81, "nodePort": 30779}]}});
        assert!(give_up(&mut service, 30777));
        assert!(!give_up(&mut service, 30777));
        assert!(give_up(&mut service, 30778));
        assert_eq!(
            service,
            json!({"spec": {"ports": [{"port": 80}, {"port": 81, "nodePort": 30779}]}})
        );
        assert_eq!(
            tell(&[30777], &service),
            "another Service has its node port 30777; its node ports are now 30779"
        );
    }
}
