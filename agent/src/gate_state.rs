//! Where the gate of a restored pod stands. Pure.

use ark_api::naming;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::error::{Error, Result};
use crate::volume;

/// Where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The pod's volumes are mounted, and no application uses them.
    Stands,
    /// It has not started; why not.
    NotYet(String),
}

/// Where the gate of a pod stands.
///
/// It has started when its container runs, or ran and failed: the kubelet keeps the volumes mounted
/// and starts it again. When it ended well, or was never there, the application may be running.
pub(crate) fn gate_state(pod: &Pod) -> Result<Gate> {
    let name = volume::display_name(pod);
    let open = |message: &str| Error::GateOpen {
        pod: name.clone(),
        message: message.to_owned(),
    };
    let containers = pod.spec.as_ref().and_then(|s| s.init_containers.as_deref());
    let has_gate = containers
        .unwrap_or_default()
        .iter()
        .any(|c| c.name == naming::GATE_CONTAINER);
    if !has_gate {
        return Err(open("it has no gate, so its volumes may be in use"));
    }
    let status = pod.status.as_ref();
    match status.and_then(|s| s.phase.as_deref()) {
        Some(phase @ ("Failed" | "Succeeded")) => {
            return Err(open(&format!(
                "it ended ({phase}) before its volume was restored"
            )));
        }
        Some("Running") => return Err(open("it is past its gate, so its volumes may be in use")),
        _ => {}
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(open("it is being deleted"));
    }
    let gate = status
        .and_then(|s| s.init_container_statuses.as_deref())
        .unwrap_or_default()
        .iter()
        .find(|c| c.name == naming::GATE_CONTAINER);
    let Some(gate) = gate else {
        return Ok(Gate::NotYet(format!(
            "the gate of pod {name} has not started"
        )));
    };
    if exit_codes(gate).any(|code| code == 0) {
        return Err(open("it is past its gate, so its volumes may be in use"));
    }
    let state = gate.state.as_ref();
    let runs = state.is_some_and(|s| s.running.is_some());
    if runs || exit_codes(gate).next().is_some() {
        return Ok(Gate::Stands);
    }
    let waiting = state.and_then(|s| s.waiting.as_ref());
    let why = waiting.map(|w| {
        let reason = w.reason.as_deref().unwrap_or("waiting");
        match w.message.as_deref().filter(|m| !m.is_empty()) {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        }
    });
    Ok(Gate::NotYet(format!(
        "the gate of pod {name} has not started ({})",
        why.as_deref().unwrap_or("no reason given")
    )))
}

/// Exit codes of the container's present and last run, if they ended.
fn exit_codes(container: &ContainerStatus) -> impl Iterator<Item = i32> {
    [&container.state, &container.last_state]
        .into_iter()
        .filter_map(|state| Some(state.as_ref()?.terminated.as_ref()?.exit_code))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(phase: &str, gate: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"containers": [], "initContainers": [{"name": "ark-restore-wait"}]},
            "status": {"phase": phase, "initContainerStatuses": gate},
        }))
        .unwrap()
    }

    fn status(state: &Value, last: &Value) -> Value {
        json!([{
            "name": "ark-restore-wait", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": state, "lastState": last,
        }])
    }

    fn ended(code: i32) -> Value {
        json!({"terminated": {"exitCode": code}})
    }

    #[test]
    fn a_started_gate_stands() {
        let none = json!({});
        let running = status(&json!({"running": {}}), &none);
        assert_eq!(gate_state(&pod("Pending", &running)).unwrap(), Gate::Stands);
        let failed = status(&ended(1), &none);
        assert_eq!(gate_state(&pod("Pending", &failed)).unwrap(), Gate::Stands);
        let back_off = status(
            &json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            &ended(1),
        );
        assert_eq!(
            gate_state(&pod("Pending", &back_off)).unwrap(),
            Gate::Stands
        );
    }

    #[test]
    fn what_is_waited_for_is_told() {
        let waiting =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        let state = gate_state(&pod("Pending", &status(&waiting, &json!({})))).unwrap();
        let Gate::NotYet(why) = state else {
            panic!("{state:?}");
        };
        assert!(why.contains("ImagePullBackOff: no such image"), "{why}");
        let state = gate_state(&pod("Pending", &json!([]))).unwrap();
        assert!(matches!(state, Gate::NotYet(_)));
    }

    #[test]
    fn nothing_is_restored_under_an_application() {
        let none = json!({});
        for (phase, gate) in [
            ("Pending", status(&ended(0), &none)),
            ("Running", status(&ended(0), &none)),
            ("Running", json!([])),
            ("Failed", status(&ended(1), &none)),
        ] {
            let error = gate_state(&pod(phase, &gate)).unwrap_err();
            assert_eq!(error.reason(), "GateOpen", "{phase} {gate}");
        }
        let mut gateless = pod("Pending", &json!([]));
        if let Some(spec) = &mut gateless.spec {
            spec.init_containers = None;
        }
        assert_eq!(gate_state(&gateless).unwrap_err().reason(), "GateOpen");
    }
}
